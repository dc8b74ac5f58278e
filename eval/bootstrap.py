"""Intervals by **cluster bootstrap by video**.

Questions about one video stand or fall together, so they are no independent draws. The method, in
full: a question's value is the mean over the seeds of a run; videos are drawn with replacement, as
many as there are, 2,000 times; a resample's value is the mean over all questions of the drawn
videos; the interval is its 2.5 and 97.5 percentiles. It covers the choice of test videos, not the
choice of seeds.

Several quantities of the same questions are columns of one table and share the drawn videos, so
that what is averaged over them moves together, as it would with other videos. Which videos are
drawn depends on nothing but their number and the seed, so the draws are kept for the next table.

What is said of a recipe, and not of one run of it, has the interval of `eval.crossed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from eval.scores import Estimate

RESAMPLES = 2000
_DRAWS_AT_ONCE = 150_000
"""Drawn videos held in memory at once; few enough to stay in the processor's cache."""


def cluster_bootstrap(
    values: Float[np.ndarray, " Q"],
    clusters: Sequence[str] | Shaped[np.ndarray, " Q"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean of `values` (Q,) with a 95 % percentile interval over resampled clusters.

    Args:
        values: one number a question; NaN where it has none, which leaves it out.
        clusters: the video of each question, of the same length: any names or numbers.
        seed: of the resampling; the same input and seed give the same interval.
        resamples: how many.
    """
    return bootstrap_columns(values[:, None], clusters, seed, resamples)[0]


def bootstrap_columns(
    values: Float[np.ndarray, "Q C"],
    clusters: Sequence[str] | Shaped[np.ndarray, " Q"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """As `cluster_bootstrap` for each of C columns, over the same drawn videos."""
    table = by_cluster(values, clusters)
    means, drawn = column_means(table.sum(axis=0)), _resample(table, seed, resamples)
    known = _has_spread(table)
    return [_estimate(means[c], drawn[:, c], known[c]) for c in range(len(means))]


def bootstrap_mean_of_columns(
    values: Float[np.ndarray, "Q C"],
    clusters: Sequence[str] | Shaped[np.ndarray, " Q"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of the C columns' means: every column counts alike, however many values it has.

    It is None when a column has no value at all.
    """
    table = by_cluster(values, clusters)
    means, drawn = column_means(table.sum(axis=0)), _resample(table, seed, resamples)
    return _estimate(means.mean(), drawn.mean(axis=1), all(_has_spread(table)))


def by_cluster(
    values: Float[np.ndarray, "Q C"],
    clusters: Sequence[str] | Shaped[np.ndarray, " Q"],
) -> Float[np.ndarray, "V W"]:
    """Each cluster's sums (C columns) and counts (C more) of values; only clusters with any."""
    present = np.isfinite(values)
    used = present.any(axis=1)
    names, index = np.unique(np.asarray(clusters)[used], return_inverse=True)
    filled = np.where(present, values, 0.0)[used]
    columns = [*filled.T, *present[used].T.astype(np.float64)]
    summed = [np.bincount(index, weights=column, minlength=len(names)) for column in columns]
    return np.stack(summed, axis=1).astype(np.float64)


def _resample(
    table: Float[np.ndarray, "V W"], seed: int, resamples: int
) -> Float[np.ndarray, "R C"]:
    """Means of R resamples; none of fewer than two clusters, which have no spread."""
    if len(table) < 2:
        return np.empty((0, table.shape[1] // 2))
    return column_means(
        np.concatenate(list(_totals(table, _times_drawn(len(table), seed, resamples))))
    )


def _totals(
    table: Float[np.ndarray, "V W"], times: UInt8[np.ndarray, "R V"]
) -> Iterator[Float[np.ndarray, "r W"]]:
    """Column sums of resampled tables: how often each row was drawn, times the table."""
    chunk = max(1, _DRAWS_AT_ONCE // len(table))
    for start in range(0, len(times), chunk):
        yield times[start : start + chunk].astype(np.float64) @ table


@lru_cache(maxsize=8)
def _times_drawn(size: int, seed: int, resamples: int) -> UInt8[np.ndarray, "R V"]:
    """How often each of `size` clusters is in each resample.

    A byte holds it: that of 256 clusters or more one is drawn 256 times has a chance below 1e-500.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // size)
    times = np.empty((resamples, size), np.uint8)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size)
        times[start : start + rows] = counts.reshape(rows, size)
    times.setflags(write=False)
    return times


def column_means(totals: Float[np.ndarray, "*R W"]) -> Float[np.ndarray, "*R C"]:
    """Sums over counts; NaN where there was nothing to count."""
    sums, counts = np.split(totals, 2, axis=-1)
    means: Float[np.ndarray, "*R C"] = np.full_like(sums, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _has_spread(table: Float[np.ndarray, "V W"]) -> list[bool]:
    """Whether each column has values in two clusters or more."""
    counts = np.split(table, 2, axis=1)[1]
    return [bool(clusters >= 2) for clusters in (counts > 0).sum(axis=0)]


def _estimate(mean: float, drawn: Float[np.ndarray, " R"], known: bool) -> Estimate:
    """A resample that happened to draw no value of a column has no mean and is left out."""
    if not np.isfinite(mean):
        return Estimate(None, None, None)
    drawn = drawn[np.isfinite(drawn)]
    if not known or not drawn.size:
        return Estimate(float(mean), None, None)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(mean), float(low), float(high))
