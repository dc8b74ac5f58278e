"""Tests and detectable effects of paired differences, whatever they are differences of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from eval.crossed import Crossed

ALPHA, POWER = 0.05, 0.8
MOST_EXACT = 20
"""Pairs up to which all assignments of signs are tried."""
MIN_PAIRS = 6
"""Fewest pairs with which a sign-flip test can fall below `ALPHA`: 2 / 2^5 is 0.0625."""
_DRAWS = 1 << 20
_STUDIES = 4000
"""Made up for `smallest_detectable`."""
_MOST_SUBSETS = 10
"""Pairs up to which all their subsets are looked at in each of those."""
_ROUNDING = 1e-9
"""Of the sum of absolute differences: sums that are equal but for rounding count as equal."""


def sign_flip(differences: Float[np.ndarray, " n"], seed: int = 0) -> float:
    """Two-sided p of the sign-flip (randomisation) test of the mean of paired differences.

    If neither side of a pair were better, each difference could as well have had the other sign. p
    is the share of all 2^n assignments of signs whose mean is as far from 0 as the observed one;
    the observed one and its mirror image are among them. Zeros are kept. Beyond 20 pairs 2^20
    assignments are drawn, and the observed one counts as one more, so that p is never 0 (Phipson
    and Smyth 2010).

    Args:
        differences: (n,), finite.
        seed: of the drawing, beyond 20 pairs.
    """
    exact = len(differences) <= MOST_EXACT
    sums = _all_sums(differences) if exact else _drawn_sums(differences, seed)
    observed = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    hits = int((np.abs(sums) >= observed).sum())
    return hits / len(sums) if exact else (hits + 1) / (len(sums) + 1)


def smallest_p(pairs: int) -> float:
    """The least p that a sign-flip test of so many pairs can have."""
    return min(1.0, 2.0 ** (1 - pairs))


def smallest_detectable(differences: Float[np.ndarray, " n"], crossed: Crossed) -> float | None:
    """True mean difference that would be called better with 80 % power; None below `MIN_PAIRS`.

    Better is what has p < 0.05 in the sign-flip test *and* an interval above 0. Pairs are drawn
    from normal distributions as wide as observed, around a mean that videos move for all of them
    alike; then each draw has a least difference that satisfies both, and 80 % of these lie below
    what is returned. Beyond 10 pairs the sign-flip test is approximated by the t-test.

    Args:
        differences: (n,), one a pair.
        crossed: their mean and interval, of as many runs.
    """
    n = len(differences)
    if n < MIN_PAIRS or crossed.of_clusters is None:
        return None
    drawn, sd = _draws(crossed.strata), differences.std(ddof=1)
    half = crossed.half_widths(sd**2 * drawn.within / n)
    together = np.sqrt(max(crossed.of_clusters - crossed.of_both, 0.0)) * drawn.together
    needed = np.maximum(sd * drawn.for_p, half - sd * drawn.means) - together
    return max(0.0, float(np.quantile(needed, POWER)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p adjusted for their number, by Holm (1979); what is None stays so and is not counted."""
    known = sorted((p, at) for at, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[at] = least
    return adjusted


def _all_sums(differences: Float[np.ndarray, " n"]) -> Float[np.ndarray, " S"]:
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def _drawn_sums(differences: Float[np.ndarray, " n"], seed: int) -> Float[np.ndarray, " S"]:
    rng, sums = np.random.default_rng(seed), np.zeros(_DRAWS)
    for difference in differences:
        sums += np.where(rng.integers(2, size=_DRAWS) == 1, difference, -difference)
    return sums


@dataclass(frozen=True)
class _Draws:
    """Made-up studies of so many pairs, in units of the pairs' standard deviation."""

    means: Float[np.ndarray, " S"]
    within: Float[np.ndarray, " S"]
    """Variance within strata, pooled."""
    for_p: Float[np.ndarray, " S"]
    """What has to be added to every pair for p < `ALPHA` with a mean above 0."""
    together: Float[np.ndarray, " S"]
    """Standard normal: what moves all pairs alike."""


@lru_cache(maxsize=8)
def _draws(strata: tuple[int, ...]) -> _Draws:
    """`_STUDIES` of them, the same for every claim of as many pairs."""
    rng, n = np.random.default_rng(0), sum(strata)
    pairs, together = rng.normal(size=(_STUDIES, n)), rng.normal(size=_STUDIES)
    squares = np.zeros(_STUDIES)
    for part in np.split(pairs, np.cumsum(strata)[:-1], axis=1):
        squares += part.var(axis=1) * part.shape[1]
    within = squares / max(1, n - len(strata))
    return _Draws(pairs.mean(axis=1), within, _shift_for_p(pairs), together)


def _shift_for_p(pairs: Float[np.ndarray, "S n"]) -> Float[np.ndarray, " S"]:
    """What has to be added to every difference for the sign-flip test to fall below `ALPHA`.

    An assignment of signs is as far from 0 as the observed one if the pairs it turns round sum to
    0 or less (or it is the mirror image of such a one). Shifted by s, k pairs with the mean m sum
    to k (m + s): they count while s <= -m. p counts them all, and those who turn none.
    """
    n = pairs.shape[1]
    if n > _MOST_SUBSETS:
        from scipy.stats import t  # slow to import, and only studies need it

        errors = pairs.std(axis=1, ddof=1) / np.sqrt(n)
        shift: Float[np.ndarray, " S"] = t.ppf(1 - ALPHA / 2, n - 1) * errors - pairs.mean(axis=1)
        return shift
    subsets = np.arange(1, 1 << n)[:, None] >> np.arange(n) & 1
    means = pairs @ (subsets / subsets.sum(axis=1, keepdims=True)).T
    allowed = math.ceil(ALPHA * 2 ** (n - 1)) - 2  # beside the one that turns none round
    return np.partition(-means, -1 - allowed, axis=1)[:, -1 - allowed]
