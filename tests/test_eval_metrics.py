"""Statistics against naive loops and numbers worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bootstrap import naive_bootstrap, naive_interval, naive_resamples, numbers
from records import failed, ok, same

from eval import bootstrap
from eval.judges.base import Outcome, Verdict
from eval.metrics import (
    Overlap,
    Question,
    agreement,
    average_aspects,
    covers_all,
    difference_of_averages,
    judge_table,
    macro_accuracy,
    named_types,
    overlaps,
    paired_differences,
    score_by_type,
    withhold,
)
from eval.scores import Difference, Estimate, TypeScore
from features.errors import RedVillmError

NOTHING = Estimate(None, None, None)


# Scores of one run


QUESTIONS = [
    Question("1", "a", "temporal"),
    Question("2", "a", "spatial"),
    Question("3", "b", "temporal"),
    Question("4", "c", "temporal"),
]


def test_scores_by_type_over_seeds() -> None:
    first = [ok("1", True, 5), ok("2", True, 4), ok("3", False, 1), failed("4", "lost")]
    second = [ok("4", True, 5), ok("3", True, 3), ok("2", True, 5), ok("1", True, 4)]  # any order
    scores = score_by_type(QUESTIONS, [first, second])
    assert list(scores) == ["spatial", "temporal", "all"]
    # Question 1: right twice, 4.5; question 3: right once of two, 2; question 4: lost in one seed.
    assert same(
        scores["temporal"],
        TypeScore(
            accuracy=100 * (1 + 1 / 2) / 2,
            low=50.0,  # both draws of two videos are b
            high=100.0,  # both are a
            score=(4.5 + 2) / 2,
            score_low=2.0,
            score_high=4.5,
            exact=None,
            f1=None,
            asked=3,
            judged=2,
            lost=1,
        ),
    )
    spatial = scores["spatial"]  # one video: no interval
    assert (spatial.accuracy, spatial.low, spatial.high) == (100, None, None)
    assert (spatial.score, spatial.score_low, spatial.score_high) == (4.5, None, None)
    assert scores["all"].accuracy == pytest.approx(100 * 2.5 / 3)
    assert scores["all"].score == pytest.approx((4.5 + 4.5 + 2) / 3)
    assert scores["all"].coverage == 0.75


def test_aspects_without_yes_and_no_have_scores_alone() -> None:
    verdicts = [ok(q.sample_id, None, i, "detail") for i, q in enumerate(QUESTIONS)]
    found = score_by_type(QUESTIONS, [verdicts])["all"]
    assert (found.accuracy, found.low, found.high) == (None, None, None)
    assert found.score == (0 + 1 + 2 + 3) / 4
    assert found.judged == 4


def test_failures_are_counted_under_the_first_seed_that_failed_and_loss_before_all() -> None:
    first = [ok("1", True), failed("2", "refused"), failed("3", "parse_failure"), ok("4", True)]
    second = [failed("1", "not_asked"), failed("2", "api_failure"), failed("3", "lost")]
    scores = score_by_type(QUESTIONS, [first, [*second, ok("4", False)]])
    total = scores["all"]
    assert (total.asked, total.judged, total.lost) == (4, 1, 1)
    assert total.failures == {"not_asked": 1, "refused": 1}
    assert scores["spatial"].failures == {"refused": 1}
    assert total.accuracy == 50  # question 4 alone


@given(
    st.lists(
        st.lists(
            st.sampled_from(["ok", "lost", "parse_failure", "api_failure", "refused", "not_asked"]),
            min_size=12,
            max_size=12,
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=40, deadline=None)
def test_every_question_is_judged_or_lost_or_failed(outcomes: list[list[Outcome]]) -> None:
    questions = [Question(str(i), f"v{i % 5}", "st"[i % 2]) for i in range(12)]
    seeds = [
        [ok(str(i), i % 3 > 0, i % 6) if o == "ok" else failed(str(i), o) for i, o in enumerate(s)]
        for s in outcomes
    ]
    for score in score_by_type(questions, seeds).values():
        assert score.asked == score.judged + score.lost + sum(score.failures.values())
        assert (score.accuracy is None) == (score.judged == 0) == (score.score is None)
    total = score_by_type(questions, seeds)["all"]
    judged = [i for i in range(12) if all(s[i] == "ok" for s in outcomes)]
    assert total.judged == len(judged)
    if judged:  # failures pull nothing down: the mean is over what was judged
        assert total.score == pytest.approx(sum(i % 6 for i in judged) / len(judged))


@pytest.mark.parametrize(
    ("correct", "score", "contradicts"),
    [
        (True, 5, 0),
        (True, 2.5, 0),
        (True, 2.4, 1),
        (True, 0, 1),
        (False, 0, 0),
        (False, 2.5, 0),
        (False, 2.6, 1),
        (False, 5, 1),
        (None, 5, 0),
        (None, 0, 0),
    ],
)
def test_contradictions(correct: bool | None, score: float, contradicts: int) -> None:
    found = score_by_type(QUESTIONS[:1], [[ok("1", correct, score)]])
    assert found["all"].contradictions == contradicts


def test_contradictions_are_counted_over_all_seeds_and_of_unjudged_questions_too() -> None:
    first = [ok("1", True, 1), ok("2", False, 5), ok("3", True, 5), ok("4", True, 0)]
    second = [ok("1", True, 2), ok("2", False, 0), ok("3", True, 5), failed("4", "refused")]
    scores = score_by_type(QUESTIONS, [first, second])
    assert scores["spatial"].contradictions == 1
    assert scores["temporal"].contradictions == 3
    assert scores["all"].contradictions == 4


def test_scores_are_withheld_below_the_coverage() -> None:
    verdicts = [ok("1", True), ok("2", True), ok("3", True, 1), failed("4", "lost")]
    words = [Overlap(str(i), True, 1.0) for i in range(1, 4)] + [Overlap("4", None, None)]
    scores = score_by_type(QUESTIONS, [verdicts], [words])
    kept, refused = withhold(scores, 0.6)
    assert (kept, refused) == (scores, None)
    kept, refused = withhold(scores, 0.75)  # 3 of 4 are enough, 2 of 3 temporal ones are not
    assert refused is None
    assert kept == scores | {"temporal": TypeScore(*[None] * 8, 3, 2, 1, {}, 1)}
    bare, refused = withhold(scores, 0.99)
    assert refused == "no score: only 3 of 4 questions were judged (75.0%, wanted 99.0%); 1 lost"
    none = [None] * 8
    assert bare["temporal"] == TypeScore(*none, 3, 2, 1, {}, 1)
    assert {score.accuracy for score in bare.values()} == {None}
    verdicts[:2] = [failed("1", "refused"), failed("2", "api_failure")]
    _, refused = withhold(score_by_type(QUESTIONS, [verdicts]), 0.99)
    assert str(refused).endswith("; 1 lost, 1 api_failure, 1 refused")


def test_all_lost_is_no_zero() -> None:
    scores = score_by_type(QUESTIONS[:1], [[failed("1", "lost")]], [[Overlap("1", None, None)]])
    assert scores["all"] == TypeScore(*[None] * 8, asked=1, judged=0, lost=1)


@pytest.mark.parametrize(
    "verdicts",
    [
        [ok("1", True)],
        [ok("1", True), ok("2", True), ok("3", True), ok("5", True)],
        [ok("1", True), ok("2", True), ok("3", True), ok("4", True), ok("4", False)],
    ],
)
def test_verdicts_about_other_questions_are_refused(verdicts: list[Verdict]) -> None:
    with pytest.raises(RedVillmError, match="questions and verdicts do not match"):
        score_by_type(QUESTIONS, [verdicts])
    good = [ok(q.sample_id, True) for q in QUESTIONS]
    words = [Overlap(verdict.sample_id, True, 1.0) for verdict in verdicts]
    with pytest.raises(RedVillmError, match="questions and verdicts do not match"):
        score_by_type(QUESTIONS, [good], [words])
    with pytest.raises(RedVillmError, match="no verdicts"):
        score_by_type(QUESTIONS, [])


def random_run(questions: Sequence[Question], seed: int) -> list[Verdict]:
    rng = random.Random(seed)
    run = [ok(q.sample_id, rng.random() < 0.5, rng.randrange(51) / 10) for q in questions]
    run[seed % len(run)] = failed(run[seed % len(run)].sample_id, "refused")
    return run


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_never_matters(rng: random.Random) -> None:
    questions = [Question(str(i), f"v{i % 7}", "st"[i % 2]) for i in range(30)]
    runs = [random_run(questions, seed) for seed in (1, 2)]
    words = [[Overlap(q.sample_id, i % 3 == 0, i / 30) for i, q in enumerate(questions)]]
    scores = score_by_type(questions, runs, words)
    differences = differences_of(questions, *runs)
    agreed = agreement(*runs)
    averages = average_aspects({"a": (questions, runs[:1]), "b": (questions, runs[1:])})
    for rows in (questions, *runs, *words):
        rng.shuffle(rows)
    for name, score in score_by_type(questions, runs, words).items():
        assert same(score, scores[name])
    for name, difference in differences_of(questions, *runs).items():
        assert same(difference, differences[name])
    assert same(agreement(*runs), agreed)
    again = average_aspects({"a": (questions, runs[:1]), "b": (questions, runs[1:])})
    assert same(again.mean_of_aspects, averages.mean_of_aspects)
    assert same(again.question_weighted, averages.question_weighted)


def test_macro_accuracy_lets_every_type_count_alike() -> None:
    verdicts = [ok("1", True), ok("2", False), ok("3", False), ok("4", False)]
    scores = score_by_type(QUESTIONS, [verdicts])
    assert macro_accuracy(scores) == pytest.approx((100 * 1 / 3 + 0) / 2)
    verdicts[1] = failed("2", "refused")  # nothing is known of spatial
    assert macro_accuracy(score_by_type(QUESTIONS, [verdicts])) is None
    untyped = [Question("1", "a", "")]
    assert macro_accuracy(score_by_type(untyped, [[ok("1", True)]])) is None


@pytest.mark.parametrize(("kind", "covered"), [("x", True), ("", False), ("all", False)])
def test_a_mean_of_types_needs_a_type_for_every_question(kind: str, covered: bool) -> None:
    questions = [Question("1", "a", "x"), Question("2", "b", "y"), Question("3", "b", kind)]
    found = score_by_type(questions, [[ok("1", True), ok("2", False), ok("3", True)]])
    assert list(found) == ["x", "y", "all"]
    assert found["all"].accuracy == pytest.approx(200 / 3)
    assert covers_all(found) is covered
    assert macro_accuracy(found) == (50 if covered else None)


def test_numeric_types_get_their_names() -> None:
    given_types = ["0", "1", "2", "", "yes/no", "-1", "\N{SUPERSCRIPT ONE}"]
    named = named_types([Question(str(i), "v", t) for i, t in enumerate(given_types)], ["x", "y"])
    assert [q.type for q in named] == ["x", "y", "2", "", "yes/no", "-1", "\N{SUPERSCRIPT ONE}"]
    assert [q.sample_id for q in named] == list("0123456")


# Words


def row(sample_id: str, answer: str, pred: str | None, pred2: str | None = None) -> dict[str, Any]:
    return {"sample_id": sample_id, "answer": answer, "pred": pred, "pred2": pred2}


def test_overlaps_of_answers_pairs_and_losses() -> None:
    found = overlaps(
        [
            row("1", "a red ball", "The red ball."),
            row("2", "a red ball", "ball"),  # precision 1, recall 1/2
            row("3", "no", None),
            row("4", "brown", "Brown", "light brown"),  # 1 and 2/3
            row("5", "brown", "brown", "Brown!"),
        ]
    )
    assert found[0] == Overlap("1", True, 1.0)
    assert same(found[1], Overlap("2", False, 2 / 3))
    assert found[2] == Overlap("3", None, None)
    assert same(found[3], Overlap("4", False, (1 + 2 / 3) / 2))
    assert found[4] == Overlap("5", True, 1.0)


def test_words_are_compared_without_any_judge_and_over_answered_questions_alone() -> None:
    nobody = [failed(q.sample_id, "api_failure") for q in QUESTIONS[:3]] + [failed("4", "lost")]
    first = [Overlap("1", True, 1.0), Overlap("2", False, 0.5), Overlap("3", False, 0.0)]
    second = [Overlap("1", False, 0.5), Overlap("2", False, 0.5), Overlap("3", True, 1.0)]
    lost = Overlap("4", None, None)
    scores = score_by_type(QUESTIONS, [nobody, nobody], [[*first, lost], [*second, lost]])
    assert scores["all"].score is None
    assert scores["all"].exact == pytest.approx(100 * (1 / 2 + 0 + 1 / 2) / 3)
    assert scores["all"].f1 == pytest.approx(100 * (3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert scores["temporal"].exact == pytest.approx(50)
    assert scores["spatial"].f1 == pytest.approx(50)


# Two runs


def differences_of(
    questions: Sequence[Question], a: Sequence[Verdict], b: Sequence[Verdict], seed: int = 0
) -> dict[str, Difference]:
    return paired_differences(
        questions, judge_table(questions, [a]), judge_table(questions, [b]), seed
    )


def test_paired_difference() -> None:
    rng = random.Random(1)
    questions = [Question(str(i), f"v{i // 5}", "t" if i % 2 else "s") for i in range(100)]
    hard = {q.video_id: rng.random() < 0.5 for q in questions}
    a = [ok(q.sample_id, not hard[q.video_id] or rng.random() < 0.2) for q in questions]
    b = [ok(q.sample_id, not hard[q.video_id], rng.randrange(6)) for q in questions]
    b[7] = failed("7", "lost")
    differences = differences_of(questions, a, b, seed=2)
    assert list(differences) == ["s", "t", "all"]
    assert [difference.questions for difference in differences.values()] == [50, 49, 99]
    found = differences["t"]
    both = [i for i in range(1, 100, 2) if i != 7]
    videos = [f"v{i // 5:d}" for i in both]
    points = [100.0 * (bool(a[i].correct) - bool(b[i].correct)) for i in both]
    wanted = naive_bootstrap(points, videos, 2, bootstrap.RESAMPLES)
    assert (found.points, found.low, found.high) == pytest.approx(wanted)
    scores = [float(a[i].score or 0) - float(b[i].score or 0) for i in both]
    wanted = naive_bootstrap(scores, videos, 2, bootstrap.RESAMPLES)
    assert (found.score, found.score_low, found.score_high) == pytest.approx(wanted)
    # What makes a video hard for both cancels: much narrower than either run's own interval.
    own = score_by_type(questions, [a])["t"]
    assert own.high is not None
    assert own.low is not None
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low < 0.8 * (own.high - own.low)


@given(st.floats(-2, 2), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_constant_shift_of_b_shifts_the_difference(shift: float, seed: int) -> None:
    questions = [Question(str(i), f"v{i % 6}", "") for i in range(20)]
    a, b = random_run(questions, seed), random_run(questions, seed + 1)
    shifted = [v if v.score is None else ok(v.sample_id, v.correct, v.score + shift) for v in b]
    plain = differences_of(questions, a, b, seed=seed)["all"]
    moved = differences_of(questions, a, shifted, seed=seed)["all"]
    for name in ("score", "score_low", "score_high"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name) - shift, abs=1e-9)
    assert (moved.points, moved.low, moved.high) == (plain.points, plain.low, plain.high)
    back = differences_of(questions, b, a, seed=seed)["all"]
    assert (back.points, back.low, back.high) == pytest.approx(
        tuple(-float(value or 0) for value in (plain.points, plain.high, plain.low))
    )


def test_runs_that_share_no_judged_question_have_no_difference() -> None:
    a, b = [failed("1", "refused"), ok("2", True)], [ok("1", True), failed("2", "lost")]
    found = differences_of(QUESTIONS[:2], a, b)
    nothing = Difference(None, None, None, None, None, None, 0)
    assert found == {"spatial": nothing, "temporal": nothing, "all": nothing}
    assert nothing.excludes_zero is None


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [
        (0.001, 3.0, True),
        (-3.0, -0.001, True),
        (-1.0, 2.0, False),
        (0.0, 2.0, False),
        (-2.0, 0.0, False),
        (None, None, None),
    ],
)
def test_an_interval_on_one_side_of_zero_excludes_it(
    low: float | None, high: float | None, excludes: bool | None
) -> None:
    assert Estimate(1.0, low, high).excludes_zero is excludes
    assert Difference(1.0, low, high, 1.0, -1.0, 1.0, 9).excludes_zero is excludes
    assert Difference(None, None, None, 1.0, low, high, 9).excludes_zero is excludes


# Several aspects


def test_the_two_averages() -> None:
    generic = [Question(str(i), "ab"[i // 2], "") for i in range(4)]
    order = [Question("0", "a", ""), Question("1", "b", "")]
    detail = [ok(str(i), None, score, "detail") for i, score in enumerate((4, 2, 1, 0))]
    temporal = [ok("0", None, 5, "temporal"), ok("1", None, 2, "temporal")]
    found = average_aspects({"detail": (generic, [detail]), "temporal": (order, [temporal])})
    # Detail: 7/4, temporal: 7/2. With video a alone 3 and 5, with b alone 1/2 and 2.
    mean = Estimate((7 / 4 + 7 / 2) / 2, (1 / 2 + 2) / 2, (3 + 5) / 2)
    weighted = Estimate((7 + 7) / 6, (1 + 0 + 2) / 3, (4 + 2 + 5) / 3)
    assert same(found.mean_of_aspects, mean)
    assert same(found.question_weighted, weighted)


def test_averages_draw_videos_jointly_over_all_aspects() -> None:
    rng = random.Random(6)
    aspects: dict[str, tuple[list[Question], list[list[Verdict]]]] = {}
    kept: list[tuple[str, str, float]] = []
    for aspect, count in (("correctness", 40), ("temporal", 15), ("consistency", 9)):
        questions = [Question(str(i), f"v{rng.randrange(8)}", "") for i in range(count)]
        runs = [random_run(questions, rng.randrange(99)) for _ in range(2)]
        aspects[aspect] = (questions, runs)
        for q in questions:
            scores = [v.score for run in runs for v in run if v.sample_id == q.sample_id]
            if None not in scores:
                kept.append((aspect, q.video_id, sum(float(s or 0) for s in scores) / 2))
    found = average_aspects(aspects, seed=3)

    def means(rows: list[int]) -> tuple[float, float]:
        by_aspect = {name: [kept[i][2] for i in rows if kept[i][0] == name] for name in aspects}
        of_aspects = [sum(v) / len(v) if v else float("nan") for v in by_aspect.values()]
        return sum(of_aspects) / 3, sum(kept[i][2] for i in rows) / len(rows)

    drawn = [means(rows) for rows in naive_resamples([v for _, v, _ in kept], 3, 2000)]
    alike = [mean for mean, _ in drawn if mean == mean]
    mean, weighted = means(list(range(len(kept))))
    assert numbers(found.mean_of_aspects) == pytest.approx(naive_interval(mean, alike))
    wanted = naive_interval(weighted, [value for _, value in drawn])
    assert numbers(found.question_weighted) == pytest.approx(wanted)


def test_the_difference_of_averages_pairs_questions_and_draws_videos_jointly() -> None:
    rng = random.Random(8)
    ours: dict[str, tuple[list[Question], list[list[Verdict]]]] = {}
    theirs: dict[str, tuple[list[Question], list[list[Verdict]]]] = {}
    kept: list[tuple[str, str, float]] = []
    for aspect, count in (("correctness", 40), ("temporal", 15), ("consistency", 9)):
        questions = [Question(str(i), f"v{rng.randrange(8)}", "") for i in range(count)]
        a, b = (random_run(questions, rng.randrange(99)) for _ in range(2))
        ours[aspect] = (questions, [a])
        theirs[aspect] = (questions, [b[::-1]])
        for q, u, v in zip(questions, a, b, strict=True):
            if u.score is not None and v.score is not None:
                kept.append((aspect, q.video_id, u.score - v.score))
    found = difference_of_averages(ours, theirs, seed=3)

    def mean(rows: list[int]) -> float:
        by_aspect = [[kept[i][2] for i in rows if kept[i][0] == name] for name in ours]
        return sum(sum(v) / len(v) if v else float("nan") for v in by_aspect) / 3

    drawn = [mean(rows) for rows in naive_resamples([v for _, v, _ in kept], 3, 2000)]
    wanted = naive_interval(mean(list(range(len(kept)))), [m for m in drawn if m == m])
    assert numbers(found) == pytest.approx(wanted)
    back = difference_of_averages(theirs, ours, seed=3)
    assert numbers(back) == pytest.approx((-wanted[0], -wanted[2], -wanted[1]))
    averages = [average_aspects(aspects).mean_of_aspects.mean for aspects in (ours, theirs)]
    assert found.mean != pytest.approx((averages[0] or 0) - (averages[1] or 0))  # judged in both


def test_runs_that_share_no_judged_question_of_an_aspect_have_no_difference_of_averages() -> None:
    good = (QUESTIONS[:2], [[ok("1", None), ok("2", None)]])
    lost = (QUESTIONS[:2], [[failed("1", "lost"), failed("2", "lost")]])
    assert difference_of_averages({"a": good, "b": good}, {"a": good, "b": lost}) == NOTHING
    assert difference_of_averages({"a": good}, {"a": good}) == Estimate(0.0, None, None)
    with pytest.raises(RedVillmError, match="different aspects"):
        difference_of_averages({"a": good}, {"b": good})


def test_an_aspect_without_a_judged_question_leaves_no_average() -> None:
    good = (QUESTIONS, [[ok(q.sample_id, None) for q in QUESTIONS]])
    bad = (QUESTIONS[:1], [[failed("1", "lost")]])
    found = average_aspects({"detail": good, "temporal": bad})
    assert (found.mean_of_aspects, found.question_weighted) == (NOTHING, NOTHING)
    assert average_aspects({"detail": good, "context": good}).mean_of_aspects.mean == 3
    assert average_aspects({}).mean_of_aspects == NOTHING
