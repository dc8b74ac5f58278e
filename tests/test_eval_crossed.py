"""The interval over runs and videos: naive loops, hand sums, and how often it covers the truth."""

from __future__ import annotations

import random
import statistics

import numpy as np
import pytest
from naive_bootstrap import naive_crossed, naive_resamples, numbers
from scipy.stats import t

from eval.crossed import Crossed
from eval.paired import ALPHA, MIN_PAIRS, sign_flip, smallest_detectable
from eval.scores import Estimate

ONE = np.array([1.0])
VIDEOS = 40
TWICE = np.repeat(np.arange(VIDEOS), 2)
"""Two questions about each video."""
SPREADS = {"seeds": (1.0, 0.3, 0.5), "videos": (0.3, 6.0, 1.0), "neither": (0.0, 0.0, 6.0)}
"""Standard deviations between runs, between videos and of single answers."""
STUDIES = [("a", "b") * 5, ("a", "b") * 3, ("a",) * 3]


def answers(
    rng: np.random.Generator, strata: tuple[str, ...], spreads: tuple[float, float, float]
) -> np.ndarray:
    """Runs of a recipe that is as good as another: values around 0."""
    of_run, of_video, single = spreads
    runs = rng.normal(0, of_run, (len(strata), 1))
    videos = rng.normal(0, of_video, VIDEOS)[TWICE]
    return runs + videos + rng.normal(0, single, (len(strata), 2 * VIDEOS))


def crossed(values: np.ndarray, strata: tuple[str, ...]) -> Crossed:
    found = Crossed.of(values[:, :, None], TWICE, strata, ONE)
    assert found is not None
    return found


def test_the_interval_is_that_of_the_naive_loop() -> None:
    rng = random.Random(6)
    videos = [f"v{rng.randrange(9)}" for _ in range(40)]
    strata = ["b", "a", "a", "b", "a"]
    for step in (0.0, 0.4):  # between runs of a base: nothing, and a lot
        values = [[rng.random() + step * run for _ in videos] for run in range(5)]
        found = Crossed.of(np.array(values)[:, :, None], videos, strata, ONE)
        assert found is not None
        assert (found.strata, found.clusters, found.freedom) == ((3, 2), len(set(videos)), 3)
        assert numbers(found.interval) == pytest.approx(naive_crossed(values, videos, strata))


def test_columns_with_gaps_and_weights_move_over_videos_as_a_bootstrap_says() -> None:
    rng = random.Random(7)
    videos = [f"v{rng.randrange(60)}" for _ in range(300)]
    table = np.array([[[rng.random(), rng.random()] for _ in videos] for _ in range(3)])
    table[1, ::7, 0] = table[:, ::2, 1] = np.nan
    found = Crossed.of(table, videos, ["a", "a", "b"], np.array([1.0, -1.0]))
    assert found is not None

    def difference(questions: list[int]) -> float:
        means = [[float(np.nanmean(table[r, questions, c])) for c in (0, 1)] for r in range(3)]
        return statistics.fmean(first - second for first, second in means)

    assert found.mean == pytest.approx(difference(list(range(300))))
    drawn = [difference(questions) for questions in naive_resamples(videos, 4, 500)]
    assert found.of_clusters is not None
    assert found.of_clusters**0.5 == pytest.approx(statistics.stdev(drawn), rel=0.1)


def test_where_one_part_is_all_there_is_it_is_the_usual_t_interval() -> None:
    runs, videos = np.array([1.0, 4.0, 7.0]), np.array([0.0, 2.0, 4.0, 10.0])
    by_run = Crossed.of(np.repeat(runs, 4).reshape(3, 4, 1), list("wxyz"), ["a"] * 3, ONE)
    half = 4.302653 * 3 / 3**0.5  # t(2) by table; sd 3
    assert by_run is not None
    assert numbers(by_run.interval) == pytest.approx((4, 4 - half, 4 + half), abs=1e-5)
    by_video = Crossed.of(np.tile(videos, 3).reshape(3, 4, 1), list("wxyz"), ["a"] * 3, ONE)
    half = 3.182446 * statistics.stdev([0, 2, 4, 10]) / 2  # t(3) by table
    assert by_video is not None
    assert numbers(by_video.interval) == pytest.approx((4, 4 - half, 4 + half), abs=1e-5)


def test_bases_may_differ_and_single_runs_of_them_have_an_interval_over_videos_alone() -> None:
    alike = np.ones((1, 6, 1))
    videos = [f"v{i}" for i in range(6)]
    bases = np.concatenate([0 * alike, 100 * alike])
    apart = Crossed.of(bases, videos, ["a", "b"], ONE)
    assert apart is not None
    assert (apart.of_runs, apart.interval) == (None, Estimate(50.0, 50.0, 50.0))
    together = Crossed.of(bases, videos, ["a", "a"], ONE)
    assert together is not None
    half = 12.706205 * 50  # t(1) by table; sd 50 sqrt 2 of two
    assert numbers(together.interval) == pytest.approx((50, 50 - half, 50 + half))
    one = Crossed.of(np.arange(6.0)[None, :, None], videos, ["a"], ONE)
    assert one is not None
    half = 2.570582 * (3.5 / 6) ** 0.5  # t(5) by table; variance of 0..5 is 3.5
    assert numbers(one.interval) == pytest.approx((2.5, 2.5 - half, 2.5 + half), abs=1e-5)


