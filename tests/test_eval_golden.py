"""Every benchmark's numbers, worked out with a pencil.

`golden/<recipe>/` holds a few questions in the benchmark's published form and, in a folder for each
split, answers (`predictions.jsonl`) and what a judge said of them (`verdicts.jsonl`), written by
hand. Videos are A, B and C in the comments, in the order of the files; C is lost everywhere. With
two judged videos a resample is AA, AB, BA or BB, and AA and BB are each a quarter of all, so the
95 % interval of any mean reaches from its value in A alone to its value in B alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from records import same

from eval.folders import read_predictions
from eval.judges.base import JudgeItem, Verdict, read_verdicts
from eval.judges.offline import OfflineJudge
from eval.metrics import (
    Question,
    agreement,
    average_aspects,
    judge_table,
    macro_accuracy,
    named_types,
    overlaps,
    paired_differences,
    score_by_type,
    withhold,
)
from eval.scores import Agreement, Difference, Estimate, TypeScore
from features.annotations import QASample, load_annotations
from features.config import Aspect, DatasetConfig
from features.recipes import load_recipe

GOLDEN = Path(__file__).parent / "golden"
SPLITS = [
    ("vcgbench", "generic"),
    ("vcgbench", "temporal"),
    ("vcgbench", "consistency"),
    ("msvd-qa", "val"),
    ("msvd-qa", "test"),
    ("msrvtt-qa", "val"),
    ("msrvtt-qa", "test"),
    ("tgif-qa", "test"),
    ("activitynet-qa", "test"),
    ("demo", "test"),
]


@dataclass(frozen=True)
class Golden:
    """One split: what was asked, answered and judged."""

    samples: list[QASample]
    questions: list[Question]
    """With the recipe's names of types."""
    aspects: tuple[Aspect, ...]
    rows: list[dict[str, Any]]
    verdicts: list[Verdict]

    def of(self, aspect: Aspect) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.aspect == aspect]

    def scores(self, aspect: Aspect = "qa") -> dict[str, TypeScore]:
        return score_by_type(self.questions, [self.of(aspect)], [overlaps(self.rows)])

    def offline(self, aspect: Aspect = "qa") -> list[Verdict]:
        """What the offline judge says of the same answers."""
        answered = [row for row in self.rows if row["pred"] is not None]
        items = [
            JudgeItem(
                row["sample_id"],
                aspect,
                row["question"],
                row["answer"],
                row["pred"],
                row["question2"],
                row["pred2"],
            )
            for row in answered
        ]
        lost = [row for row in self.rows if row["pred"] is None]
        return [
            *OfflineJudge()(items),
            *(Verdict(row["sample_id"], aspect, "lost", reason=row["lost"]) for row in lost),
        ]


def read_golden(name: str, split: str, folder: str | None = None) -> Golden:
    """A split by its shipped recipe, whose files are the small ones."""
    recipe = load_recipe("datasets", name, DatasetConfig)
    config = recipe.splits[split]
    answers = config.answers and GOLDEN / name / config.answers.name
    small = replace(config, questions=GOLDEN / name / config.questions.name, answers=answers)
    samples = load_annotations(small)
    questions = [Question(s.sample_id, s.video_id, s.type) for s in samples]
    path = GOLDEN / name / (folder or split)
    return Golden(
        samples,
        named_types(questions, recipe.type_names),
        config.aspects,
        read_predictions(path),
        read_verdicts(path / "verdicts.jsonl"),
    )


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_answers_are_about_the_questions_of_the_published_form(name: str, split: str) -> None:
    golden = read_golden(name, split)
    keys = ("sample_id", "video_id", "question", "answer", "type", "question2")
    asked = [{key: getattr(sample, key) for key in keys} for sample in golden.samples]
    assert [{key: row[key] for key in keys} for row in golden.rows] == asked
    judged = sorted((v.sample_id, v.aspect) for v in golden.verdicts)
    ids = [row["sample_id"] for row in golden.rows]
    assert judged == sorted((name, aspect) for name in ids for aspect in golden.aspects)
    lost = {row["sample_id"]: row["lost"] for row in golden.rows if row["pred"] is None}
    assert lost == {v.sample_id: v.reason for v in golden.verdicts if v.outcome == "lost"}


