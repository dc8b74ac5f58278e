"""One sample in the page's words: its question, what a run answered, what judges said of that."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.judges.base import Verdict
from eval.metrics import Question
from eval.report.runs import Key, Seed

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_FAILURES = {
    "lost": "l",
    "parse_failure": "p",
    "api_failure": "a",
    "refused": "r",
    "not_asked": "n",
}


def encode(value: object) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value)


def column_name(key: Key) -> str:
    """How the page calls a column of verdicts."""
    return " ".join(key)


def head_lines(rows: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> Iterator[str]:
    """A JSON object a sample, without its end: what every run was asked."""
    for row, question in zip(rows, questions, strict=True):
        head = {
            "id": question.sample_id,
            "video": question.video_id,
            "type": question.type,
            "question": row["question"],
            "question2": row["question2"],
            "answer": row["answer"],
        }
        yield encode(head)[:-1]


def run_lines(seed: Seed, all_seeds: Sequence[Mapping[Key, Sequence[Verdict]]]) -> Iterator[str]:
    """A JSON object a sample: what this seed answered, and how many of all seeds were right.

    Of each judge and aspect: `judged_seeds` were judged, and of these `right_seeds` are right (None
    where nothing says right or wrong). A seed that failed is in neither.

    Args:
        seed: the run's first.
        all_seeds: the verdicts of each seed, this one included.
    """
    columns = {
        column_name(key): _said(found, _count_seeds(all_seeds, key))
        for key, found in seed.verdicts.items()
    }
    for row, overlap in zip(seed.rows, seed.overlaps, strict=True):
        name = row["sample_id"]
        said = {column: found[name] for column, found in columns.items() if name in found}
        line = {
            "pred": row["pred"],
            "pred2": row["pred2"],
            "lost": row["lost"],
            "finish": row["finish_reason"],
            "exact": overlap.exact,
            "f1": None if overlap.f1 is None else round(overlap.f1, 3),
            "seeds": len(all_seeds),
            "verdicts": said,
        }
        yield encode(line)


def mark_columns(seed: Seed) -> dict[Key, str]:
    """One character a sample, in the order of the rows; see `mark`."""
    columns = {}
    for key, verdicts in seed.verdicts.items():
        marks = {verdict.sample_id: mark(verdict) for verdict in verdicts}
        columns[key] = "".join(marks.get(row["sample_id"], " ") for row in seed.rows)
    return columns


def mark(verdict: Verdict) -> str:
    """`+` right, `-` wrong, a rounded score, or the first letter of what went wrong."""
    if verdict.outcome != "ok":
        return _FAILURES[verdict.outcome]
    if verdict.correct is not None:
        return "+" if verdict.correct else "-"
    return " " if verdict.score is None else str(math.floor(verdict.score + 0.5))


def _count_seeds(
    all_seeds: Sequence[Mapping[Key, Sequence[Verdict]]], key: Key
) -> tuple[Counter[str], Counter[str], set[str]]:
    """By sample, how many seeds a judge judged and found right; and of which it says right."""
    ok = [v for verdicts in all_seeds for v in verdicts.get(key, ()) if v.outcome == "ok"]
    judged = Counter(verdict.sample_id for verdict in ok)
    right = Counter(verdict.sample_id for verdict in ok if verdict.correct)
    return judged, right, {verdict.sample_id for verdict in ok if verdict.correct is not None}


def _said(
    verdicts: Sequence[Verdict], counts: tuple[Counter[str], Counter[str], set[str]]
) -> dict[str, dict[str, Any]]:
    """By sample, what the first seed's judge said, and what of the other seeds."""
    judged, right, known = counts
    return {
        verdict.sample_id: {
            "outcome": verdict.outcome,
            "correct": verdict.correct,
            "score": verdict.score,
            "reply": verdict.reply,
            "reason": verdict.reason,
            "judged_seeds": judged[verdict.sample_id],
            "right_seeds": right[verdict.sample_id] if verdict.sample_id in known else None,
        }
        for verdict in verdicts
    }
