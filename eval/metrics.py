"""Accuracies that say how sure they are.

Questions about one video stand or fall together, so they are no independent draws: every interval
is a **cluster bootstrap by video**. The method, in full: a question's value is the mean over the
seeds of a run; videos are drawn with replacement, as many as there are, 2,000 times; a resample's
value is the mean over all questions of the drawn videos; the interval is its 2.5 and 97.5
percentiles. It covers the choice of test videos, not the choice of seeds. A comparison of two runs
does the same with the *difference* of each question's two values, which cancels what makes a video
hard for both.

A question counts as judged when every seed's answer to it was; a lost one has no value, and
certainly not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.judge import Verdict
from features.errors import RedVillmError

RESAMPLES = 2000
_DRAWS_AT_ONCE = 4_000_000
"""Drawn videos held in memory at once (32 MB)."""


@dataclass(frozen=True)
class Question:
    """What the metrics need to know about a question that was asked."""

    sample_id: str
    video_id: str
    type: str


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; None where the data cannot say."""

    mean: float | None
    low: float | None
    """None with fewer than two videos: one cluster has no spread."""
    high: float | None


@dataclass(frozen=True)
class TypeScore:
    """Accuracy and token F1, in percent, of the questions of one type."""

    accuracy: float | None
    low: float | None
    high: float | None
    f1: float | None
    asked: int
    judged: int
    lost: int

    @property
    def coverage(self) -> float:
        """Share of the asked questions that were judged."""
        return self.judged / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Difference:
    """Accuracy of a minus accuracy of b, in points, over the questions judged in both."""

    points: float | None
    low: float | None
    high: float | None
    questions: int


def cluster_bootstrap(
    values: NDArray[np.float64], clusters: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Mean of `values` (Q,) with a 95 % percentile interval over resampled clusters.

    Args:
        values: one finite number a question.
        clusters: the video of each question, of the same length.
        seed: of the resampling; the same input and seed give the same interval.
        resamples: how many.
    """
    if values.size == 0:
        return Estimate(None, None, None)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index)
    mean = float(values.mean())
    if len(names) < 2:
        return Estimate(mean, None, None)
    rng = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // len(names))
    means = []
    for start in range(0, resamples, chunk):
        drawn = rng.integers(len(names), size=(min(chunk, resamples - start), len(names)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(mean, float(low), float(high))


def score_by_type(
    questions: Sequence[Question], seeds: Sequence[Sequence[Verdict]], seed: int = 0
) -> dict[str, TypeScore]:
    """A score for each type in sorted order, and `all` over every question.

    Args:
        questions: everything that was asked, each once.
        seeds: the verdicts of each seed of one run; every question needs one from each.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the verdicts are not about these questions.
    """
    correct, f1 = _mean_over_seeds(questions, seeds)
    types = np.asarray([question.type for question in questions])
    groups = {name: types == name for name in sorted(set(types.tolist()) - {"", "all"})}
    groups["all"] = np.ones(len(questions), dtype=bool)
    return {name: _score(questions, correct, f1, inside, seed) for name, inside in groups.items()}


def withhold(
    scores: Mapping[str, TypeScore], min_coverage: float
) -> tuple[dict[str, TypeScore], str | None]:
    """Take the numbers away, and say why, when too few of all the questions were judged.

    Returns:
        the scores, whose counts always stay, and the message (None: enough were judged).
    """
    total = scores["all"]
    if total.coverage >= min_coverage:
        return dict(scores), None
    bare = {
        name: replace(score, accuracy=None, low=None, high=None, f1=None)
        for name, score in scores.items()
    }
    return bare, (
        f"no accuracy: only {total.judged} of {total.asked} questions were judged "
        f"({total.coverage:.1%}, wanted {min_coverage:.1%}); {total.lost} lost"
    )


def paired_difference(
    questions: Sequence[Question],
    run_a: Sequence[Sequence[Verdict]],
    run_b: Sequence[Sequence[Verdict]],
    only: str | None = None,
    seed: int = 0,
) -> Difference:
    """Compare two runs (each with its seeds) question by question, with an interval by video.

    Args:
        questions: everything that was asked of both.
        run_a: verdicts of each seed of the one.
        run_b: verdicts of each seed of the other.
        only: only questions of this type.
        seed: of the bootstrap.
    """
    delta = _mean_over_seeds(questions, run_a)[0] - _mean_over_seeds(questions, run_b)[0]
    inside = np.asarray([only is None or question.type == only for question in questions])
    inside &= np.isfinite(delta)
    videos = [q.video_id for q, keep in zip(questions, inside, strict=True) if keep]
    found = cluster_bootstrap(100 * delta[inside], videos, seed)
    return Difference(found.mean, found.low, found.high, int(inside.sum()))


def _score(
    questions: Sequence[Question],
    correct: NDArray[np.float64],
    f1: NDArray[np.float64],
    inside: NDArray[np.bool_],
    seed: int,
) -> TypeScore:
    judged = inside & np.isfinite(correct)
    videos = [q.video_id for q, keep in zip(questions, judged, strict=True) if keep]
    found = cluster_bootstrap(100 * correct[judged], videos, seed)
    asked, kept = int(inside.sum()), int(judged.sum())
    mean_f1 = 100 * float(f1[judged].mean()) if kept else None
    return TypeScore(found.mean, found.low, found.high, mean_f1, asked, kept, asked - kept)


def _mean_over_seeds(
    questions: Sequence[Question], seeds: Sequence[Sequence[Verdict]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(Q,) shares of seeds that were right, and (Q,) mean F1; NaN where any seed has no verdict."""
    if not seeds:
        raise RedVillmError("no verdicts to score")
    tables = [_by_id(questions, verdicts) for verdicts in seeds]
    rows = [[table[q.sample_id] for q in questions] for table in tables]
    nan = float("nan")
    correct = np.array([[nan if v.correct is None else float(v.correct) for v in r] for r in rows])
    f1 = np.array([[nan if v.f1 is None else v.f1 for v in r] for r in rows])
    return correct.mean(axis=0), f1.mean(axis=0)


def _by_id(questions: Sequence[Question], verdicts: Sequence[Verdict]) -> Mapping[str, Verdict]:
    """Verdicts by sample id: they are matched by id, never by position."""
    table = {verdict.sample_id: verdict for verdict in verdicts}
    asked = {question.sample_id for question in questions}
    if set(table) != asked or len(table) != len(verdicts) or len(asked) != len(questions):
        raise RedVillmError(
            "questions and verdicts do not match",
            got=f"{len(verdicts)} verdicts, {len(set(table) - asked)} about questions not asked",
            wanted=f"one for each of {len(questions)} questions, "
            f"{len(asked - set(table))} have none",
            do="judge the predictions again",
        )
    return table
