"""Translations that are there already: they are taken word for word and cost nothing."""

from __future__ import annotations

import fcntl
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from features.durable import file_sha256
from features.errors import AnnotationError, RedVillmError
from features.translation import Direction, read_translation
from pipelines.translate.decisions import DECIDED
from pipelines.translate.files import Text, read_document
from pipelines.translate.lines import Line, read_lines, write_lines
from pipelines.translate.review_log import Reviewed, log_path, read_reviewed, with_log

_LINES = ".lines.jsonl"
REVIEWED = ("accepted", "edited")
"""A person's word for a line."""
_Content = tuple[tuple[str, str, str], ...]
"""Field, source and context of each text of a row."""
_Item = TypeVar("_Item", Text, Line)


@dataclass(frozen=True)
class Memory:
    """Lines by what was translated: a text and the question that it answers."""

    known: Mapping[tuple[str, str], Line]
    digests: tuple[str, ...]
    """sha256 of the files."""
    rows: tuple[tuple[Line, ...], ...] = ()
    """The files' rows with all their lines."""
    own: Mapping[str, Line] = field(default_factory=dict)
    """What a person said of a text of the file that is translated now, by its id."""
    set_aside: int = 0
    """The review page's decisions about texts that the files have no more: they are not taken."""

    def find(self, text: Text) -> Line | None:
        """A translation of this text in this context, a person's word about it if there is any."""
        found = self.own.get(text.id) or _text_alone(self.known.get((text.source, text.context)))
        return found and replace(found, id=text.id, row=text.row, field=text.field)

    def find_anywhere(self, text: Text) -> Line | None:
        """A translation in any context, where all known ones agree: what a memory alone can do."""
        found = _text_alone(self._alike.get(text.source))
        return found and replace(
            found, id=text.id, row=text.row, field=text.field, context=text.context
        )

    @cached_property
    def _alike(self) -> dict[str, Line]:
        """Lines of texts that were always translated alike, by text."""
        by_source: dict[str, list[Line]] = {}
        for line in self.known.values():
            by_source.setdefault(line.source, []).append(line)
        return {
            source: lines[0]
            for source, lines in by_source.items()
            if len({line.target for line in lines}) == 1
        }

    def for_file(self, texts: Sequence[Text], old: Sequence[Line], label: str) -> Memory:
        """With what people said of rows that are the same now as they were then.

        A person's word is about one row, found by all its texts, so that rows may move; of rows
        that are the same the first is the first. Elsewhere only the text is taken, as a machine's.

        Args:
            texts: of the file.
            old: lines of an earlier translation into the same file; they come first.
            label: who translates now; what was rejected of another translator is open again.
        """
        reviewed = {(line.source, line.context): line for line in old if line.status in REVIEWED}
        own = {
            name: line
            for rows, rejected in ((self.rows, False), (_rows(old), True))
            for name, line in _same_rows(rows, texts)
            if line.status in REVIEWED
            or (rejected and line.status == "rejected" and line.engine == label)
        }
        return replace(self, known={**self.known, **reviewed}, own=own)


def spoken_lines(path: Path) -> Reviewed:
    """Lines of an earlier translation, with the decisions of the review page that lie beside them.

    Args:
        path: of the lines, if there are any.

    Raises:
        RedVillmError: damaged lines or decisions, or the page is open.
    """
    log = log_path(path)
    if not path.exists():
        return Reviewed([], 0)
    if not log.exists():
        return read_reviewed(path)
    with log.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what, do = "these lines are under review", "end `review serve` first"
            raise RedVillmError(what, where=log, do=do) from error
        return read_reviewed(path)


