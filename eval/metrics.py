"""Numbers that say how sure they are and what they rest on.

Accuracies and scores come with the interval of `eval.bootstrap`: a question's value is its mean
over the seeds of a run, and videos are drawn, not questions. A comparison of two runs does the same
with the *difference* of each question's two values, which cancels what makes a video hard for both.

A question counts as judged when every seed's answer to it was. One that was not, for whatever
reason, has no value, and certainly not zero; it is counted under that reason instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from eval.agreement import agreement
from eval.bootstrap import bootstrap_columns, bootstrap_mean_of_columns, cluster_bootstrap
from eval.judges.base import Verdict
from eval.scores import Averages, Difference, Estimate, TypeScore
from eval.values import (
    Judged,
    Overlap,
    Question,
    judge_table,
    overlap_table,
    overlaps,
    video_index,
)
from features.errors import RedVillmError

__all__ = [
    "Aspects",
    "Judged",
    "Overlap",
    "Question",
    "agreement",
    "average_aspects",
    "covers_all",
    "difference_of_averages",
    "judge_table",
    "macro_accuracy",
    "named_types",
    "overlaps",
    "paired_differences",
    "questions_of",
    "score_by_type",
    "withhold",
]

TEMPORAL_TYPES = {"temporal", "temporal relation"}
"""Names of the type of questions about order: the demo's, and ActivityNet-QA's. What a benchmark
calls otherwise is about content."""
Aspects = Mapping[str, tuple[Sequence[Question], Sequence[Sequence[Verdict]]]]
"""By name of the aspect, what was asked and the verdicts of each seed."""


def named_types(questions: Sequence[Question], type_names: Sequence[str]) -> list[Question]:
    """Give numeric types their names, by number from 0; text and unknown numbers stay."""
    names = {str(number): name for number, name in enumerate(type_names)}
    return [replace(q, type=names[q.type]) if q.type in names else q for q in questions]


def questions_of(rows: Sequence[Mapping[str, Any]], type_names: Sequence[str]) -> list[Question]:
    """What rows of predictions.jsonl answer, in their order."""
    found = [Question(row["sample_id"], row["video_id"], row["type"]) for row in rows]
    return named_types(found, type_names)


def score_by_type(
    questions: Sequence[Question],
    seeds: Sequence[Sequence[Verdict]],
    overlaps: Sequence[Sequence[Overlap]] = (),
    seed: int = 0,
) -> dict[str, TypeScore]:
    """A score for each type in sorted order, and `all` over every question.

    Args:
        questions: everything that was asked, each once.
        seeds: the verdicts of each seed of one run about one aspect; every question needs one from
            each.
        overlaps: of each seed's answers; without them there is no exact match and no F1.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the verdicts or overlaps are not about these questions.
    """
    judged = judge_table(questions, seeds)
    words = overlap_table(questions, overlaps)
    videos = video_index(questions)
    return {
        name: _score(judged, words, videos, inside, seed)
        for name, inside in _groups(questions).items()
    }


def covers_all(scores: Mapping[str, TypeScore]) -> bool:
    """Whether every question is of some type; one without a type, or of type `all`, is not."""
    asked = sum(score.asked for name, score in scores.items() if name != "all")
    return asked == scores["all"].asked


def macro_accuracy(scores: Mapping[str, TypeScore]) -> float | None:
    """Mean of the types' accuracies: every type counts alike.

    None when a question has no type, and when a type has no accuracy: a mean over the rest would be
    another number.
    """
    found = [score.accuracy for name, score in scores.items() if name != "all"]
    known = [accuracy for accuracy in found if accuracy is not None]
    whole = covers_all(scores) and len(known) == len(found)
    return sum(known) / len(known) if known and whole else None


def withhold(
    scores: Mapping[str, TypeScore], min_coverage: float
) -> tuple[dict[str, TypeScore], str | None]:
    """Take the numbers away where too few of the questions were judged.

    A type loses its own when too few of its questions were judged, and all lose theirs when too few
    of all were: what failed is seldom spread evenly.

    Returns:
        the scores, whose counts always stay, and why all lost their numbers (None: not all did).
    """
    total = scores["all"]
    if total.coverage >= min_coverage:
        return {
            name: score if score.coverage >= min_coverage else _without_numbers(score)
            for name, score in scores.items()
        }, None
    bare = {name: _without_numbers(score) for name, score in scores.items()}
    missing = [f"{total.lost} lost", *(f"{n} {outcome}" for outcome, n in total.failures.items())]
    return bare, (
        f"no score: only {total.judged} of {total.asked} questions were judged "
        f"({total.coverage:.1%}, wanted {min_coverage:.1%}); {', '.join(missing)}"
    )


def paired_differences(
    questions: Sequence[Question], a: Judged, b: Judged, seed: int = 0
) -> dict[str, Difference]:
    """Compare two runs question by question, with intervals by video: by type, then `all`.

    Args:
        questions: everything that was asked of both.
        a: `judge_table` of these questions and the one run's seeds.
        b: that of the other about the same aspect.
        seed: of the bootstrap.
    """
    delta, videos = a.values - b.values, video_index(questions)
    judged = np.isfinite(delta).any(axis=1)
    found = {}
    for name, group in _groups(questions).items():
        inside = group & judged
        points, score = bootstrap_columns(delta[inside], videos[inside], seed)
        found[name] = Difference(
            *(points.mean, points.low, points.high, score.mean, score.low, score.high),
            questions=int(inside.sum()),
        )
    return found


def average_aspects(aspects: Aspects, seed: int = 0) -> Averages:
    """The two means over several aspects of one run; their questions are about the same videos.

    A resample draws videos once and takes all that every aspect asked about them. Both means are
    None when an aspect has no judged question.

    Args:
        aspects: of the run.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the verdicts of an aspect are not about its questions.
    """
    scores = [judge_table(*pair).values[:, 1] for pair in aspects.values()]
    if not _all_known(scores):
        unknown = Estimate(None, None, None)
        return Averages(unknown, unknown)
    videos = _pooled_videos(aspects)
    return Averages(
        bootstrap_mean_of_columns(_columns(scores), videos, seed),
        cluster_bootstrap(np.concatenate(scores), videos, seed),
    )


def difference_of_averages(a: Aspects, b: Aspects, seed: int = 0) -> Estimate:
    """The one run's mean of aspects minus the other's, over the questions judged in both.

    Paired question by question, videos drawn jointly over all aspects. None when of an aspect no
    question was judged in both.

    Args:
        a: aspects of the one run.
        b: the same aspects, asked about the same questions, of the other.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the aspects differ, or verdicts are not about the questions (those of `a`).
    """
    if set(a) != set(b):
        raise RedVillmError("runs with different aspects", got=sorted(b), wanted=sorted(a))
    deltas = [
        judge_table(asked, of_a).values[:, 1] - judge_table(asked, b[name][1]).values[:, 1]
        for name, (asked, of_a) in a.items()
    ]
    if not _all_known(deltas):
        return Estimate(None, None, None)
    return bootstrap_mean_of_columns(_columns(deltas), _pooled_videos(a), seed)


def _groups(questions: Sequence[Question]) -> dict[str, Bool[np.ndarray, " Q"]]:
    """Which questions are of each type, in sorted order, and `all`."""
    types = np.asarray([question.type for question in questions], dtype=np.str_)
    groups = {name: types == name for name in sorted(set(types.tolist()) - {"", "all"})}
    return {**groups, "all": np.ones(len(questions), dtype=bool)}


def _all_known(aspects: Sequence[Float[np.ndarray, " _"]]) -> bool:
    """Whether there are aspects, and each has a value at all."""
    return bool(aspects) and all(np.isfinite(values).any() for values in aspects)


def _pooled_videos(aspects: Aspects) -> list[str]:
    """The video of each question, aspect after aspect."""
    return [question.video_id for questions, _ in aspects.values() for question in questions]


def _columns(aspects: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, "Q A"]:
    """The aspects' values below one another, each in a column of its own; NaN elsewhere."""
    aspect = np.repeat(np.arange(len(aspects)), [len(values) for values in aspects])
    inside = aspect[:, None] == np.arange(len(aspects))
    return np.where(inside, np.concatenate(aspects)[:, None], np.nan)


def _score(
    judged: Judged,
    words: Float[np.ndarray, "Q 2"],
    videos: Int[np.ndarray, " Q"],
    inside: Bool[np.ndarray, " Q"],
    seed: int,
) -> TypeScore:
    accuracy, score = bootstrap_columns(judged.values[inside], videos[inside], seed)
    exact, f1 = (column[np.isfinite(column)] for column in words[inside].T)
    outcomes = Counter(judged.failure[i] for i in np.flatnonzero(inside))
    kept, lost = outcomes.pop("ok", 0), outcomes.pop("lost", 0)
    return TypeScore(
        accuracy.mean,
        accuracy.low,
        accuracy.high,
        score.mean,
        score.low,
        score.high,
        float(exact.mean()) if exact.size else None,
        float(f1.mean()) if f1.size else None,
        asked=int(inside.sum()),
        judged=kept,
        lost=lost,
        failures=dict(sorted(outcomes.items())),
        contradictions=int(judged.contradictions[inside].sum()),
    )


def _without_numbers(score: TypeScore) -> TypeScore:
    return replace(
        score,
        accuracy=None,
        low=None,
        high=None,
        score=None,
        score_low=None,
        score_high=None,
        exact=None,
        f1=None,
    )
