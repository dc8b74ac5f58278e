"""Tests of paired differences against naive loops, another library and their own error rates."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter

import numpy as np
import pytest
from scipy.stats import permutation_test

from eval.paired import ALPHA, MIN_PAIRS, holm, sign_flip, smallest_p


def naive_sign_flip(differences: list[float]) -> float:
    observed = abs(statistics.fmean(differences))
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    means = [
        abs(statistics.fmean(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in flips
    ]
    return sum(mean >= observed - 1e-12 for mean in means) / len(flips)


@pytest.mark.parametrize("n", [2, 3, 6, 10])
def test_sign_flip_equals_the_naive_loop_and_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.5, 3.0):
        differences = rng.normal(shift, size=n)
        found = sign_flip(differences)
        assert found == pytest.approx(naive_sign_flip(differences.tolist()))
        assert found >= smallest_p(n)
        theirs = permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert found == pytest.approx(theirs.pvalue)


def test_five_pairs_on_one_side_are_not_enough_and_six_are() -> None:
    assert sign_flip(np.array([3.0, 1.0, 2.0, 0.5, 9.0])) == 2 / 32
    assert smallest_p(5) == 2 / 32 > ALPHA
    assert sign_flip(-np.arange(1.0, 7.0)) == 2 / 64 == smallest_p(MIN_PAIRS)
    assert smallest_p(MIN_PAIRS) < ALPHA < smallest_p(MIN_PAIRS - 1)
    assert sign_flip(np.array([4.0])) == smallest_p(1) == smallest_p(0) == 1.0


def test_zeros_are_kept_and_change_nothing_but_the_number_of_assignments() -> None:
    assert sign_flip(np.zeros(7)) == 1.0
    assert sign_flip(np.array([1.0, 2.0, 3.0, 0.0])) == 2 * 2 / 16
    assert sign_flip(np.zeros(0)) == 1.0


def test_sums_that_are_equal_but_for_rounding_count_as_equal() -> None:
    # 0.1 + 0.2 is not 0.3 in binary: exactly, 0.1 + 0.2 - 0.3 is 0 and every sum is as far from it.
    assert sign_flip(np.array([0.1, 0.2, -0.3])) == 1.0
    tenths = np.array([0.1, 0.7, 0.2, -0.4, 0.3, 0.6])
    assert sign_flip(tenths) == naive_sign_flip([1, 7, 2, -4, 3, 6])


def test_beyond_twenty_pairs_a_draw_comes_close_to_the_exact_p_and_is_never_zero() -> None:
    differences = [3, -1, 2, 2, -4, 1, 5, -2, 3, 1, -1, 2, 4, -3, 1, 2, -2, 3, 1, 1, 2, -1]
    sums = Counter({0: 1})  # of how many of the 2^22 assignments
    for difference in differences:
        grown: Counter[int] = Counter()
        for total, count in sums.items():
            grown[total + difference] += count
            grown[total - difference] += count
        sums = grown
    far = sum(count for total, count in sums.items() if abs(total) >= abs(sum(differences)))
    drawn = sign_flip(np.array(differences, dtype=np.float64))
    assert drawn == pytest.approx(far / 2**22, abs=0.001)
    assert drawn == sign_flip(np.array(differences, dtype=np.float64))
    assert 0 < sign_flip(np.ones(40)) < 1e-5


def test_under_no_difference_five_in_a_hundred_are_found() -> None:
    rng = np.random.default_rng(1)
    found = [sign_flip(rng.normal(size=10)) < ALPHA for _ in range(600)]
    assert 0.02 <= np.mean(found) <= 0.08


def test_holm_by_hand() -> None:
    # In order: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before.
    adjusted = holm([0.01, 0.04, None, 0.03, 0.005])
    assert [a for a in adjusted if a is not None] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted[2] is None
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []
