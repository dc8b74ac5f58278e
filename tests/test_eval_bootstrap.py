"""Intervals by video against a naive loop, and how often they hold."""

from __future__ import annotations

import random

import numpy as np
import pytest
from naive_bootstrap import (
    naive_bootstrap,
    naive_interval,
    naive_resamples,
    numbers,
)

from eval import bootstrap
from eval.bootstrap import (
    bootstrap_columns,
    bootstrap_mean_of_columns,
    cluster_bootstrap,
)
from eval.scores import Estimate

NOTHING = Estimate(None, None, None)


@pytest.mark.parametrize("draws_at_once", [150_000, 100])
def test_bootstrap_equals_the_naive_loop(
    monkeypatch: pytest.MonkeyPatch, draws_at_once: int
) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", draws_at_once)
    rng = random.Random(3)
    videos = [f"v{rng.randrange(12)}" for _ in range(60)]
    values = [float(rng.random() < 0.3) for _ in videos]
    found = cluster_bootstrap(np.array(values), videos, seed=5, resamples=300)
    wanted = naive_bootstrap(values, videos, seed=5, resamples=300)
    assert numbers(found) == pytest.approx(wanted)


def test_columns_with_gaps_share_their_draws_as_in_the_naive_loop() -> None:
    rng = random.Random(4)
    videos = [f"v{rng.randrange(6)}" for _ in range(40)]
    table = np.array([[rng.random(), rng.random()] for _ in videos])
    table[[i for i, video in enumerate(videos) if video > "v1"], 1] = np.nan  # in two videos alone
    table[:3] = np.nan  # nowhere
    kept = range(3, 40)
    first, second = bootstrap_columns(table, videos, seed=2, resamples=200)
    both = bootstrap_mean_of_columns(table, videos, seed=2, resamples=200)

    drawn = naive_resamples([videos[i] for i in kept], 2, 200)
    means: list[list[float]] = [[], []]
    of_both = []
    for sample in drawn:
        of_columns = []
        for column in (0, 1):
            found = [table[kept[i], column] for i in sample]
            found = [value for value in found if value == value]
            if found:  # else this resample has no mean
                of_columns.append(sum(found) / len(found))
                means[column].append(of_columns[-1])
        if len(of_columns) == 2:
            of_both.append(sum(of_columns) / 2)
    assert len(of_both) < 200  # some drew neither of the two videos
    mean = [float(np.nanmean(table[:, column])) for column in (0, 1)]
    assert numbers(first) == pytest.approx(naive_interval(mean[0], means[0]))
    assert numbers(second) == pytest.approx(naive_interval(mean[1], means[1]))
    assert numbers(both) == pytest.approx(naive_interval(sum(mean) / 2, of_both))


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
    assert cluster_bootstrap(np.zeros(0), []) == NOTHING
    assert cluster_bootstrap(np.full(2, np.nan), ["v", "w"]) == NOTHING
    assert cluster_bootstrap(np.ones(3), ["v"] * 3) == Estimate(1.0, None, None)
    lonely = np.array([[1.0, 1.0], [3.0, np.nan]])  # the second column has one video only
    assert bootstrap_columns(lonely, ["v", "w"]) == [
        Estimate(2.0, 1.0, 3.0),
        Estimate(1.0, None, None),
    ]
    assert bootstrap_mean_of_columns(lonely, ["v", "w"]) == Estimate(1.5, None, None)
    lonely[0, 1] = np.nan
    assert bootstrap_mean_of_columns(lonely, ["v", "w"]) == NOTHING
