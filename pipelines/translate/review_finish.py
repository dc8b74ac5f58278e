"""The final file: what people and the machine say, in the very form of the file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from features.errors import RedVillmError, few
from features.translation import Translation, read_translation, write_translation
from pipelines.translate.files import Document
from pipelines.translate.lines import Line

MISSING = ("failed", "rejected")


@dataclass(frozen=True)
class Finished:
    """What a final file came to."""

    record: Translation
    rows: int
    """Rows of the source."""
    left_out: int
    """Of these, without a text that may be used."""


def finish(
    document: Document,
    lines: Sequence[Line],
    out: Path,
    out_answers: Path | None = None,
    failed: Literal["drop", "refuse"] = "drop",
) -> Finished:
    """Write the final file and bring its record up to date.

    Rows of VideoInstruct get `provenance`, an object a text; readers ignore what they do not know.

    Args:
        document: the source.
        lines: of its translation.
        out: the file to write.
        out_answers: of `qa-pairs` the file for the answers.
        failed: what to do about lines that failed or were rejected: leave their rows out, or stop.

    Raises:
        RedVillmError: the lines are not of this source, or some may not be used and `failed` is
            refuse, or there is no record.
    """
    _require_same(document, lines)
    record = read_translation(out)
    if record is None:
        raise RedVillmError("no record of a translation", where=out, do="translate the file")
    missing = [line for line in lines if line.status in MISSING]
    if missing and failed == "refuse":
        got = few([f"{line.id} ({line.status})" for line in missing])
        raise RedVillmError("lines without a text", where=out, got=got, do="review them, or drop")
    targets = {line.id: line.target for line in lines if line.status not in MISSING and line.target}
    without = {line.row for line in lines if line.id not in targets}
    provenance: dict[int, dict[str, Any]] = {}
    for line in lines if document.form == "videoinstruct" else ():
        provenance.setdefault(line.row, {})[line.field] = _provenance(line)
    document.write(targets, out, out_answers, without, provenance)
    kept = [line for line in lines if line.row not in without]
    reviewed = sum(line.status in ("accepted", "edited") for line in kept)
    failed_count = sum(line.status == "failed" for line in lines)
    record = replace(record, lines=len(kept), reviewed=reviewed, failed=failed_count)
    write_translation(out, record)
    return Finished(record, len({text.row for text in document.texts}), len(without))


def _require_same(document: Document, lines: Sequence[Line]) -> None:
    ours = {line.id: line.source for line in lines}
    theirs = {text.id: text.source for text in document.texts}
    if ours != theirs:
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        do = "name the file that was translated, as it was then"
        where = document.paths[0]
        raise RedVillmError("lines of another source", where=where, got=few(names), do=do)


def _provenance(line: Line) -> dict[str, str]:
    told = {"source": line.source, "engine": line.engine, "status": line.status}
    if line.reviewer:
        told |= {"reviewer": line.reviewer, "reviewed": line.reviewed}
    return told if line.machine is None else {**told, "machine": line.machine}
