"""In which direction texts were translated before they were judged: said with every score.

The paper evaluates its Chinese model on two routes (section 4.2). Either the benchmark's
annotations are translated to Chinese, and answers are judged in Chinese; or the model's Chinese
answers are translated to English, and judged in English against the original references. Answers
of the second route lie in an evaluation folder of their own, `<split>.zh-en`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, get_args

from features.config import SplitConfig
from features.translation import Direction, Translation, read_translation

Meta = Mapping[str, Any]
"""What predictions.meta.json holds."""


def annotation_translations(split: SplitConfig) -> list[dict[str, Any]]:
    """How a split's questions and answers were translated, for predictions.meta.json.

    Raises:
        AnnotationError: a record of it is damaged.
    """
    found = [read_translation(path) for path in (split.questions, split.answers) if path]
    return [asdict(record) for record in found if record]


def translations_of(meta: Meta) -> list[Translation]:
    """Everything that was translated on the way to these answers, in that order."""
    return [Translation(**record) for record in meta.get("translations", ())]


def route_of(meta: Meta) -> str:
    """`zh-en` where the answers themselves were translated; empty otherwise."""
    return next((t.direction for t in translations_of(meta) if t.what == "predictions"), "")


def split_name(meta: Meta) -> str:
    """`test`, or `test.zh-en`: how folders and reports call what was answered."""
    return translated_split(meta["split"], route_of(meta))


def translated_split(split: str, route: str) -> str:
    """Name of a split whose answers went a route."""
    return f"{split}.{route}" if route else split


def original_split(name: str) -> str:
    """`test` of `test.zh-en`, and of `test`."""
    split, _, route = name.rpartition(".")
    return split if route in get_args(Direction) else name


def translations_label(metas: Iterable[Meta]) -> str:
    """`annotations en-zh by deepl, 20 of 300 reviewed`; empty where nothing was translated.

    What one engine did in one direction is told once: files of one split add up.
    """
    told: dict[tuple[str, str, str], Translation] = {}
    for record in dict.fromkeys(one for meta in metas for one in translations_of(meta)):
        key = record.what, record.direction, record.engine
        if key in told:
            lines, reviewed = told[key].lines + record.lines, told[key].reviewed + record.reviewed
            record = replace(record, lines=lines, reviewed=reviewed)
        told[key] = record
    return "; ".join(record.label for record in told.values())
