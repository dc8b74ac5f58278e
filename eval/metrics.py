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

__all__ = [
    "Overlap",
    "Question",
    "agreement",
    "average_aspects",
    "macro_accuracy",
    "named_types",
    "overlaps",
    "paired_difference",
    "score_by_type",
    "withhold",
]


def named_types(questions: Sequence[Question], type_names: Sequence[str]) -> list[Question]:
    """Give numeric types their names, by number from 0; text and unknown numbers stay."""
    names = {str(number): name for number, name in enumerate(type_names)}
    return [replace(q, type=names.get(q.type, q.type)) for q in questions]


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
    types = np.asarray([question.type for question in questions])
    groups = {name: types == name for name in sorted(set(types.tolist()) - {"", "all"})}
    groups["all"] = np.ones(len(questions), dtype=bool)
    return {name: _score(judged, words, videos, inside, seed) for name, inside in groups.items()}


def macro_accuracy(scores: Mapping[str, TypeScore]) -> float | None:
    """Mean of the types' accuracies: every type counts alike.

    None without types, and when one has no accuracy: a mean of the others would be another number.
    """
    found = [score.accuracy for name, score in scores.items() if name != "all"]
    known = [accuracy for accuracy in found if accuracy is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


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
    bare = {name: _without_numbers(score) for name, score in scores.items()}
    missing = [f"{total.lost} lost", *(f"{n} {outcome}" for outcome, n in total.failures.items())]
    return bare, (
        f"no score: only {total.judged} of {total.asked} questions were judged "
        f"({total.coverage:.1%}, wanted {min_coverage:.1%}); {', '.join(missing)}"
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
        run_a: verdicts of each seed of the one about one aspect.
        run_b: verdicts of each seed of the other about the same.
        only: only questions of this type.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the verdicts are not about these questions.
    """
    delta = judge_table(questions, run_a).values - judge_table(questions, run_b).values
    inside = np.asarray([only is None or q.type == only for q in questions], dtype=bool)
    inside &= np.isfinite(delta).any(axis=1)
    points, score = bootstrap_columns(delta[inside], video_index(questions)[inside], seed)
    return Difference(
        points.mean, points.low, points.high, score.mean, score.low, score.high, int(inside.sum())
    )


def average_aspects(
    aspects: Mapping[str, tuple[Sequence[Question], Sequence[Sequence[Verdict]]]], seed: int = 0
) -> Averages:
    """The two means over several aspects of one run; their questions are about the same videos.

    A resample draws videos once and takes all that every aspect asked about them. Both means are
    None when an aspect has no judged question.

    Args:
        aspects: by name, what was asked and the verdicts of each seed.
        seed: of the bootstrap.

    Raises:
        RedVillmError: the verdicts of an aspect are not about its questions.
    """
    scores = [judge_table(*pair).values[:, 1] for pair in aspects.values()]
    if not scores or not all(np.isfinite(of_aspect).any() for of_aspect in scores):
        unknown = Estimate(None, None, None)
        return Averages(unknown, unknown)
    videos = [question.video_id for questions, _ in aspects.values() for question in questions]
    pooled = np.concatenate(scores)
    aspect = np.repeat(np.arange(len(scores)), [len(of_aspect) for of_aspect in scores])
    columns = np.where(aspect[:, None] == np.arange(len(scores)), pooled[:, None], np.nan)
    return Averages(
        bootstrap_mean_of_columns(columns, videos, seed), cluster_bootstrap(pooled, videos, seed)
    )


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
