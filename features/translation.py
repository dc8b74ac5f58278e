"""How texts came into another language: recorded beside the file and with every score of it.

The paper evaluates in Chinese in two directions: annotations translated to Chinese (`en-zh`) and
judged there, or Chinese predictions translated to English (`zh-en`) and judged there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from features.durable import replace_json
from features.errors import AnnotationError
from features.spec import SCHEMA_VERSION, check_schema

Language = Literal["en", "zh"]
Direction = Literal["en-zh", "zh-en"]


@dataclass(frozen=True)
class Translation:
    """What was translated, which way, and by whom."""

    what: Literal["annotations", "predictions"]
    direction: Direction
    engine: str
    """Who translated, as tables say it: `deepl`, or a model with its digest."""
    digest: str
    """sha256 of everything about the translator that can change its texts."""
    lines: int
    """Texts of the file that were to be translated, without those of rows that were left out after
    a review."""
    reviewed: int = 0
    """Of these, accepted or edited by a person."""
    failed: int = 0
    """Left without a translation."""

    @property
    def label(self) -> str:
        """Name for column heads: `annotations en-zh by deepl, 20 of 300 reviewed`."""
        told = f"{self.what} {self.direction} by {self.engine}"
        return f"{told}, {self.reviewed:,} of {self.lines:,} reviewed" if self.reviewed else told


def translation_path(path: Path) -> Path:
    """Where the record of a translated file lies: beside it."""
    return path.with_name(f"{path.name}.translation.json")


def write_translation(path: Path, record: Translation) -> None:
    """Write the record of a translated file."""
    told = {"schema": SCHEMA_VERSION, **asdict(record)}
    replace_json(translation_path(path), told, "translation")


def read_translation(path: Path) -> Translation | None:
    """The record of a file, None where it was not translated.

    Raises:
        AnnotationError: the record is damaged.
    """
    where = translation_path(path)
    try:
        told = json.loads(where.read_text(encoding="utf-8"))
        check_schema(told, where)
        return Translation(**{name: value for name, value in told.items() if name != "schema"})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        do = "translate the file again"
        raise AnnotationError("cannot read", where=where, got=error, do=do) from error