def test_vcgbench_generic_answers() -> None:
    # Six questions, two on each of A, B and C; C is lost.
    golden = read_golden("vcgbench", "generic")
    # F1: "man slices bread" / "man slices loaf" 2*2/(3+3); 1; "dog runs along beach" / "dog runs"
    # 2*2/(4+2); "sea is calm" / "waves" 0. Exact: the second alone.
    words = {"exact": 100 * 1 / 4, "f1": 100 * (2 / 3 + 1 + 2 / 3 + 0) / 4}
    assert same(
        golden.scores("correctness")["all"],
        TypeScore(
            accuracy=None,
            low=None,
            high=None,
            score=(4 + 3 + 2) / 3,  # the fourth was refused
            score_low=2.0,  # B: 2
            score_high=(4 + 3) / 2,  # A
            **words,
            asked=6,
            judged=3,
            lost=2,
            failures={"refused": 1},
        ),
    )
    detail = golden.scores("detail")["all"]
    assert detail.score == pytest.approx((3 + 1 + 1) / 3)  # A: 3 and one unreadable reply; B: 1, 1
    assert (detail.score_low, detail.score_high) == pytest.approx((1, 3))
    assert (detail.judged, detail.lost, detail.failures) == (3, 2, {"parse_failure": 1})
    context = golden.scores("context")["all"]
    # Video-ChatGPT's script truncates 4.5 with int() and would get (4 + 4 + 3 + 2) / 4 = 3.25.
    assert context.score == pytest.approx((4.5 + 4 + 3 + 2) / 4)
    assert (context.score_low, context.score_high) == pytest.approx(((3 + 2) / 2, (4.5 + 4) / 2))
    assert (context.judged, context.lost, context.failures) == (4, 2, {})
    assert context.coverage == 4 / 6
    bare, refused = withhold(golden.scores("context"), 0.99)
    assert refused == "no score: only 4 of 6 questions were judged (66.7%, wanted 99.0%); 2 lost"
    assert (bare["all"].score, bare["all"].exact, bare["all"].judged) == (None, None, 4)


def test_vcgbench_order_and_consistency() -> None:
    temporal = read_golden("vcgbench", "temporal").scores("temporal")["all"]
    assert (temporal.score, temporal.score_low, temporal.score_high) == ((2 + 1) / 2, 1, 2)
    assert (temporal.asked, temporal.judged, temporal.lost) == (3, 2, 1)
    # "first he slices then he eats" (6 words) / "he slices" (2): 2*2/(6+2); the other is exact.
    assert (temporal.exact, temporal.f1) == pytest.approx((100 * 1 / 2, 100 * (1 / 2 + 1) / 2))
    pair = read_golden("vcgbench", "consistency").scores("consistency")["all"]
    assert (pair.score, pair.score_low, pair.score_high) == ((4 + 2) / 2, 2, 4)
    # A: "bread" is exact, "some bread" 2*1/(2+1), so not both are; B: "brown" and "Brown." are.
    assert (pair.exact, pair.f1) == pytest.approx((100 * 1 / 2, 100 * ((1 + 2 / 3) / 2 + 1) / 2))


def five_aspects(offline: bool = False) -> dict[str, tuple[list[Question], list[list[Verdict]]]]:
    found = {}
    for split in ("generic", "temporal", "consistency"):
        golden = read_golden("vcgbench", split)
        for aspect in golden.aspects:
            verdicts = golden.offline(aspect) if offline else golden.of(aspect)
            found[aspect] = (golden.questions, [verdicts])
    return found


def test_vcgbench_averages() -> None:
    found = average_aspects(five_aspects())
    #               A        B      judged  sum
    # correctness   4 3      2      3       9
    # detail        3        1 1    3       5
    # context       4.5 4    3 2    4       13.5
    # temporal      2        1      2       3
    # consistency   4        2      2       6
    mean = Estimate(
        mean=(9 / 3 + 5 / 3 + 13.5 / 4 + 3 / 2 + 6 / 2) / 5,
        low=(2 + 1 + 2.5 + 1 + 2) / 5,  # B in all five: 1.7
        high=(3.5 + 3 + 4.25 + 2 + 4) / 5,  # A in all five: 3.35
    )
    assert same(found.mean_of_aspects, mean)
    weighted = Estimate(
        mean=(9 + 5 + 13.5 + 3 + 6) / 14, low=(2 + 2 + 5 + 1 + 2) / 7, high=24.5 / 7
    )
    assert same(found.question_weighted, weighted)


