"""What was asked, and for each question what judges and words say of its answers.

Everything is matched by sample id, never by position. Over several seeds of a run the mean counts,
and only where no seed failed: what was not judged has no value, and certainly not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

from eval.judges.base import BEST, Verdict
from eval.overlap import normalise, token_f1
from features.errors import RedVillmError


@dataclass(frozen=True)
class Question:
    """What the metrics need to know about a question that was asked."""

    sample_id: str
    video_id: str
    type: str


@dataclass(frozen=True)
class Overlap:
    """What an answer and its reference have in common; no judge was asked."""

    sample_id: str
    exact: bool | None
    """The same words after normalisation; None where there is no answer."""
    f1: float | None
    """Token F1, 0..1; None where there is no answer."""


def overlaps(rows: Sequence[Mapping[str, Any]]) -> list[Overlap]:
    """Compare rows of predictions.jsonl with their references.

    Of a pair of answers both must be exact, and the mean F1 counts.
    """
    return [_overlap(row) for row in rows]


@dataclass(frozen=True)
class Judged:
    """What all seeds' judges said of Q questions."""

    values: Float[np.ndarray, "Q 2"]
    """Accuracy in percent and score, mean over the seeds; NaN in both unless judged."""
    failure: list[str]
    """`lost` when any seed was, else the outcome of the first seed that failed, else `ok`."""
    contradictions: Int[np.ndarray, " Q"]
    """Verdicts, over all seeds; 2.5 is on neither side."""


def judge_table(questions: Sequence[Question], seeds: Sequence[Sequence[Verdict]]) -> Judged:
    """What the seeds' verdicts (one aspect, one list a seed) say of each question.

    Raises:
        RedVillmError: there are none, or they are not about these questions.
    """
    if not seeds:
        raise RedVillmError("no verdicts to score")
    rows = [_in_order(questions, verdicts) for verdicts in seeds]
    failure = [_failure([v.outcome for v in of_seeds]) for of_seeds in zip(*rows, strict=True)]
    right = np.array([[v.correct for v in row] for row in rows], dtype=np.float64)  # None: NaN
    score = np.array([[v.score for v in row] for row in rows], dtype=np.float64)
    values = np.stack([100 * right.mean(axis=0), score.mean(axis=0)], axis=1)
    values[[outcome != "ok" for outcome in failure]] = np.nan
    contradicts = ((right == 1) & (score < BEST / 2)) | ((right == 0) & (score > BEST / 2))
    return Judged(values, failure, contradicts.sum(axis=0))


def overlap_table(
    questions: Sequence[Question], overlaps: Sequence[Sequence[Overlap]]
) -> Float[np.ndarray, "Q 2"]:
    """Exact match and F1 in percent, mean over the seeds; NaN without an answer from each."""
    if not overlaps:
        return np.full((len(questions), 2), np.nan)
    rows = [_in_order(questions, of_seed) for of_seed in overlaps]
    found = np.array([[(o.exact, o.f1) for o in of_seed] for of_seed in rows], dtype=np.float64)
    return np.asarray(100 * found.mean(axis=0))


def video_index(questions: Sequence[Question]) -> Int[np.ndarray, " Q"]:
    """Number of each question's video, in the order of their names."""
    names = np.asarray([question.video_id for question in questions], dtype=np.str_)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _overlap(row: Mapping[str, Any]) -> Overlap:
    if row["pred"] is None:
        return Overlap(row["sample_id"], None, None)
    answer = normalise(row["answer"])
    preds = [normalise(row[key]) for key in ("pred", "pred2") if row[key] is not None]
    f1 = sum(token_f1(pred, answer) for pred in preds) / len(preds)
    return Overlap(row["sample_id"], all(pred == answer for pred in preds), f1)


def _failure(of_seeds: Sequence[str]) -> str:
    failed = [outcome for outcome in of_seeds if outcome != "ok"]
    return "lost" if "lost" in failed else next(iter(failed), "ok")


_Row = TypeVar("_Row", Verdict, Overlap)


def _in_order(questions: Sequence[Question], rows: Sequence[_Row]) -> list[_Row]:
    """The row about each question."""
    table = {row.sample_id: row for row in rows}
    asked = {question.sample_id for question in questions}
    if set(table) != asked or len(table) != len(rows) or len(asked) != len(questions):
        raise RedVillmError(
            "questions and verdicts do not match",
            got=f"{len(rows)} rows, {len(set(table) - asked)} about questions not asked",
            wanted=f"one for each of {len(questions)} questions, "
            f"{len(asked - set(table))} have none",
            do="judge the predictions again",
        )
    return [table[question.sample_id] for question in questions]
