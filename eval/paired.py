"""Tests and detectable effects of paired differences, whatever they are differences of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

ALPHA, POWER = 0.05, 0.8
MOST_EXACT = 20
"""Pairs up to which all assignments of signs are tried."""
MIN_PAIRS = 6
"""Fewest pairs with which a sign-flip test can fall below `ALPHA`: 2 / 2^5 is 0.0625."""
_DRAWS = 1 << 20
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


def smallest_detectable(differences: Float[np.ndarray, " n"]) -> float | None:
    """True mean difference that a test at 5 % would find with 80 % power; None below two pairs.

    An approximation by the paired t-test, whose power the sign-flip test's comes close to:
    (t(0.975, n - 1) + t(0.8, n - 1)) standard errors, spread as observed.
    """
    from scipy.stats import t  # slow to import, and only studies need it

    n = len(differences)
    if n < 2:
        return None
    quantiles = t.ppf(1 - ALPHA / 2, n - 1) + t.ppf(POWER, n - 1)
    return float(quantiles * differences.std(ddof=1) / np.sqrt(n))


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
