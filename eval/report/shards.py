"""The page's data, in pieces that it loads when they are looked at.

Every piece is a call `redvillm("<name>", JSON.parse('<JSON>'));`, because a page that was opened
from a disk may load scripts and nothing else. In JSON a name like `__proto__` is a name, while in
an object of JavaScript's own notation it would be lost; and browsers read large JSON faster.
Nothing in it can end a script or begin markup: `<`, `>`, `&` and the line separators of JavaScript
are escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from eval.report.gather import PartResults
from eval.report.samples import column_name, encode
from eval.report.video_paths import video_paths
from features.store import FeatureStore

SHARD = 200
"""Samples a file."""
FRAME_SHARD = 32
"""Videos a file."""
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}

Call = tuple[str, str]
"""Name of a piece, and its JSON, escaped."""
_Calls = Generator[Call, None, Any]


def page_calls(
    report: Mapping[str, Any],
    parts: Sequence[PartResults],
    stores: Mapping[str, FeatureStore],
    folder: Path,
) -> Iterator[Call]:
    """All pieces; `report`, without which the page shows nothing, comes last.

    Args:
        report: what report.json holds.
        parts: its parts.
        stores: by dataset, where frame strips come from.
        folder: of the page; paths of videos are relative to it.
    """
    entries = []
    for part in parts:
        entries.append((yield from _part_calls(part, stores.get(part.part.dataset), folder)))
    yield "report", _escaped(encode({**report, "parts": entries}))


def count_calls(parts: Sequence[PartResults], stores: Mapping[str, FeatureStore]) -> int:
    """At most so many pieces, for a progress bar."""
    count = 1
    for part in parts:
        videos = {question.video_id for question in part.questions}
        count += 1 + ceil(len(part.questions) / SHARD)
        count += ceil(len(videos) / FRAME_SHARD) if part.part.dataset in stores else 0
    return count


def write_call(folder: Path, call: Call) -> None:
    """Write one piece into `folder`."""
    name, value = call
    # JSON's escape of half a character, which UTF-8 has none for, is Python's own.
    json = value.encode(errors="backslashreplace").decode()
    literal = json.replace("\\", "\\\\").replace("'", "\\'")
    (folder / f"{name}.js").write_text(
        f"redvillm(\"{name}\", JSON.parse('{literal}'));\n", encoding="utf-8", newline="\n"
    )


def _part_calls(part: PartResults, store: FeatureStore | None, folder: Path) -> _Calls:
    videos = sorted({question.video_id for question in part.questions})
    frame_at = yield from _frame_calls(part.key, videos, store)
    yield from _sample_calls(part)
    paths = video_paths(videos, store, folder)
    yield f"{part.key}-index", _escaped(encode(_index(part, videos, paths, frame_at)))
    return {
        "key": part.key,
        "dataset": part.part.dataset,
        "split": part.part.split,
        "aspects": part.aspects,
        "judges": [{"slug": slug, "label": label} for slug, label in part.labels.items()],
        "runs": [one.run.name for one in part.runs],
        "count": len(part.questions),
        "shard": SHARD,
        "frame_shard": FRAME_SHARD,
        "frames": any(at >= 0 for at in frame_at),
    }


def _frame_calls(key: str, videos: Sequence[str], store: FeatureStore | None) -> _Calls:
    """Strips of the videos that have any; returns the piece of each video, -1 for none."""
    at = dict.fromkeys(videos, -1)
    known = [video for video in videos if store is not None and video in store]
    strips = store.each_thumbs(known) if store is not None else iter(())
    found = ((video, strip) for video, strip in zip(known, strips, strict=True) if strip)
    for number, group in enumerate(_grouped(found, FRAME_SHARD)):
        at.update((video, number) for video, _ in group)
        frames = {video: [base64.b64encode(j).decode() for j in strip] for video, strip in group}
        yield f"{key}-frames-{number}", _escaped(encode(frames))
    return list(at.values())


def _sample_calls(part: PartResults) -> Iterator[Call]:
    """All runs' lines side by side; they are JSON already and are only put together."""
    names = [encode(one.run.name) for one in part.runs]
    with ExitStack() as files:
        heads, *lines = (
            files.enter_context(path.open(encoding="utf-8"))
            for path in (part.heads, *(one.lines for one in part.runs))
        )
        samples = (
            f'{head[:-1]},"runs":{{{",".join(map(_member, names, said))}}}}}'
            for head, *said in zip(heads, *lines, strict=True)
        )
        for number, group in enumerate(_grouped(samples, SHARD)):
            yield f"{part.key}-samples-{number}", _escaped(f"[{','.join(group)}]")


def _member(name: str, line: str) -> str:
    return f"{name}:{line[:-1]}"


def _index(
    part: PartResults,
    videos: Sequence[str],
    paths: Sequence[str | None],
    frame_at: Sequence[int],
) -> dict[str, Any]:
    """What the browser's list and filters need of all samples, as columns."""
    types, type_numbers = _numbered(question.type for question in part.questions)
    place = {video: number for number, video in enumerate(videos)}
    none = " " * len(part.questions)
    return {
        "ids": [question.sample_id for question in part.questions],
        "video": [place[question.video_id] for question in part.questions],
        "videos": videos,
        "paths": paths,
        "types": types,
        "type": type_numbers,
        "marks": {
            one.run.name: {column_name(key): one.marks.get(key, none) for key in part.keys}
            for one in part.runs
        },
        "frame_at": frame_at,
    }


def _numbered(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """The distinct values, sorted, and the number of each."""
    found = list(values)
    names = sorted(set(found))
    numbers = {name: number for number, name in enumerate(names)}
    return names, [numbers[value] for value in found]


def _grouped(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _escaped(text: str) -> str:
    """JSON has these characters inside strings alone, where an escape means the same."""
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text
