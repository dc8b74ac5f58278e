"""The cluster bootstrap by its definition, one question at a time; only the draws are numpy's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.scores import Estimate

Interval = tuple[float, float, float]


def naive_resamples(videos: Sequence[str], seed: int, resamples: int) -> list[list[int]]:
    """The questions of each resample, one video at a time; only the draws are numpy's."""
    names = sorted(set(videos))
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn: list[int] = []
        for pick in rng.integers(len(names), size=len(names)):
            drawn += [i for i, name in enumerate(videos) if name == names[pick]]
        found.append(drawn)
    return found


def naive_interval(mean: float, drawn: list[float]) -> Interval:
    drawn = sorted(drawn)

    def percentile(share: float) -> float:
        at = share * (len(drawn) - 1)
        below = drawn[int(at)]
        return below + (at - int(at)) * (drawn[min(int(at) + 1, len(drawn) - 1)] - below)

    return mean, percentile(0.025), percentile(0.975)


def naive_bootstrap(
    values: Sequence[float], videos: Sequence[str], seed: int, resamples: int
) -> Interval:
    drawn = naive_resamples(videos, seed, resamples)
    means = [sum(values[i] for i in sample) / len(sample) for sample in drawn]
    return naive_interval(sum(values) / len(values), means)


def numbers(found: Estimate) -> tuple[float | None, float | None, float | None]:
    return found.mean, found.low, found.high