def test_a_run_that_is_there_twice_adds_nothing_between_runs() -> None:
    one = answers(np.random.default_rng(1), ("a",), (1.0, 1.0, 1.0))
    alone, twice = crossed(one, ("a",)), crossed(np.concatenate([one, one]), ("a", "a"))
    assert numbers(alone.interval) == pytest.approx(numbers(twice.interval))


def test_crossed_of_little() -> None:
    assert Crossed.of(np.zeros((0, 3, 1)), ["v"] * 3, [], ONE) is None
    assert Crossed.of(np.full((2, 2, 1), np.nan), ["v", "w"], ["a", "a"], ONE) is None
    one_video = Crossed.of(np.ones((2, 3, 1)), ["v"] * 3, ["a", "a"], ONE)
    assert one_video is not None
    assert one_video.interval == Estimate(1.0, None, None)
    lonely = np.array([[[1.0, 1.0], [3.0, np.nan]]] * 2)  # one column has one video only
    second = Crossed.of(lonely, ["v", "w"], ["a", "a"], np.array([0.5, 0.5]))
    assert second is not None
    assert second.interval == Estimate(1.5, None, None)


@pytest.mark.parametrize("strata", STUDIES, ids=len)
@pytest.mark.parametrize("spreads", SPREADS)
def test_the_interval_covers_the_truth_at_its_rate(strata: tuple[str, ...], spreads: str) -> None:
    rng, hits, trials = np.random.default_rng(3), 0, 1000
    for _ in range(trials):
        found = crossed(answers(rng, strata, SPREADS[spreads]), strata).interval
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / trials <= 0.98


def test_two_equally_good_recipes_differ_by_p_on_shared_videos_and_not_by_the_interval() -> None:
    rng, strata, trials = np.random.default_rng(4), STUDIES[0], 500
    by_p = by_both = 0
    for _ in range(trials):
        values = answers(rng, strata, (0.5, 3.0, 3.0))
        found = crossed(values, strata).interval
        small = sign_flip(values.mean(axis=1)) < ALPHA
        by_p += small
        by_both += small and bool(found.excludes_zero)
    assert by_p / trials > 0.12
    assert by_both / trials < 0.06


@pytest.mark.parametrize("strata", [STUDIES[0], STUDIES[1], ("a",) * 12], ids=len)
@pytest.mark.parametrize("spreads", [*SPREADS, "all"])
def test_of_the_smallest_detectable_difference_eighty_in_a_hundred_are_found(
    strata: tuple[str, ...], spreads: str
) -> None:
    rng, trials = np.random.default_rng(5), 300
    wide = SPREADS.get(spreads, (1.0, 4.0, 5.0))
    studies = [answers(rng, strata, wide) for _ in range(2 * trials)]
    said = [smallest_detectable(one.mean(axis=1), crossed(one, strata)) for one in studies[:trials]]
    true = statistics.fmean(one**2 for one in said if one is not None) ** 0.5
    found = 0
    for values in studies[trials:]:
        interval = crossed(values + true, strata).interval
        assert interval.low is not None
        found += sign_flip((values + true).mean(axis=1)) < ALPHA and interval.low > 0
    assert 0.73 <= found / trials <= 0.87


def test_six_pairs_have_to_be_all_above_nothing_with_eighty_percent_probability() -> None:
    # No videos' part at all. All six above 0: Phi(d)^6 = 0.8 gives d = 1.79 sd; the interval,
    # drawn naively, asks for as much or more.
    rng, n = np.random.default_rng(6), MIN_PAIRS
    sure = Crossed(0.0, (n,), VIDEOS, 1.0, 0.0, 0.0)
    unit = np.array([1.0, -1.0] * 3) * (5 / 6) ** 0.5  # sd 1
    found = smallest_detectable(unit, sure)
    assert found is not None
    drawn = rng.normal(found, 1, (20_000, n))
    low = drawn.mean(axis=1) - t.ppf(0.975, n - 1) * drawn.std(axis=1, ddof=1) / n**0.5
    assert np.mean((drawn.min(axis=1) > 0) & (low > 0)) == pytest.approx(0.8, abs=0.02)
    assert found >= 1.77


def test_nothing_is_detectable_where_nothing_can_be_found() -> None:
    five = Crossed(0.0, (5,), VIDEOS, 1.0, 1.0, 0.0)
    assert smallest_detectable(np.arange(5.0), five) is None
    one_video = Crossed(0.0, (6,), 1, 1.0, None, 0.0)
    assert smallest_detectable(np.arange(6.0), one_video) is None
    alike = Crossed(2.5, (6,), VIDEOS, 0.0, 0.0, 0.0)
    assert smallest_detectable(np.full(6, 2.5), alike) == 0.0
