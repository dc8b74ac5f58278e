"""A real headless Chromium, and a record of everything that a page did in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Dialog, Page, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-quic"),
)
"""Nothing of the browser's own may ask the network for anything."""


@dataclass
class Seen:
    """What a page asked for, complained about and opened."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Console errors and warnings, page errors, requests that failed."""
    dialogs: list[str] = field(default_factory=list)


def find_chromium(playwright: Playwright) -> str:
    """The browser: CHROMIUM, one on the PATH, or playwright's own.

    Raises:
        RuntimeError: there is none; a missing browser fails tests, and never skips them.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    found = found or playwright.chromium.executable_path
    if not Path(found).exists():
        raise RuntimeError(
            f"no Chromium: neither CHROMIUM nor any of {', '.join(NAMES)} on the PATH nor {found}; "
            "install one (apt-get install chromium, or .venv/bin/playwright install chromium)"
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


def watch(page: Page) -> Seen:
    """Record from now on what the page does."""
    seen = Seen()

    def on_dialog(dialog: Dialog) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("requestfailed", lambda request: seen.problems.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: seen.problems.append(f"page error: {error}"))
    page.on(
        "console",
        lambda message: (
            seen.problems.append(f"{message.type}: {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on("dialog", on_dialog)
    return seen
