"""From questions to a headline, or to the reason why there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_eval import TinyEval, make_tiny_eval, save_run

from eval.folders import META, PREDICTIONS, read_judged
from eval.generate import GenerateConfig
from eval.judges.offline import OfflineJudge
from eval.run import evaluate
from features.config import BaseConfig, DatasetConfig
from features.errors import RedVillmError
from features.recipes import load_recipe

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
