"""Translations that are there already: they are taken word for word and cost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from features.durable import file_sha256
from features.errors import AnnotationError
from features.translation import Direction, read_translation
from pipelines.translate.files import Text, read_document
from pipelines.translate.lines import Line, read_lines

_LINES = ".lines.jsonl"
REVIEWED = ("accepted", "edited")
"""A person's word for a line."""


@dataclass(frozen=True)
class Memory:
    """Lines by what was translated: a text and the question that it answers."""

    known: dict[tuple[str, str], Line]
    digests: tuple[str, ...]
    """sha256 of the files."""

    def find(self, text: Text) -> Line | None:
        """A translation of this text in this context, a reviewed one if there is any."""
        return self.known.get((text.source, text.context))

    def find_anywhere(self, text: Text) -> Line | None:
        """A translation in any context, where all known ones agree: what a memory alone can do."""
        return self._alike.get(text.source)

    @cached_property
    def _alike(self) -> dict[str, Line]:
        """Lines of texts that were always translated alike, by text."""
        by_source: dict[str, list[Line]] = {}
        for line in self.known.values():
            by_source.setdefault(line.source, []).append(line)
        return {
            source: lines[0]
            for source, lines in by_source.items()
            if len({line.target for line in lines}) == 1 and lines[0].status != "rejected"
        }

    def with_reviews(self, path: Path, label: str) -> Memory:
        """What a person said of an earlier translation into the same file comes first.

        Args:
            path: its lines, if there are any.
            label: who translates now; what was rejected of another translator is open again.

        Raises:
            RedVillmError: damaged lines.
        """
        lines = read_lines(path) if path.exists() else []
        spoken = {
            (line.source, line.context): line
            for line in lines
            if line.status in REVIEWED or (line.status == "rejected" and line.engine == label)
        }
        return replace(self, known={**self.known, **spoken})


def read_memory(files: Sequence[str], direction: Direction) -> Memory:
    """Translations of earlier work.

    Args:
        files: each `<file>.lines.jsonl` of an earlier translation, or `<source>=<target>`: two
            files of the same form and order; of `qa-pairs` `<q>,<a>=<q>,<a>`.
        direction: in which is translated now.

    Raises:
        RedVillmError: a file is missing or malformed, lines are of the other direction, or two
            files do not fit together.
    """
    lines: list[Line] = []
    paths: list[Path] = []
    for name in files:
        found = list(_pair(name) if "=" in name else _lines(Path(name), direction))
        lines += found
        paths += [Path(part) for half in name.split("=") for part in half.split(",")]
    known: dict[tuple[str, str], Line] = {}
    for line in sorted(lines, key=lambda line: line.status not in REVIEWED):
        known.setdefault((line.source, line.context), line)
    return Memory(known, tuple(file_sha256(path) for path in paths))


def _lines(path: Path, direction: Direction) -> Iterator[Line]:
    if not path.name.endswith(_LINES):
        wanted = f"*{_LINES}, or <source>=<target>"
        raise AnnotationError("no memory", where=path, wanted=wanted)
    record = read_translation(path.with_name(path.name.removesuffix(_LINES)))
    if record is not None and record.direction != direction:
        got = record.direction
        raise AnnotationError("of the other direction", where=path, got=got, wanted=direction)
    for line in read_lines(path):
        if line.target is not None and line.status not in ("failed", "rejected"):
            yield line


def _pair(name: str) -> Iterator[Line]:
    halves = [[Path(part) for part in half.split(",")] for half in name.split("=")]
    ours, theirs = (
        read_document(half[0], answers=half[1] if len(half) > 1 else None) for half in halves
    )
    if ours.form != theirs.form or [t.id for t in ours.texts] != [t.id for t in theirs.texts]:
        do = "give two files with the same rows in the same order"
        raise AnnotationError("these two are no translation of one another", where=name, do=do)
    for old, new in zip(ours.texts, theirs.texts, strict=True):
        yield Line(
            old.id, old.row, old.field, old.source, old.context, new.source, "machine", "memory"
        )