def test_vcgbench_by_the_offline_judge() -> None:
    # 5 times the F1 above: generic 10/3 5 | 10/3 0, temporal 5/2 | 5, consistency 25/6 | 5.
    found = average_aspects(five_aspects(offline=True))
    generic, temporal, consistency = (10 / 3 + 5 + 10 / 3) / 4, 7.5 / 2, (25 / 6 + 5) / 2
    mean = (3 * generic + temporal + consistency) / 5
    assert found.mean_of_aspects.mean == pytest.approx(mean)
    assert mean == pytest.approx(41 / 12)
    weighted = (3 * 4 * generic + 2 * temporal + 2 * consistency) / 16
    assert found.question_weighted.mean == pytest.approx(weighted)
    questions, seeds = five_aspects(offline=True)["detail"]
    assert score_by_type(questions, seeds)["all"].accuracy is None


def test_msvd_qa_val() -> None:
    # A: yes 5, yes 3. B: no 0. Nothing failed.
    golden = read_golden("msvd-qa", "val")
    scores = golden.scores()
    wanted = TypeScore(
        accuracy=100 * 2 / 3,
        low=0.0,
        high=100.0,
        score=(5 + 3 + 0) / 3,
        score_low=0.0,
        score_high=(5 + 3) / 2,
        exact=100 * 1 / 3,  # bread; "chef" is not "man", "cat" not "dog"
        f1=100 * 1 / 3,
        asked=3,
        judged=3,
        lost=0,
    )
    assert list(scores) == ["all"]  # the file knows no types
    assert same(scores["all"], wanted)
    assert macro_accuracy(scores) is None
    assert withhold(scores, 0.99) == (scores, None)


def test_msvd_qa_test() -> None:
    # A: no 2, yes 5. B: yes 4.6, api_failure. C: lost.
    scores = read_golden("msvd-qa", "test").scores()
    # The published script drops what failed and truncates: the same accuracy, yes / (yes + no), but
    # a score of (2 + 5 + 4) / 3 = 11/3, and no word of the two questions in five that are missing.
    # Counting those as wrong, as others do, would give 100 * 2 / 5.
    wanted = TypeScore(
        accuracy=100 * 2 / 3,
        low=50.0,
        high=100.0,
        score=(2 + 5 + 4.6) / 3,
        score_low=(2 + 5) / 2,
        score_high=4.6,
        exact=100 * 2 / 4,  # "A woman." and "boy", which was answered though not judged
        f1=100 * 2 / 4,
        asked=5,
        judged=3,
        lost=1,
        failures={"api_failure": 1},
    )
    assert same(scores["all"], wanted)
    _, refused = withhold(scores, 0.99)
    assert refused == (
        "no score: only 3 of 5 questions were judged (60.0%, wanted 99.0%); 1 lost, 1 api_failure"
    )


def test_msrvtt_qa_val() -> None:
    # A: yes 5, yes 4. B: no 1. F1: 1, "young man" / "man" 2/3, 0.
    score = read_golden("msrvtt-qa", "val").scores()["all"]
    assert (score.accuracy, score.low, score.high) == pytest.approx((100 * 2 / 3, 0, 100))
    assert (score.score, score.score_low, score.score_high) == pytest.approx((10 / 3, 1, 4.5))
    assert (score.exact, score.f1) == pytest.approx((100 * 1 / 3, 100 * (1 + 2 / 3) / 3))
    assert score.coverage == 1


def test_msrvtt_qa_test_over_two_seeds() -> None:
    # question  first seed        second seed       mean of the two
    # 501 A     car   yes 5       car   yes 4       1    4.5
    # 502 A     man   yes 5       woman no  1       1/2  3
    # 503 B     stew  no  2       soup  yes 5       1/2  3.5
    # 504 B     song  yes 2 (!)   song  refused     not judged
    # 505 C     lost              lost
    one, two = read_golden("msrvtt-qa", "test"), read_golden("msrvtt-qa", "test", "test-seed2")
    words = [overlaps(one.rows), overlaps(two.rows)]
    scores = score_by_type(one.questions, [one.verdicts, two.verdicts], words)
    wanted = TypeScore(
        accuracy=100 * (1 + 1 / 2 + 1 / 2) / 3,
        low=50.0,
        high=100 * (1 + 1 / 2) / 2,
        score=(4.5 + 3 + 3.5) / 3,
        score_low=3.5,
        score_high=(4.5 + 3) / 2,
        exact=100 * (1 + 1 / 2 + 1 / 2 + 1) / 4,
        f1=100 * (1 + 1 / 2 + 1 / 2 + 1) / 4,
        asked=5,
        judged=3,
        lost=1,
        failures={"refused": 1},
        contradictions=1,  # 504: yes with a score of 2
    )
    assert same(scores["all"], wanted)
    # Of two runs instead, the first minus the second: 501 0, 1; 502 1, 4; 503 -1, -3.
    first, second = (judge_table(one.questions, [g.verdicts]) for g in (one, two))
    differences = paired_differences(one.questions, first, second)
    wanted_difference = Difference(
        points=0.0,
        low=-100.0,  # B: 503
        high=100 * (0 + 1) / 2,  # A
        score=(1 + 4 - 3) / 3,
        score_low=-3.0,
        score_high=(1 + 4) / 2,
        questions=3,
    )
    assert list(differences) == ["all"]
    assert same(differences["all"], wanted_difference)
    assert differences["all"].excludes_zero is False


