"""Interval of a mean over training runs that all answered the same questions about the same videos.

Such a mean would be another with other runs *and* with other videos. Its variance has two parts:

- over videos, given the runs: each video's contribution to the mean (linearised, as for a ratio of
  sums), squared and summed;
- over runs: the variance of their means within a stratum, pooled over strata, less what of it is
  merely the videos' (a run is luckier in one video than in another), which the first part holds
  already; never below 0.

Half the interval's width is the root of t_runs^2 part_runs + t_videos^2 part_videos, with runs
minus strata and videos minus 1 degrees of freedom. That is the usual t-interval where either part
is all there is. Drawing n runs of n instead, as a bootstrap does, loses 1/n of the runs' variance
and has no t tails: with few runs such an interval covers less than 80 %, and not 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

from eval.bootstrap import by_cluster, column_means
from eval.scores import Estimate

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Crossed:
    """A mean over runs and clusters, with the parts of its variance."""

    mean: float
    strata: tuple[int, ...]
    """Runs of each stratum."""
    clusters: int
    """That there are values of."""
    of_runs: float | None
    """Variance of the mean as the spread of runs shows it; None where no stratum has two."""
    of_clusters: float | None
    """Variance of the mean over clusters, these runs given; None where a column has values in
    fewer than two clusters."""
    of_both: float
    """What is in both: one run is better in this cluster, another in that one."""

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, "runs Q C"],
        clusters: Sequence[str] | Shaped[np.ndarray, " Q"],
        strata: Sequence[str],
        weights: Float[np.ndarray, " C"],
    ) -> Crossed | None:
        """The mean of runs' values; None of no run, or where a run has a column without values.

        Args:
            values: one number a run, question and column; NaN where there is none. A run's value
                is the weighted sum of its columns' means.
            clusters: the video of each question.
            strata: of each run: the base that it was trained on. The interval covers other seeds
                and other videos, not other bases.
            weights: of the columns: `[1.0]`, or `[1.0, -1.0]` for the difference of two.
        """
        runs, questions, columns = values.shape
        if not runs:
            return None
        table = by_cluster(values.transpose(1, 0, 2).reshape(questions, runs * columns), clusters)
        means = column_means(table.sum(axis=0))
        of_runs = means.reshape(runs, columns) @ weights
        if not np.isfinite(of_runs).all():
            return None
        names, sizes = np.unique(np.asarray(strata), return_counts=True)
        groups = [np.flatnonzero(np.asarray(strata) == name) for name in names]
        between = _pooled(of_runs[None], groups)
        sums, counts = np.split(table, 2, axis=1)
        parts = ((sums - means * counts) / counts.sum(axis=0)).reshape(-1, runs, columns) @ weights
        known = len(table) > 1 and bool(((counts > 0).sum(axis=0) > 1).all())
        scale = len(table) / (len(table) - 1) if known else 0.0
        both = _pooled(parts, groups)
        return cls(
            float(of_runs.mean()),
            tuple(int(size) for size in sizes),
            len(table),
            None if between is None else float(between[0] / runs),
            float(scale * (parts.mean(axis=1) ** 2).sum()) if known else None,
            0.0 if both is None else float(scale * both.sum() / runs),
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread of runs."""
        return sum(self.strata) - len(self.strata)

    @property
    def interval(self) -> Estimate:
        """The mean with its 95 % interval; over clusters alone where no stratum has two runs."""
        if self.of_clusters is None:
            return Estimate(self.mean, None, None)
        spread = np.array([0.0 if self.of_runs is None else self.of_runs])
        half = float(self.half_widths(spread)[0])
        return Estimate(self.mean, self.mean - half, self.mean + half)

    def half_widths(self, of_runs: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
        """Half the interval's width if the spread of runs were another, the rest as it is."""
        over_clusters = _quantile(self.clusters - 1) ** 2 * (self.of_clusters or 0.0)
        squared = np.full(len(of_runs), over_clusters)
        if self.freedom:
            own = np.maximum(of_runs - self.of_both, 0.0)
            squared += _quantile(self.freedom) ** 2 * own
        half: Float[np.ndarray, " R"] = np.sqrt(squared)
        return half


@lru_cache(maxsize=64)
def _quantile(freedom: int) -> float:
    from scipy.stats import t  # slow to import, and only studies need it

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


def _pooled(
    values: Float[np.ndarray, "V runs"], groups: Sequence[np.ndarray]
) -> Float[np.ndarray, " V"] | None:
    """Variance within groups, one for all of them; None where none has two members."""
    freedom = values.shape[1] - len(groups)
    if not freedom:
        return None
    squares = np.stack([values[:, at].var(axis=1) * len(at) for at in groups])
    pooled: Float[np.ndarray, " V"] = squares.sum(axis=0) / freedom
    return pooled
