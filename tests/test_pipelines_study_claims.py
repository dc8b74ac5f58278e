"""Verdicts about made-up pairs of runs, one for each rule."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from naive_bootstrap import naive_crossed, numbers

from pipelines.study import claims
from pipelines.study.claims import decide, method, rule
from pipelines.study.recipe import ClaimConfig
from pipelines.study.values import MEASURES, Asked, CellValues

VIDEOS = 40
QA = Asked.of(
    tuple(
        ("demo", f"v{number // 4:02d}", "test", "qa", f"q{number:03d}", type_)
        for number in range(4 * VIDEOS)
        for type_ in [("temporal", "spatial", "temporal", "colour")[number % 4]]
    )
)
SOME, OTHERS = (70, 72.5, 75, 71.25, 80, 73.75), (60, 61.25, 60, 65, 62.5, 60)
TEMPORAL = np.arange(4 * VIDEOS) % 2 == 0
FIVE = Asked.of(
    tuple(
        ("bench", f"v{number:02d}", split, aspect, f"{split}{number:02d}", "")
        for split, aspects in {
            "generic": ("correctness", "detail", "context"),
            "temporal": ("temporal",),
            "pairs": ("consistency",),
        }.items()
        for aspect in aspects
        for number in range(VIDEOS)
    )
)
CLAIM = ClaimConfig("c", "one is better", "more", "less")
CLOSE = ClaimConfig("c", "one is as good", "more", "less", kind="close", margin=5.0)


def row(
    temporal: Sequence[float], content: float = 50.0, bases: Sequence[str] = ("a", "b")
) -> dict[tuple[str, int], CellValues]:
    """A run for each number: so many percent of the temporal questions right, evenly spread."""
    found = {}
    for number, percent in enumerate(temporal):
        values = np.where(
            TEMPORAL, _right(percent, TEMPORAL.sum())[np.cumsum(TEMPORAL) - 1], np.nan
        )
        others = _right(content, (~TEMPORAL).sum())[np.cumsum(~TEMPORAL) - 1]
        values = np.where(TEMPORAL, values, others)
        base = bases[number * len(bases) // len(temporal)]
        found[base, number] = CellValues(QA, values, {}, 1.0)
    return found


def _right(percent: float, count: int) -> np.ndarray:
    at = np.arange(count)
    return 100.0 * (np.floor((at + 1) * percent / 100) > np.floor(at * percent / 100))


def test_the_made_up_rows_score_what_they_say() -> None:
    cell = row([65.0])["a", 0]
    means = {m: QA.contrasts[m].mean(cell.values) for m in MEASURES["qa"]}
    assert means == pytest.approx({"temporal": 65.0, "content": 50.0, "all": 57.5})


def test_better_in_six_pairs_of_six_holds() -> None:
    more, less = row(SOME), row(OTHERS)
    found = decide(CLAIM, more, less, "qa")
    assert found.verdict == "holds"
    assert found.p == 2 / 64
    assert list(found.pairs) == [
        *(("a", seed) for seed in (0, 1, 2)),
        *(("b", s) for s in (3, 4, 5)),
    ]
    wanted = [10, 11.25, 15, 6.25, 17.5, 13.75]
    assert list(found.pairs.values()) == pytest.approx(wanted)
    assert found.difference.mean == pytest.approx(statistics.fmean(wanted))
    assert found.difference.low is not None
    assert found.difference.low > 0
    assert found.smallest_detectable is not None
    assert found.smallest_detectable > 1.77 * statistics.stdev(wanted)  # Phi(1.79)^6 = 0.8
    assert found.reasons == ()


def test_the_interval_of_a_claim_is_that_of_the_naive_loop_over_runs_and_videos() -> None:
    more, less = row(SOME), row(OTHERS)
    found = decide(CLAIM, more, less, "qa")
    deltas = [(more[key].values - less[key].values)[TEMPORAL].tolist() for key in more]
    videos = [f"{number // 2:02d}" for number in range(2 * VIDEOS)]
    wanted = naive_crossed(deltas, videos, ["a"] * 3 + ["b"] * 3)
    assert numbers(found.difference) == pytest.approx(wanted)


def test_worse_in_six_pairs_of_six_does_not_hold() -> None:
    found = decide(CLAIM, row([60] * 6), row([70, 72, 75, 71, 80, 74]), "qa")
    assert (found.verdict, found.p) == ("does not hold", 2 / 64)
    assert found.difference.mean is not None
    assert found.difference.mean < 0


def test_an_advantage_that_the_interval_excludes_does_not_hold_whatever_p_says() -> None:
    same = row([60] * 6)
    found = decide(CLAIM, same, same, "qa")
    assert (found.verdict, found.p) == ("does not hold", 1.0)
    assert numbers(found.difference) == (0.0, 0.0, 0.0)
    few = row([60] * 3)
    found = decide(CLAIM, few, few, "qa")
    assert found.verdict == "does not hold"  # of three pairs, by the interval


def test_two_identical_pairs_decide_nothing() -> None:
    same = row([60] * 2)
    for claim in (CLAIM, CLOSE):
        found = decide(claim, same, same, "qa")
        assert found.verdict == "undecided"
        assert found.reasons[-1] == "The interval of fewer than 3 pairs decides nothing."


def test_five_pairs_on_one_side_are_undecided_and_say_why() -> None:
    found = decide(CLAIM, row([80] * 5), row([60, 61, 62, 63, 64]), "qa")
    assert (found.verdict, found.p) == ("undecided", 2 / 32)
    assert found.reasons == (
        "5 pairs: the sign-flip test cannot fall below p = 0.0625, and 0.05 is wanted.",
    )


def peculiar(shift: float, videos: int) -> dict[tuple[str, int], CellValues]:
    """Six runs that are better in the temporal questions of so many videos, and in no others."""
    base = row([60] * 6)
    at = TEMPORAL & (np.arange(4 * VIDEOS) // 4 < videos)
    return {
        key: CellValues(QA, cell.values + np.where(at, shift + key[1], 0.0), {}, 1.0)
        for key, cell in base.items()
    }


def test_what_two_videos_of_forty_say_of_six_pairs_is_no_verdict() -> None:
    for shift, sign in ((60.0, 1), (-90.0, -1)):
        found = decide(CLAIM, peculiar(shift, videos=2), row([60] * 6), "qa")
        assert (found.verdict, found.p) == ("undecided", 2 / 64)
        assert found.difference.mean is not None
        assert found.difference.mean * sign > 1
        assert found.difference.excludes_zero is False
        assert found.reasons == (
            "p is below 0.05 on these videos; over other videos the sign is open.",
        )
    assert decide(CLAIM, peculiar(60.0, videos=30), row([60] * 6), "qa").verdict == "holds"


def test_an_advantage_that_is_sure_and_smaller_than_a_point_says_so() -> None:
    less = row([60] * 6)
    more = {key: CellValues(QA, cell.values + 0.5, {}, 1.0) for key, cell in less.items()}
    found = decide(CLAIM, more, less, "qa")
    assert (found.verdict, found.p) == ("holds", 2 / 64)
    assert found.reasons == ("The difference is smaller than 1 point.",)


def test_one_pair_has_an_interval_over_videos_alone_and_says_so() -> None:
    found = decide(CLAIM, row([70], bases=["a"]), row([60], bases=["a"]), "qa")
    assert found.difference.low is not None
    assert found.smallest_detectable is None
    assert found.reasons == (
        "1 pair: the sign-flip test cannot fall below p = 1, and 0.05 is wanted.",
        "No base has two pairs: the interval covers other videos alone.",
        "The interval of fewer than 3 pairs decides nothing.",
    )


def test_questions_that_a_benchmark_has_not_are_not_called_unjudged() -> None:
    plain = Asked.of(tuple((*key[:5], "motion") for key in QA.keys))
    runs = {("a", seed): CellValues(plain, np.full(160, 100.0), {}, 1.0) for seed in range(6)}
    found = decide(CLAIM, runs, runs, "qa")
    assert (found.verdict, found.pairs) == ("undecided", {})
    assert found.reasons == ("The benchmark has no such questions.",)
    content = ClaimConfig("c", "", "more", "less", measure="content")
    assert decide(content, runs, runs, "qa").verdict == "does not hold"
    found = decide(content, runs, runs, "five")
    assert found.reasons == (
        "Its split is judged in another way than the study's, which has another unit.",
    )


def test_temporal_relations_are_temporal_and_whatever_else_there_is_content() -> None:
    types = ["motion", "spatial relation", "temporal relation", "yes/no", "temporal", "tempo"]
    asked = Asked.of(tuple(("anet", "v", "test", "qa", f"q{i}", t) for i, t in enumerate(types)))
    values = np.arange(6.0)
    means = {m: asked.contrasts[m].mean(values) for m in MEASURES["qa"]}
    assert means == {"temporal": 3.0, "content": 9 / 4, "all": 2.5}


def test_what_is_tested_is_said_in_words_whatever_the_sentence_claims() -> None:
    says = "Beyond the middle, more frames do not improve it any more."
    claim = ClaimConfig("c", says, "middle", "most")
    assert claims.tested(claim, "qa") == "Tested: middle above most in temporal."
    beyond = ClaimConfig("c", says, "copy", "shared", beyond="content")
    more = "Tested: copy above shared by more in temporal than in content."
    assert claims.tested(beyond, "qa") == more
    for kind, margin in (("qa", "5 points"), ("five", "0.05 of a score")):
        close = f"Tested: more and less no further apart than {margin} in temporal."
        assert claims.tested(CLOSE, kind) == close  # type: ignore[arg-type]


def test_the_rule_is_plain_values_that_change_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rule()
    assert json.loads(json.dumps(before)) == before
    assert before["worth_having"] == {"qa": 1.0, "five": 0.05}
    assert before["method"] == hashlib.sha256(method("qa").encode()).hexdigest()
    monkeypatch.setitem(claims.WORTH_HAVING, "qa", 2.0)
    changed = {name for name, value in rule().items() if value != before[name]}
    assert changed == {"worth_having", "method"}


def test_pairs_that_point_both_ways_are_undecided() -> None:
    found = decide(CLAIM, row([70, 50, 75, 55, 80, 60]), row([60] * 6), "qa")
    assert found.verdict == "undecided"
    assert found.p is not None
    assert found.p > 0.05


@pytest.mark.parametrize(
    ("more", "verdict"),
    [([62.5] * 6, "holds"), ([90.0] * 6, "does not hold"), ([30.0] * 6, "does not hold")],
)
def test_close_is_decided_by_the_interval_against_the_margin(
    more: list[float], verdict: str
) -> None:
    even = (
        np.arange(4 * VIDEOS) % 4 < 2
    )  # the same videos right in both, so that they differ little
    less = {key: CellValues(QA, np.where(even, 100.0, 0.0), {}, 1.0) for key in row(more)}
    shift = {62.5: 2.5, 90.0: 30.0, 30.0: -30.0}[more[0]]
    moved = {key: CellValues(QA, cell.values + shift, {}, 1.0) for key, cell in less.items()}
    found = decide(CLOSE, moved, less, "qa")
    assert numbers(found.difference) == pytest.approx((shift, shift, shift))
    assert found.verdict == verdict
    assert found.p == 2 / 64  # printed, and decides nothing


def test_an_interval_that_meets_the_margin_leaves_close_undecided() -> None:
    found = decide(CLOSE, row([65, 60, 66, 62, 68, 63]), row([60] * 6), "qa")
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert -5 < found.difference.low < 5 < found.difference.high
    assert found.verdict == "undecided"


def test_beyond_takes_the_other_measures_difference_away() -> None:
    beyond = ClaimConfig("c", "mostly temporal", "more", "less", beyond="content")
    more, less = row([70] * 6, content=60), row([60] * 6, content=50)
    found = decide(beyond, more, less, "qa")
    assert list(found.pairs.values()) == pytest.approx([0.0] * 6)
    assert decide(CLAIM, more, less, "qa").verdict == "holds"
    assert found.verdict == "undecided"  # the videos say too little to exclude a point
    found = decide(beyond, row([80, 81, 82, 83, 84, 85], 60), less, "qa")
    assert found.verdict == "holds"
    assert found.pairs["a", 0] == pytest.approx(20 - 10)


def test_pairs_are_those_of_which_both_runs_are_there_and_judged() -> None:
    more, less = row([70] * 6), row([60] * 6)
    del less["b", 5], more["a", 0]
    values = less["b", 4].values.copy()
    values[:2] = np.nan  # 2 of 160: 98.75 %
    less["b", 4] = CellValues(QA, values, {"truncated": 2}, 1.0)
    found = decide(CLAIM, more, less, "qa")
    assert list(found.pairs) == [("a", 1), ("a", 2), ("b", 3)]
    assert found.reasons[0] == (
        "1 pair is left out: less than 99% of a run's questions were judged."
    )


def test_a_question_that_one_run_lost_is_in_neither_side_of_its_pair() -> None:
    more, less = row([70] * 6), row([60] * 6)
    values = more["a", 0].values.copy()
    values[1] = np.nan  # no temporal one: 159 of 160, 79 of 80 spatial ones
    more["a", 0] = CellValues(QA, values, {"truncated": 1}, 1.0)
    assert list(decide(CLAIM, more, less, "qa").pairs) == list(more)
    content = ClaimConfig("c", "", "more", "less", measure="content")
    assert ("a", 0) not in decide(content, more, less, "qa").pairs  # 98.75 % of its own set
    everything = ClaimConfig("c", "", "more", "less", measure="all")
    found = decide(everything, more, less, "qa").pairs["a", 0]
    kept = [i for i in range(160) if i != 1]
    delta = more["a", 0].values - less["a", 0].values
    assert found == pytest.approx(statistics.fmean(delta[kept].tolist()))


def test_without_pairs_there_are_no_numbers() -> None:
    found = decide(CLAIM, {}, row([60] * 6), "qa")
    assert (found.verdict, found.p, found.smallest_detectable, found.pairs) == (
        *("undecided", None, None),
        {},
    )
    assert numbers(found.difference) == (None, None, None)
    assert found.reasons == ("There is no pair of runs to compare.",)


def test_of_five_aspects_margins_are_hundredths_and_sets_count_alike() -> None:
    aspects = [key[3] for key in FIVE.keys]
    low = {"correctness": 2.0, "detail": 2.0, "context": 2.0, "temporal": 2.0, "consistency": 2.0}
    high = low | {"correctness": 2.3, "temporal": 3.0}

    def runs(score: dict[str, float]) -> dict[tuple[str, int], CellValues]:
        values = np.array([score[aspect] for aspect in aspects])
        return {("a", seed): CellValues(FIVE, values, {}, 1.0) for seed in range(6)}

    def difference(claim: ClaimConfig) -> float:
        (value,) = {
            round(v, 9) for v in decide(claim, runs(high), runs(low), "five").pairs.values()
        }
        return value

    assert difference(CLAIM) == 1.0
    assert difference(ClaimConfig("c", "", "m", "l", measure="content")) == pytest.approx(0.1)
    assert difference(ClaimConfig("c", "", "m", "l", measure="all")) == pytest.approx(1.3 / 5)
    assert difference(ClaimConfig("c", "", "m", "l", beyond="content")) == pytest.approx(0.9)
    within = ClaimConfig("c", "", "m", "l", measure="content", kind="close", margin=11.0)
    outside = ClaimConfig("c", "", "m", "l", measure="content", kind="close", margin=9.0)
    assert decide(within, runs(high), runs(low), "five").verdict == "holds"
    assert decide(outside, runs(high), runs(low), "five").verdict == "does not hold"
    tiny = low | {"temporal": 1.96}
    found = decide(CLAIM, runs(low), runs(low | {"temporal": 2.0}), "five")
    assert found.verdict == "does not hold"  # 0.00 is below 0.05 of a score
    assert decide(CLAIM, runs(low), runs(tiny), "five").verdict == "holds"  # 0.04 in six of six


def test_the_method_states_the_rule_with_its_numbers() -> None:
    for kind, worth in (("qa", "below 1 point"), ("five", "below 0.05 of a score")):
        text = method(kind)  # type: ignore[arg-type]
        for part in (
            worth,
            "sign-flip",
            "p < 0.05",
            "fewer than 6 pairs",
            "2/2^n",
            "80%",
            "2,000",
            "other videos",
        ):
            assert part in text
