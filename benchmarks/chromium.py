"""A headless Chromium for what looks at the report's page; as a program, says where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-quic"),
)
"""Nothing of the browser's own may ask the network for anything."""


def find_chromium(playwright: Playwright) -> str:
    """The browser: CHROMIUM, one on the PATH, or playwright's own.

    Raises:
        SystemExit: there is none; whoever needs a browser fails without one, and never skips.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    found = found or playwright.chromium.executable_path
    if not Path(found).exists():
        raise SystemExit(
            f"no Chromium: neither CHROMIUM nor any of {', '.join(NAMES)} on the PATH nor {found}; "
            "install one: apt-get install chromium, or .venv/bin/playwright install chromium"
        )
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET])
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":
    with sync_playwright() as found:
        print(find_chromium(found))
