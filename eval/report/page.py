"""The files of the page: a folder that loads its data lazily, or one file that holds everything.

The page makes no request outside its folder: its own policy (Content-Security-Policy) forbids it,
forbids inline scripts, and lets no text become markup. In the one file the policy names the hash of
the page's only script; the data stand in blocks of JSON, which are no scripts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from features.durable import replace_file

PAGE = Path(__file__).parent / "page"
SCRIPTS = (
    *("dom", "shards", "runs", "charts", "grouped", "curves", "published", "results", "sections"),
    *("index", "state", "detail", "filters", "list", "samples", "main"),
)
"""The parts of report.js in page/js, in order."""
_STYLE_TAG = '<link rel="stylesheet" href="report.css">'
_SCRIPT_TAG = '<script src="report.js"></script>'


def write_page(folder: Path) -> None:
    """Write index.html, report.css and report.js into `folder`, beside its data/."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "report.css", _style().encode(), "report")
    replace_file(folder / "report.js", _script().encode(), "report")
    replace_file(folder / "index.html", _html().encode(), "report")


def single_page(calls: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The pieces of one HTML file that needs no other.

    Args:
        calls: name and value of each data file; the value is JSON in which `<`, `>` and `&`
            are escaped, so that it cannot end its element.
    """
    style, script = _style(), _script()
    html = _html().replace("script-src 'self' file:", f"script-src '{policy_hash(script)}'")
    html = html.replace("style-src 'self' file:", f"style-src '{policy_hash(style)}'")
    before, after = html.replace(_STYLE_TAG, f"<style>{style}</style>").split(_SCRIPT_TAG)
    yield before
    for name, value in calls:
        yield f'<script type="application/json" id="data-{escape(name)}">{value}</script>\n'
    yield f"<script>{script}</script>{after}"


def _html() -> str:
    return (PAGE / "index.html").read_text(encoding="utf-8")


def _style() -> str:
    return (PAGE / "report.css").read_text(encoding="utf-8")


def _script() -> str:
    """All parts in one function, so that nothing but the data's call is global."""
    parts = ((PAGE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"


def policy_hash(text: str) -> str:
    """As a policy names an inline element by its contents."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
