"""From questions to a headline, or to the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tiny_eval import TinyEval, make_tiny_eval, save_run

from eval.answer_files import locked
from eval.folders import META, PREDICTIONS, read_judged
from eval.generate import GenerateConfig, generate
from eval.judges.base import Cost, JudgeItem, JudgeRecord, Verdict
from eval.judges.offline import OfflineJudge
from eval.run import cost_of, evaluate, judge_answers
from features.config import BaseConfig, DatasetConfig
from features.errors import RedVillmError
from features.recipes import load_recipe
from pipelines.evaluation import Judging, judge_folder, say_failed

CONFIG = GenerateConfig(batch_size=4, max_new_tokens=5, dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyEval:
    return make_tiny_eval(tmp_path_factory.mktemp("tiny"))


def test_evaluate_gives_no_headline_below_the_coverage(
    world: TinyEval, base: BaseConfig, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", base, world.store)
    dataset = load_recipe("datasets", str(world.recipe), DatasetConfig)
    judge = OfflineJudge()
    summary = evaluate(CONFIG, base, dataset, run, world.store, judge)
    assert summary.headline == {"qa": None}
    assert "only 20 of 24 questions were judged" in summary.refused["qa"]
    assert summary.lost == {"truncated": 4}
    record = json.loads((summary.folder / "summary.json").read_text("utf-8"))
    assert record["headline"] == {"qa": None}
    assert record["judge"] == judge.record.label
    assert record["scores"]["qa"]["all"]["asked"] == 24
    assert record["scores"]["qa"]["all"]["lost"] == 4
    answers = summary.folder.parents[1]
    assert record["meta"] == json.loads((answers / META).read_text("utf-8"))

    again = evaluate(CONFIG, base, dataset, run, world.store, judge, min_coverage=0.5)
    found = read_judged(summary.folder)
    right = [v.correct for v in found.verdicts if v.correct is not None]
    assert len(right) == 20
    assert again.headline == {"qa": pytest.approx(100 * sum(right) / 20)}
    assert again.refused == {}

    path = answers / PREDICTIONS
    path.write_bytes(path.read_bytes().replace(b'"pred": "', b'"pred": "x', 1))
    with pytest.raises(RedVillmError, match="changed after they were judged"):
        read_judged(summary.folder)
    with pytest.raises(RedVillmError, match="no finished evaluation"):
        read_judged(run)


def test_both_wordings_of_a_pair_are_judged_as_one_answer(
    world: TinyEval, base: BaseConfig, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", base, world.store)
    dataset = load_recipe("datasets", str(world.recipe), DatasetConfig)
    pairs = replace(CONFIG, split="pairs")
    summary = evaluate(pairs, base, dataset, run, world.store, OfflineJudge(), min_coverage=0.5)
    assert summary.lost == {"truncated": 1}
    assert set(summary.scores) == {"consistency"}
    assert summary.scores["consistency"]["all"].asked == 6
    assert summary.headline["consistency"] is not None


class Slow:
    """A judge that has its price, during whose work something happens."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.record = JudgeRecord("endpoint", "mod[/INST]el")
        self.asked = 0
        self._meanwhile = meanwhile

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        self.asked += len(items)
        self._meanwhile()
        return [Verdict(item.sample_id, item.aspect, "ok", True, 4.0) for item in items]

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        return Cost(requests=len(items))


@pytest.fixture
def answers(world: TinyEval, base: BaseConfig, tmp_path: Path) -> Path:
    """A folder of answers to 24 questions, 20 of which could be answered."""
    run = save_run(tmp_path / "run", base, world.store)
    dataset = load_recipe("datasets", str(world.recipe), DatasetConfig)
    return generate(CONFIG, base, dataset, run, world.store)


def test_half_of_the_answers_are_not_judged(answers: Path) -> None:
    path = answers / PREDICTIONS
    whole = path.read_bytes()
    for lines in (5, 0):
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
        with pytest.raises(RedVillmError, match=rf"not all there.*got: {lines} of 24"):
            judge_answers(answers, OfflineJudge())
    path.write_bytes(whole)
    (answers / "predictions.0-of-2.jsonl").write_bytes(b"")
    with pytest.raises(RedVillmError, match=r"24 of 24 and predictions\.0-of-2\.jsonl"):
        judge_answers(answers, OfflineJudge())


def test_answers_that_change_while_they_are_judged_are_judged_again(answers: Path) -> None:
    path = answers / PREDICTIONS
    other = path.read_bytes().replace(b'"pred": "', b'"pred": "x')
    judge = Slow(lambda: path.write_bytes(other))
    summary = judge_answers(answers, judge)
    with pytest.raises(RedVillmError, match="changed after they were judged"):
        read_judged(summary.folder)
    judge_answers(answers, judge)
    assert judge.asked == 40
    read_judged(summary.folder)


def test_what_has_its_price_is_not_asked_again_unless_something_is_missing(answers: Path) -> None:
    judge, told = Slow(), list[Cost]()
    where = judge_answers(answers, judge, before=told.append).folder
    assert (judge.asked, told) == (20, [Cost(requests=20)])
    judge_answers(answers, judge, before=told.append)
    assert (judge.asked, len(told)) == (20, 1)
    assert cost_of(answers, judge).requests == 0
    lines = (where / "verdicts.jsonl").read_text("utf-8").splitlines(keepends=True)
    (where / "verdicts.jsonl").write_text("".join(lines[1:]), "utf-8")
    judge_answers(answers, judge)
    assert judge.asked == 40
    assert len(read_judged(where).verdicts) == 24
    judge_answers(answers, judge, again=True)
    assert judge.asked == 60


def test_a_recipe_that_judges_for_more_is_followed(
    world: TinyEval, base: BaseConfig, answers: Path
) -> None:
    dataset = load_recipe("datasets", str(world.recipe), DatasetConfig)
    test = replace(dataset.splits["test"], aspects=("qa", "detail"))
    more = replace(dataset, splits={**dataset.splits, "test": test}, type_names=("a",))
    before = (answers / PREDICTIONS).read_bytes()
    run = answers.parents[2]
    summary = evaluate(CONFIG, base, more, run, world.store, OfflineJudge(), min_coverage=0.5)
    assert set(summary.scores) == {"qa", "detail"}
    assert (answers / PREDICTIONS).read_bytes() == before
    assert json.loads((answers / META).read_text("utf-8"))["type_names"] == ["a"]


def test_whatever_a_judge_is_called_can_be_printed(
    answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(width=200)
    judge_folder(answers, Slow(), Judging(min_coverage=0.5), console)
    assert "mod[/INST]el" in capsys.readouterr().out
    say_failed(console, "it said [/INST]")
    assert "failed: it said [/INST]" in capsys.readouterr().out


def test_two_processes_do_not_answer_the_same(
    world: TinyEval, base: BaseConfig, answers: Path
) -> None:
    dataset = load_recipe("datasets", str(world.recipe), DatasetConfig)
    run, asked = answers.parents[2], (CONFIG, base, dataset)
    with locked(answers, None), pytest.raises(RedVillmError, match="another process answers"):
        generate(*asked, run, world.store)
    with locked(answers, (0, 2)):
        generate(*asked, run, world.store, part=(1, 2))
        for part in (None, (0, 2)):
            with pytest.raises(RedVillmError, match="another process answers"):
                generate(*asked, run, world.store, part=part)
    generate(*asked, run, world.store)