def put_aside(path: Path, old: Sequence[Line], new: list[Line]) -> list[Path]:
    """Keep what people said of `old` lines where new ones are about to take their place.

    The old file is kept where a person's word is not in the new one, and the page's decisions
    where one of them is not about the new lines.

    Args:
        path: of the lines.
        old: with the page's decisions.
        new: what will be written.

    Returns:
        The files under their new names, with the time in them.
    """
    log, moved = log_path(path), []
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    if _words(old) - _words(new):
        aside = path.with_name(f"{path.name.removesuffix('.jsonl')}.{now}.jsonl")
        write_lines(aside, old)
        moved.append(aside)
    if log.exists() and not _fits(log, new):
        if old:
            write_lines(path, old)  # whatever ends this now, the decisions are in the lines
        moved.append(log.rename(log.with_name(f"{log.name.removesuffix('.jsonl')}.{now}.jsonl")))
    return moved


def _fits(log: Path, lines: list[Line]) -> bool:
    """Whether all decisions are about these lines, and a second merge of them changes nothing."""
    try:
        return with_log(lines, log) == Reviewed(lines, 0)
    except RedVillmError:
        return False


def _words(lines: Sequence[Line]) -> Counter[tuple[str | None, ...]]:
    """People's words, each with what it is about."""
    return Counter(
        (line.field, line.source, line.context, line.target, line.status, line.reviewer)
        for line in lines
        if line.status in DECIDED
    )


def _text_alone(line: Line | None) -> Line | None:
    """A line's text for another row, which no person has seen."""
    if line is None or line.status not in REVIEWED:
        return line
    by = "memory" if line.status == "edited" else line.engine
    return replace(line, status="machine", engine=by, machine=None, reviewer="", reviewed="")


def _rows(items: Sequence[_Item]) -> list[tuple[_Item, ...]]:
    """Texts or lines by rows, in the order of the file."""
    rows: dict[int, list[_Item]] = defaultdict(list)
    for item in items:
        rows[item.row].append(item)
    return [tuple(row) for row in rows.values()]


def _same_rows(
    before: Sequence[tuple[Line, ...]], texts: Sequence[Text]
) -> Iterator[tuple[str, Line]]:
    """(id now, line then) of all texts of rows that were there."""
    waiting: dict[_Content, deque[tuple[Line, ...]]] = defaultdict(deque)
    for row in before:
        waiting[_content(row)].append(row)
    for now in _rows(texts):
        if theirs := waiting.get(_content(now)):
            yield from zip([text.id for text in now], theirs.popleft(), strict=True)


def _content(row: Sequence[Text | Line]) -> _Content:
    return tuple((item.field, item.source, item.context) for item in row)


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
    rows: list[tuple[Line, ...]] = []
    set_aside = 0
    for name in files:
        if "=" in name:
            found = list(_pair(name))
        else:
            said = _lines(Path(name), direction)
            found, set_aside = said.lines, set_aside + said.set_aside
        lines += [line for line in found if line.status not in ("failed", "rejected")]
        rows += [] if "=" in name else _rows(found)
        paths += [Path(part) for half in name.split("=") for part in half.split(",")]
    known: dict[tuple[str, str], Line] = {}
    for line in sorted(lines, key=lambda line: line.status not in REVIEWED):
        known.setdefault((line.source, line.context), line)
    reviewed = [log_path(path) for path in paths if path.name.endswith(_LINES)]
    logs = [log for log in reviewed if log.exists()]
    digests = tuple(file_sha256(path) for path in (*paths, *logs))
    return Memory(known, digests, tuple(rows), set_aside=set_aside)


def _lines(path: Path, direction: Direction) -> Reviewed:
    if not path.name.endswith(_LINES):
        wanted = f"*{_LINES}, or <source>=<target>"
        raise AnnotationError("no memory", where=path, wanted=wanted)
    record = read_translation(path.with_name(path.name.removesuffix(_LINES)))
    if record is not None and record.direction != direction:
        got = record.direction
        raise AnnotationError("of the other direction", where=path, got=got, wanted=direction)
    if not path.exists():
        read_lines(path)  # says what is wrong
    return spoken_lines(path)


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
