"""Every text of a translated file with what became of it: `<file>.lines.jsonl`.

The translator writes it, checks and reviewers work on it, and the final file is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from features.durable import replace_file
from features.errors import RedVillmError

Status = Literal["machine", "failed", "accepted", "edited", "rejected"]
"""`failed`: no translation; the last three are a person's word. A rejected line is in no file."""


@dataclass(frozen=True)
class Line:
    """One text, its translation and its provenance."""

    id: str
    """`<row>/<field>`, unique within the file: row as in the file, field as in the file's form."""
    row: int
    field: str
    """`question`, `question2`, `answer`, `pred` or `pred2`."""
    source: str
    """The text as it was."""
    context: str
    """The question of an answer or prediction; empty for a question."""
    target: str | None
    """The text as it is now; None where there is no translation."""
    status: Status
    engine: str = ""
    """Who translated: the label of the translator."""
    key: str = ""
    """Of the translator's cache."""
    error: str = ""
    """Why there is no translation."""
    machine: str | None = None
    """What the machine said, where a person edited it."""
    reviewer: str = ""
    reviewed: str = ""
    """When, ISO 8601 in UTC."""


def lines_path(path: Path) -> Path:
    """Where the lines of a translated file lie: beside it."""
    return path.with_name(f"{path.name}.lines.jsonl")


def beside(lines: Path, ending: str) -> Path:
    """`<file>.<ending>` of `<file>.lines.jsonl`, or the file itself.

    Raises:
        RedVillmError: not a file of lines.
    """
    name = lines.name.removesuffix(".lines.jsonl")
    if name == lines.name:
        raise RedVillmError("not a file of lines", where=lines, wanted="<file>.lines.jsonl")
    return lines.with_name(f"{name}.{ending}" if ending else name)


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write all lines at once: the file appears whole or not at all."""
    text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    replace_file(path, text.encode(errors="backslashreplace"), "lines")


def read_lines(path: Path) -> list[Line]:
    """Read lines back, in the order of the file.

    Raises:
        RedVillmError: missing or damaged, or an id repeats.
    """
    found: dict[str, Line] = {}
    try:
        for number, text in enumerate(path.read_bytes().splitlines(), start=1):
            line = Line(**json.loads(text))
            if found.setdefault(line.id, line) is not line:
                raise ValueError(f"line {number}: {line.id} is there twice")
    except (OSError, ValueError, TypeError) as error:
        do = "translate the file (again): what was translated is not paid for twice"
        raise RedVillmError("cannot read lines", where=path, got=error, do=do) from error
    return list(found.values())
