"""Rows of published prediction files, and which of our questions each of them answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.overlap import normalise
from features.annotations import QASample
from features.errors import RedVillmError, few

_NAMES = {
    "id": ("id", "question_id"),
    "video": ("video_name", "video_id", "video"),
    "question": ("question", "Q", "Q1", "q", "q1"),
    "question2": ("Q2", "q2"),
    "answer": ("answer", "A", "a"),
    "pred": ("pred", "pred1"),
    "pred2": ("pred2",),
}


@dataclass(frozen=True)
class PublishedRow:
    """One answer as a published file has it; None is what its form leaves out."""

    where: str
    pred: str
    question: str
    id: str | None = None
    video: str | None = None
    question2: str | None = None
    answer: str | None = None
    pred2: str | None = None


def read_published(file: Path) -> list[PublishedRow]:
    """The rows of a published file, JSON list or JSONL.

    Raises:
        RedVillmError: unreadable, or a row lacks what every form has.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        listed = text.lstrip().startswith("[")
        lines = (line for line in text.split("\n") if line.strip())
        records = json.loads(text) if listed else [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        wanted = "a JSON list, or an object a line"
        raise RedVillmError("cannot read", where=file, got=error, wanted=wanted) from error
    return [published_row(record, f"{file}, row {n}") for n, record in enumerate(records)]


def published_row(record: object, where: str) -> PublishedRow:
    """One row, whatever its form calls things.

    Raises:
        RedVillmError: no question or no answer in it, or one that is not text.
    """
    if not isinstance(record, Mapping):
        raise RedVillmError("not a prediction", where=where, got=repr(record)[:80])
    values: dict[str, Any] = {
        field: next((record[name] for name in names if record.get(name) is not None), None)
        for field, names in _NAMES.items()
    }
    for field, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool):
            values[field] = str(value)
        elif isinstance(value, str):
            values[field] = value if field.startswith("pred") else value.strip()
        elif value is not None or field in ("pred", "question"):
            got = f"{field}: {value!r}, keys {sorted(map(str, record))}"
            raise RedVillmError("not a prediction", where=where, got=got, wanted="text")
    if (values["question2"] is None) != (values["pred2"] is None):
        raise RedVillmError("two questions need two answers", where=where)
    return PublishedRow(where, **values)


def join(
    rows: Sequence[PublishedRow], samples: Sequence[QASample], prefix: str
) -> dict[str, PublishedRow]:
    """Rows by the sample_id of the question they answer.

    Args:
        rows: of one file.
        samples: all questions of the split.
        prefix: stands before a file's video name in our ids.

    Raises:
        RedVillmError: a row answers nothing that was asked, or it is open what it answers, or two
            answer the same question.
    """
    by_id = {sample.sample_id: sample for sample in samples}
    if any(row.id in by_id for row in rows):
        return _join_by_id(rows, by_id)
    return _join_by_content(rows, samples, prefix)


def _join_by_id(
    rows: Sequence[PublishedRow], samples: Mapping[str, QASample]
) -> dict[str, PublishedRow]:
    found: dict[str, PublishedRow] = {}
    unknown = [f"{row.id} ({row.where})" for row in rows if row.id not in samples]
    if unknown:
        raise RedVillmError("predictions for what was not asked", got=few(unknown))
    for row in rows:
        sample = samples[str(row.id)]
        # a file whose ids and texts were joined by position shows here
        for ours, theirs in (
            (sample.question, row.question),
            (sample.question2, row.question2),
            (sample.answer, row.answer),
        ):
            if theirs is None or theirs == ours or normalise(theirs) == normalise(ours or ""):
                continue
            where, what = f"{row.where}, id {row.id}", "the file asks something else under this id"
            raise RedVillmError(what, where=where, got=theirs[:80], wanted=(ours or "")[:80])
        if found.setdefault(sample.sample_id, row) is not row:
            raise RedVillmError("two predictions for one question", where=row.where, got=row.id)
    return found


def _join_by_content(
    rows: Sequence[PublishedRow], samples: Sequence[QASample], prefix: str
) -> dict[str, PublishedRow]:
    videos = {sample.video_id for sample in samples}
    # what all rows have; a form without videos (or references) leaves them out of the comparison
    has_video = all(row.video is not None for row in rows)
    has_answer = all(row.answer is not None for row in rows)
    asked: defaultdict[tuple[str | None, ...], list[QASample]] = defaultdict(list)
    for sample in samples:
        video, answer = (
            sample.video_id if has_video else None,
            sample.answer if has_answer else None,
        )
        asked[video, sample.question, sample.question2, answer].append(sample)
    given: defaultdict[tuple[str | None, ...], list[PublishedRow]] = defaultdict(list)
    for row in rows:
        known = f"{prefix}{row.video}" in videos
        video = (f"{prefix}{row.video}" if known else row.video) if has_video else None
        given[video, row.question, row.question2, row.answer if has_answer else None].append(row)
    unknown = [
        f"{row.question[:80]!r} ({row.where})"
        for key, these in given.items()
        if key not in asked
        for row in these
    ]
    if unknown:
        do = "check that dataset and split are those of the file"
        raise RedVillmError("predictions for what was not asked", got=few(unknown), do=do)
    found: dict[str, PublishedRow] = {}
    for key, these in given.items():
        if len({replace(sample, sample_id="") for sample in asked[key]}) > 1:
            what = "it is open which question this answers: several have these words"
            do = "use a file with ids or video names"
            raise RedVillmError(what, where=these[0].where, got=these[0].question[:80], do=do)
        if len(these) > len(asked[key]):
            what = "more predictions than questions with these words"
            got, wanted = len(these), len(asked[key])
            raise RedVillmError(what, where=these[-1].where, got=got, wanted=wanted)
        # questions alike in all but their number: any order says the same
        found |= {s.sample_id: row for s, row in zip(asked[key], these, strict=False)}
    return found
