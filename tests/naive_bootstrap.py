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


def naive_runs_drawn(strata: Sequence[str], seed: int, resamples: int) -> list[list[int]]:
    """The runs of each resample, a stratum at a time; only the draws are numpy's."""
    rng = np.random.default_rng([seed, 1])
    found: list[list[int]] = [[] for _ in range(resamples)]
    for stratum in sorted(set(strata)):
        runs = [run for run, name in enumerate(strata) if name == stratum]
        for drawn in found:
            times = rng.multinomial(len(runs), [1 / len(runs)] * len(runs))
            drawn += [run for run, often in zip(runs, times, strict=True) for _ in range(often)]
    return found


def naive_crossed(
    values: Sequence[Sequence[float]],
    videos: Sequence[str],
    strata: Sequence[str],
    seed: int,
    resamples: int,
) -> Interval:
    """Runs and videos drawn anew: the mean over drawn runs of their means over drawn videos."""
    questions = naive_resamples(videos, seed, resamples)
    means = []
    for runs, drawn in zip(naive_runs_drawn(strata, seed, resamples), questions, strict=True):
        of_runs = [sum(values[run][i] for i in drawn) / len(drawn) for run in runs]
        means.append(sum(of_runs) / len(of_runs))
    mean = sum(sum(run) / len(run) for run in values) / len(values)
    return naive_interval(mean, means)
