"""Statistics against naive loops and numbers worked out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from eval import metrics
from eval.judge import Verdict
from eval.metrics import (
    Question,
    TypeScore,
    cluster_bootstrap,
    paired_difference,
    score_by_type,
    withhold,
)
from features.errors import RedVillmError

Estimated = tuple[float, float, float]


def naive_bootstrap(values: list[float], videos: list[str], seed: int, resamples: int) -> Estimated:
    """The definition, one question at a time; only the draws are numpy's."""
    names = sorted(set(videos))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn: list[float] = []
        for pick in rng.integers(len(names), size=len(names)):
            drawn += [v for v, name in zip(values, videos, strict=True) if name == names[pick]]
        means.append(sum(drawn) / len(drawn))
    means.sort()

    def percentile(share: float) -> float:
        at = share * (len(means) - 1)
        below = means[int(at)]
        return below + (at - int(at)) * (means[min(int(at) + 1, len(means) - 1)] - below)

    return sum(values) / len(values), percentile(0.025), percentile(0.975)


@pytest.mark.parametrize("draws_at_once", [4_000_000, 100])
def test_bootstrap_equals_the_naive_loop(
    monkeypatch: pytest.MonkeyPatch, draws_at_once: int
) -> None:
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", draws_at_once)
    rng = random.Random(3)
    videos = [f"v{rng.randrange(12)}" for _ in range(60)]
    values = [float(rng.random() < 0.3) for _ in videos]
    found = cluster_bootstrap(np.array(values), videos, seed=5, resamples=300)
    wanted = naive_bootstrap(values, videos, seed=5, resamples=300)
    assert (found.mean, found.low, found.high) == pytest.approx(wanted)


def test_interval_covers_the_truth_at_its_rate_when_questions_cluster() -> None:
    rng = np.random.default_rng(0)
    hits = naive_hits = 0
    for trial in range(200):
        right = rng.random(60) < 0.5  # all four questions of a video stand or fall together
        values, videos = np.repeat(right.astype(float), 4), [f"v{i // 4}" for i in range(240)]
        found = cluster_bootstrap(values, videos, seed=trial, resamples=400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
        alone = cluster_bootstrap(values, [str(i) for i in range(240)], trial, 400)
        assert alone.low is not None
        assert alone.high is not None
        naive_hits += alone.low <= 0.5 <= alone.high
    assert 0.90 <= hits / 200 <= 0.99
    assert naive_hits / 200 < 0.80  # what ignoring the clusters would claim


def test_bootstrap_of_little() -> None:
    nothing, one = cluster_bootstrap(np.zeros(0), []), cluster_bootstrap(np.ones(3), ["v"] * 3)
    assert (nothing.mean, nothing.low, nothing.high) == (None, None, None)
    assert (one.mean, one.low, one.high) == (1.0, None, None)


def ok(sample_id: str, correct: bool, f1: float = 0.5) -> Verdict:
    return Verdict(sample_id, "ok", correct, f1, "j/1")


def lost(sample_id: str) -> Verdict:
    return Verdict(sample_id, "lost", None, None, "j/1")


QUESTIONS = [
    Question("1", "a", "temporal"),
    Question("2", "a", "spatial"),
    Question("3", "b", "temporal"),
    Question("4", "c", "temporal"),
]


def test_scores_by_type_over_seeds() -> None:
    first = [ok("1", True), ok("2", True), ok("3", False), lost("4")]
    second = [ok("4", True), ok("3", True, 1.0), ok("2", True), ok("1", True)]  # any order
    scores = score_by_type(QUESTIONS, [first, second])
    assert list(scores) == ["spatial", "temporal", "all"]
    temporal = scores["temporal"]  # question 1: 1; question 3: (0 + 1) / 2; 4 lost in one seed
    assert temporal.accuracy == pytest.approx(75)
    assert temporal.f1 == pytest.approx(100 * (0.5 + 0.75) / 2)
    assert (temporal.low, temporal.high) == (50, 100)
    assert (temporal.asked, temporal.judged, temporal.lost) == (3, 2, 1)
    assert scores["spatial"] == TypeScore(
        100.0, None, None, 50.0, 1, 1, 0
    )  # one video: no interval
    assert scores["all"].accuracy == pytest.approx(100 * 2.5 / 3)
    assert scores["all"].coverage == 0.75


def test_headline_is_withheld_below_the_coverage() -> None:
    scores = score_by_type(QUESTIONS, [[ok("1", True), ok("2", True), ok("3", True), lost("4")]])
    kept, refused = withhold(scores, 0.75)
    assert (kept, refused) == (scores, None)
    bare, refused = withhold(scores, 0.99)
    assert refused == "no accuracy: only 3 of 4 questions were judged (75.0%, wanted 99.0%); 1 lost"
    assert bare["temporal"] == TypeScore(None, None, None, None, 3, 2, 1)
    assert {score.accuracy for score in bare.values()} == {None}


def test_all_lost_is_no_zero() -> None:
    scores = score_by_type(QUESTIONS[:1], [[lost("1")]])
    assert scores["all"] == TypeScore(None, None, None, None, 1, 0, 1)


@pytest.mark.parametrize(
    "verdicts",
    [
        [ok("1", True)],
        [ok("1", True), ok("2", True), ok("3", True), ok("5", True)],
        [ok("1", True), ok("2", True), ok("3", True), ok("4", True), ok("4", False)],
    ],
)
def test_verdicts_about_other_questions_are_refused(verdicts: list[Verdict]) -> None:
    with pytest.raises(RedVillmError, match="questions and verdicts do not match"):
        score_by_type(QUESTIONS, [verdicts])


def test_paired_difference() -> None:
    rng = random.Random(1)
    questions = [Question(str(i), f"v{i // 5}", "t" if i % 2 else "s") for i in range(100)]
    hard = {q.video_id: rng.random() < 0.5 for q in questions}
    a = [ok(q.sample_id, not hard[q.video_id] or rng.random() < 0.2) for q in questions]
    b = [ok(q.sample_id, not hard[q.video_id]) for q in questions]
    b[7] = lost("7")
    found = paired_difference(questions, [a], [b], only="t", seed=2)
    both = [i for i in range(1, 100, 2) if i != 7]
    values = [100.0 * (bool(a[i].correct) - bool(b[i].correct)) for i in both]
    wanted = naive_bootstrap(values, [f"v{i // 5:d}" for i in both], 2, metrics.RESAMPLES)
    assert (found.points, found.low, found.high) == pytest.approx(wanted)
    assert found.questions == 49
    # What makes a video hard for both cancels: much narrower than either run's own interval.
    own = score_by_type(questions, [a])["t"]
    assert own.high is not None
    assert own.low is not None
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low < 0.8 * (own.high - own.low)
