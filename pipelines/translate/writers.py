"""Rows written back in the form of each kind of file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from eval.answer_files import to_line
from features.annotations import SOURCE_ROW

Rows = Mapping[int, Mapping[str, Any]]
"""Records by their row number, in the order of the file."""


def json_text(rows: Rows) -> str:
    """A JSON list, whose rows say which they were where some were left out."""
    return _pairs_text(_numbered(rows))


def _pairs_text(rows: Rows) -> str:
    """The same with ids of its own."""
    return json.dumps(list(rows.values()), ensure_ascii=False, indent=1) + "\n"


def _jsonl_text(rows: Rows) -> str:
    """An object a line; lines that were blank stay, for ids can be made of line numbers."""
    lines = [""] * max(rows, default=0)
    for number, record in rows.items():
        lines[number - 1] = json.dumps(record, ensure_ascii=False)
    return "\n".join(lines) + "\n"


def _predictions_text(rows: Rows) -> str:
    return "".join(to_line(record) for record in rows.values())


def _tsv_text(rows: Rows) -> str:
    rows, text = _numbered(rows), io.StringIO()
    columns = list(next(iter(rows.values()), {}))
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue()


def _numbered(rows: Rows) -> Rows:
    """With the number of each row, unless they are all there: ids are made of it."""
    if list(rows) == list(range(len(rows))):
        return rows
    return {number: {**record, SOURCE_ROW: number} for number, record in rows.items()}


WRITERS = {"jsonl": _jsonl_text, "predictions": _predictions_text, "tgif": _tsv_text}
WRITERS |= {"qa-pairs": _pairs_text}
