"""Bootstrap and t-interval by their definitions, one question at a time; the draws are numpy's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

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


def naive_crossed(
    values: Sequence[Sequence[float]], videos: Sequence[str], strata: Sequence[str]
) -> Interval:
    """Mean of runs with the t-interval of eval/crossed.py, a run and a video at a time."""
    runs, names, bases = range(len(values)), sorted(set(videos)), sorted(set(strata))
    means = [statistics.fmean(run) for run in values]

    def within(numbers: Sequence[float]) -> float:
        squares = 0.0
        for base in bases:
            own = [numbers[run] for run in runs if strata[run] == base]
            squares += sum((number - statistics.fmean(own)) ** 2 for number in own)
        return squares / (len(values) - len(bases))

    of_videos = of_both = 0.0
    for name in names:
        at = [i for i, video in enumerate(videos) if video == name]
        moved = [sum(values[r][i] - means[r] for i in at) / len(videos) for r in runs]
        share = len(names) / (len(names) - 1)
        of_videos += share * statistics.fmean(moved) ** 2
        of_both += share * within(moved) / len(values)
    of_runs = max(0.0, within(means) / len(values) - of_both)
    free = t.ppf(0.975, len(values) - len(bases)), t.ppf(0.975, len(names) - 1)
    half = math.hypot(free[0] * math.sqrt(of_runs), free[1] * math.sqrt(of_videos))
    mean = statistics.fmean(means)
    return mean, mean - half, mean + half