def test_tgif_frameqa() -> None:
    #    object          number           color            location
    # A  ball yes 5      two yes 4.8      red yes 4
    # B  horse no 1      one not asked    white no 0       beach yes 5
    # C  cup lost
    scores = read_golden("tgif-qa", "test").scores()
    assert list(scores) == ["color", "location", "number", "object", "all"]
    accuracies = {name: score.accuracy for name, score in scores.items()}
    wanted = {"color": 50, "location": 100, "number": 100, "object": 50, "all": 100 * 4 / 6}
    assert accuracies == pytest.approx(wanted)
    assert macro_accuracy(scores) == pytest.approx((50 + 100 + 100 + 50) / 4)
    # Enough of all, 6 of 8, but of the numbers 1 of 2 and of the objects 2 of 3: these two lose
    # theirs, and the mean of types, which would be one of other types, goes with them.
    kept, refused = withhold(scores, 0.75)
    assert refused is None
    shown = {name: score.accuracy for name, score in kept.items()}
    assert shown == accuracies | {"number": None, "object": None}
    assert (kept["number"].exact, kept["number"].judged, kept["number"].asked) == (None, 1, 2)
    assert macro_accuracy(kept) is None
    assert {name: (s.asked, s.judged, s.lost) for name, s in scores.items()} == {
        "color": (2, 2, 0),
        "location": (1, 1, 0),
        "number": (2, 1, 0),
        "object": (3, 2, 1),
        "all": (8, 6, 1),
    }
    total = TypeScore(
        accuracy=100 * 4 / 6,
        low=100 * 1 / 3,  # B: beach of beach, horse, white
        high=100.0,
        score=(5 + 4.8 + 4 + 1 + 5 + 0) / 6,  # 19.8 / 6; truncated as published 19 / 6
        score_low=(1 + 5 + 0) / 3,
        score_high=(5 + 4.8 + 4) / 3,
        exact=100 * 3 / 7,  # "a ball", "the beach" and "one"
        f1=100 * (1 + 0 + 2 / 3 + 0 + 1 + 0 + 1) / 7,  # "dark red" / "red" 2*1/(2+1)
        asked=8,
        judged=6,
        lost=1,
        failures={"not_asked": 1},
    )
    assert same(scores["all"], total)


# id   type               reference       answer                 judge
# A_1  motion             slicing bread   Slicing bread.         yes 5
# A_2  spatial relation   right hand      in the right hand      yes 4.8
# A_3  temporal relation  spreads butter  The person eats.       no  1
# A_4  yes/no             yes             Yes.                   yes 5
# A_5  number             4               four                   yes 4
# A_6  location           kitchen         in a living room       no  1
# B_1  yes/no             no              yes                    no  0
# B_2  color              brown           light brown            yes 2  contradicts itself
# B_3  object             stick           a stick                yes 5
# B_4  location           beach           at the beach           parse_failure
# B_5  other              sunny           cloudy                 no  3  contradicts itself
# C_1  number             2               (lost)
# The answers' file has the same rows in another order.


