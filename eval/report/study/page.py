"""The study's page: one file, made from the record alone, without a script.

The page's own policy (Content-Security-Policy) forbids every request and script, and names the hash
of its only style sheet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.overlap import CHINESE
from eval.report.page import PAGE, policy_hash
from eval.report.published import (
    ASPECTS,
    ONE_RUN,
    PRINTED_FACTORS,
    PRINTED_NOTES,
    printed_tables,
)
from eval.report.study import pictures, view
from eval.report.study.markdown import write_study_markdown
from features.durable import replace_file

TEMPLATES = Path(__file__).parent / "templates"


def write_study_page(record: Mapping[str, Any], out: Path) -> Path:
    """Write `out/report.html` and, with the same tables, `out/report.md`; returns the page.

    Args:
        record: what results.json holds; nothing else is read.
        out: folder, made if need be.

    Raises:
        RedVillmError: the record has another schema.
    """
    view.check_record(record)
    numbers = view.Numbers(record["kind"] == "five")
    html = render(
        "study.html",
        policy="",
        record=record,
        numbers=numbers,
        pictures=pictures.Pictures(record, numbers),
        printed=printed_tables(),
        printed_heads=PRINTED_FACTORS,
        printed_notes=PRINTED_NOTES,
        aspects=ASPECTS,
        one_run=ONE_RUN,
    )
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "report.html", html, "report")
    markdown = write_study_markdown(record).encode(errors="replace")
    replace_file(out / "report.md", markdown, "report")
    return out / "report.html"


def render(template: str, policy: str, **values: Any) -> bytes:
    """A page of this package: everything that is not markup of its own is escaped.

    Args:
        template: name of the file.
        policy: what the page may load beyond its own pictures, as directives.
        values: for the template.
    """
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheets = PAGE / "report.css", TEMPLATES / "study.css"
    environment.filters["lang"] = _lang
    style = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    text = environment.get_template(template).render(
        style=Markup(style),
        source=Markup(policy_hash(style)),
        policy=Markup(policy),
        view=view,
        **values,
    )
    # Half a character, which UTF-8 cannot say, stands as a question mark.
    return text.encode(errors="replace")


def _lang(text: str) -> Markup:
    """An element's attribute where its text is Chinese, as the report's page says it."""
    chinese = len(re.findall(rf"[{CHINESE}]", text)) > len(re.findall("[A-Za-z]+", text))
    return Markup(' lang="zh-Hans"' if chinese and not re.search("[\u3040-\u30ff]", text) else "")
