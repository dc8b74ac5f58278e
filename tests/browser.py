"""What a page in a browser asked for, complained about and opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from playwright.sync_api import Dialog, Page


@dataclass
class Seen:
    """What a page asked for, complained about and opened."""

    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Console errors and warnings, page errors, requests that failed."""
    dialogs: list[str] = field(default_factory=list)


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


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2) of a CSS rgb() colour."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Of two colours (WCAG 2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