def test_activitynet_qa() -> None:
    scores = read_golden("activitynet-qa", "test").scores()
    wanted = {
        "color": 100,
        "location": 0,  # A_6 alone: B_4 has no value
        "motion": 100,
        "number": 100,  # A_5 alone: C_1 has no value
        "object": 100,
        "other": 0,
        "spatial relation": 100,
        "temporal relation": 0,
        "yes/no": 50,
        "all": 100 * 6 / 10,
    }
    assert {name: score.accuracy for name, score in scores.items()} == pytest.approx(wanted)
    assert list(scores) == list(wanted)
    assert macro_accuracy(scores) == pytest.approx(550 / 9)
    total = TypeScore(
        accuracy=100 * 6 / 10,  # yes / (yes + no), as published
        low=100 * 2 / 4,  # B_2 and B_3 of B_1, B_2, B_3, B_5
        high=100 * 4 / 6,  # A
        # The published script truncates A_2's 4.8 to 4 and gets 30 / 10.
        score=(5 + 4.8 + 1 + 5 + 4 + 1 + 0 + 2 + 5 + 3) / 10,
        score_low=(0 + 2 + 5 + 3) / 4,
        score_high=(5 + 4.8 + 1 + 5 + 4 + 1) / 6,
        exact=100 * 3 / 11,  # A_1, A_4, B_3
        # A_2 "in right hand" / "right hand" 2*2/(3+2); B_2 2*1/(2+1); B_4 "at beach" 2*1/(2+1)
        f1=100 * (1 + 4 / 5 + 0 + 1 + 0 + 0 + 0 + 2 / 3 + 1 + 2 / 3 + 0) / 11,
        asked=12,
        judged=10,
        lost=1,
        failures={"parse_failure": 1},
        contradictions=2,
    )
    assert same(scores["all"], total)
    bare, refused = withhold(scores, 0.99)
    assert str(refused).startswith("no score: only 10 of 12 questions were judged (83.3%")
    assert macro_accuracy(bare) is None


def test_activitynet_qa_by_the_offline_judge_and_how_far_both_agree() -> None:
    golden = read_golden("activitynet-qa", "test")
    offline = golden.offline()
    found = score_by_type(golden.questions, [offline])["all"]
    assert found.accuracy == pytest.approx(100 * 3 / 11)
    assert found.score == pytest.approx(5 * (77 / 15) / 11)  # 5 times the mean F1
    assert (found.judged, found.lost, found.failures) == (11, 1, {})

    # Both judged all but B_4 and C_1. Same: A_1, A_4, B_3 yes; A_3, A_6, B_1, B_5 no; 7 of 10.
    # By chance: 6/10 * 3/10 + 4/10 * 7/10 = 46/100.
    # Ranks, equals sharing them:
    #           A_1  A_2  A_3  A_4  A_5  A_6  B_1  B_2  B_3  B_5
    # recorded  9    7    2.5  9    6    2.5  1    4    9    5     squares about 5.5: 80
    # offline   9    7    3    9    3    3    3    6    9    3     squares about 5.5: 70.5
    # Products about 5.5: 3 * 12.25 + 2.25 + 2 * 7.5 - 1.25 + 11.25 - 0.75 + 1.25 = 64.5.
    wanted = Agreement(
        questions=10,
        same=70.0,
        kappa=(0.70 - 0.46) / (1 - 0.46),
        spearman=64.5 / (80 * 70.5) ** 0.5,
        score_gap=30.8 / 10 - 5 * (77 / 15 - 2 / 3) / 10,  # the offline one without B_4
    )
    assert same(agreement(golden.verdicts, offline), wanted)


def test_demo_by_the_offline_judge() -> None:
    #    temporal                                      spatial
    # A  red circle: right; moves left / right: 1/2    blue: right
    # B  stops: right                                  top left / top: 2*1/(2+1); circle / square: 0
    golden = read_golden("demo", "test")
    for written, found in zip(golden.verdicts, golden.offline(), strict=True):
        assert same(found, written)
    scores = golden.scores()
    assert {name: score.accuracy for name, score in scores.items()} == pytest.approx(
        {"spatial": 100 * 1 / 3, "temporal": 100 * 2 / 3, "all": 50}
    )
    assert macro_accuracy(scores) == pytest.approx(50)
    total = TypeScore(
        accuracy=50.0,
        low=100 * 1 / 3,
        high=100 * 2 / 3,
        score=5 * (1 + 1 / 2 + 1 + 1 + 2 / 3 + 0) / 6,
        score_low=5 * (1 + 2 / 3 + 0) / 3,
        score_high=5 * (1 + 1 / 2 + 1) / 3,
        exact=50.0,
        f1=100 * (1 + 1 / 2 + 1 + 1 + 2 / 3 + 0) / 6,
        asked=6,
        judged=6,
        lost=0,
        contradictions=1,  # top: not right, yet 10/3 of 5
    )
    assert same(scores["all"], total)
    assert withhold(scores, 0.99) == (scores, None)
