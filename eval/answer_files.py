"""The files in which answers to a split grow, one or several, and what is in them.

    predictions.meta.json      what the answers depend on; compared on resume
    predictions.jsonl          a row a question, appended and flushed a batch
    predictions.0-of-2.jsonl   the same of a worker that answers a part, until parts are united

A worker that is killed may leave a torn last line, which is no row; and parts of another number of
workers, which count like all others. So every question is answered once whoever begins again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.folders import META, PREDICTIONS, read_meta, read_rows
from features.durable import replace_file, replace_json
from features.errors import FingerprintError, RedVillmError

PARTS = "predictions.*-of-*.jsonl"
READERS = ("aspects", "type_names", "translations")
"""Fields of the meta file that only readers of the answers go by: a list each."""
NOT_COMPARED = ("schema", "versions", "seconds", *READERS)
"""Fields that are recorded and do not forbid resuming: another translation has another digest of
the annotations, and one that was only reviewed asks the same."""


def file_of(folder: Path, part: tuple[int, int] | None) -> Path:
    """Where a worker appends: (0, 2) is the first of two; None: there is only one."""
    return folder / (f"predictions.{part[0]}-of-{part[1]}.jsonl" if part else PREDICTIONS)


@contextmanager
def locked(folder: Path, part: tuple[int, int] | None) -> Iterator[None]:
    """Nobody else answers the same meanwhile: parts go beside one another, the whole alone.

    Raises:
        RedVillmError: somebody does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as whole, file_of(folder, part).open("a") as mine:
        try:
            fcntl.flock(whole, (fcntl.LOCK_SH if part else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            do = "wait for it, or stop it"
            raise RedVillmError("another process answers this", where=folder, do=do) from error
        yield


def answered(folder: Path, meta: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of all files by id, answered under the very same conditions.

    Raises:
        FingerprintError: the answers that are there depend on something else.
        RedVillmError: a file is damaged, or two rows of one id differ.
    """
    rows = _all_rows(folder)
    if not rows:
        return {}
    there = read_meta(folder)
    keys = [key for key in {**meta, **there} if key not in NOT_COMPARED]
    differing = [key for key in keys if there.get(key) != meta.get(key)]
    if differing:
        raise FingerprintError(
            "the answers that are there depend on something else",
            where=folder,
            got={key: there.get(key) for key in differing},
            wanted={key: meta.get(key) for key in differing},
            do="generate with resume false to start over, or use the settings of then",
        )
    return rows


def make_ready(folder: Path, part: tuple[int, int] | None, meta: Mapping[str, Any] | None) -> Path:
    """The file to append to, without the line that a kill tore; a meta file if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = file_of(folder, part)
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    if meta is not None:
        _write_meta(folder, meta)
    return path


def start_over(folder: Path) -> None:
    """Forget all answers that are there. Not while somebody answers."""
    for path in (folder / PREDICTIONS, *folder.glob(PARTS)):
        path.unlink(missing_ok=True)


def note_recipe(folder: Path, meta: Mapping[str, Any]) -> None:
    """Take over what only readers of the answers go by, where that has changed since."""
    there = read_meta(folder)
    now = {name: meta[name] for name in READERS}
    if any(there.get(name, []) != value for name, value in now.items()):
        _write_meta(folder, there | now)


def add_seconds(folder: Path, seconds: float) -> None:
    """Add to the time that answering took."""
    meta = read_meta(folder)
    _write_meta(folder, meta | {"seconds": round(meta.get("seconds", 0.0) + seconds, 3)})


def merge_parts(folder: Path, seconds: float = 0.0) -> None:
    """Unite the files of all parts, of whatever number of workers, by sample and never by place.

    Nobody may be answering meanwhile. A kill loses nothing: the parts go when the whole is there.

    Args:
        folder: with the answers to one split.
        seconds: what the parts took, by the clock.

    Raises:
        RedVillmError: a file is damaged, or two rows of one id differ.
    """
    parts = sorted(folder.glob(PARTS))
    if parts:
        rows = _all_rows(folder)
        text = "".join(to_line(rows[name]) for name in sorted(rows))
        data = text.encode(errors="backslashreplace")
        replace_file(folder / PREDICTIONS, data, "predictions")
        for path in parts:
            path.unlink()
    if seconds:
        add_seconds(folder, seconds)


def to_line(row: Mapping[str, Any]) -> str:
    """As a line of a file, written with `backslashreplace`: half a character is JSON's escape."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _all_rows(folder: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for path in (folder / PREDICTIONS, *sorted(folder.glob(PARTS))):
        if not path.exists():
            continue
        for row in read_rows(path):
            first = rows.setdefault(row["sample_id"], row)
            if first != row:
                raise RedVillmError(
                    "two answers to one question",
                    where=f"{path}, sample {row['sample_id']}",
                    got=f"{first['pred']!r} and {row['pred']!r}",
                    do="generate again with resume false",
                )
    return rows


def _write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    replace_json(folder / META, meta, "predictions-meta")
