"""The stories world in small, from rendering to the five-aspect table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from features.annotations import load_annotations
from features.config import DatasetConfig
from features.recipes import load_recipe
from pipelines.__main__ import main
from pipelines.demo_data import ENCODING, DemoDataConfig, write_demo
from pipelines.eval_jobs import benchmark_parts
from pipelines.mini import MiniConfig, make_mini
from pipelines.study.recipe import load_study
from pipelines.worlds import DEMO

SMALL = DemoDataConfig(6, 2, 3, world="stories")
EXAMS = ("generic", "temporal", "consistency")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stories")
    assert write_demo(root / "data" / "demo-stories", SMALL)
    assert not write_demo(root / "data" / "demo-stories", SMALL)
    return root


def test_files_have_the_real_sets_forms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    root = folder / "data" / "demo-stories"
    assert set(json.loads((root / "train.json").read_text())[0]) == {"q", "a", "video_id"}
    for name in ("", "val_"):
        for part in ("generic", "temporal"):
            row = json.loads((root / f"{name}{part}_qa.json").read_text())[0]
            assert set(row) == {"Q", "A", "video_name"}
        row = json.loads((root / f"{name}consistency_qa.json").read_text())[0]
        assert set(row) == {"Q1", "Q2", "A", "video_name"}
    dataset = load_recipe("datasets", "demo-stories", DatasetConfig)
    asked = {name: load_annotations(split) for name, split in dataset.splits.items()}
    assert Counter({name: len(samples) for name, samples in asked.items()}) == {
        "train": 6 * 7,
        **{"val-generic": 2 * 3, "val-temporal": 2 * 2, "val-consistency": 2 * 2},
        **{"generic": 3 * 3, "temporal": 3 * 2, "consistency": 3 * 2},
    }
    videos = {name: {s.video_id for s in samples} for name, samples in asked.items()}
    assert len(set.union(*videos.values())) == 6 + 2 + 3
    assert videos["generic"] == videos["temporal"] == videos["consistency"]
    assert all((root / "videos" / f"{v}.mp4").is_file() for v in set.union(*videos.values()))
    pairs = [(s.question, s.question2) for s in asked["consistency"]]
    assert all(second and second != first for first, second in pairs)
    assert all(s.question2 is None for s in asked["generic"] + asked["temporal"])


def test_the_demos_manifest_says_no_setting_that_nobody_uses(tmp_path: Path) -> None:
    """So that what was rendered before is used again."""
    write_demo(tmp_path, DemoDataConfig(0, 0, 0))
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        **{"fps": 8, "questions": 2, "seed": 2024, "size": 64},
        **{"test_videos": 0, "train_videos": 0, "val_videos": 0},
        "world": DEMO.digest,
        "encoding": ENCODING,
    }


def test_the_study_asks_for_splits_that_its_dataset_has() -> None:
    study = load_study("stories")
    assert study.render is not None
    assert study.render.world == "stories"
    (table,) = study.tables
    names = {row.name for row in table.rows}
    assert all({claim.more, claim.less} <= names for claim in table.claims)
    asked = [split for _, split in benchmark_parts(study.benchmarks)]
    assert asked == list(EXAMS)
    assert [split for _, split in benchmark_parts(study.validation)] == [f"val-{n}" for n in EXAMS]


def test_from_rendering_to_five_aspects(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    make_mini(MiniConfig(folder / "base", 0, 1, 1, 20, 1, gate_videos=2, world="stories"))
    base = json.dumps({"name": "tiny", "checkpoint": str(folder / "base"), "image_size": 32})
    (folder / "tiny.yaml").write_text(base)
    where = ["--base", "tiny.yaml", "--dataset", "demo-stories", "--num_frames", "8"]
    assert main(["extract", *where, "--executor", "serial"]) == 0
    for name, module in (("untuned", "shared"), ("red-villm", "copy")):
        steps = ["--epochs", "0"] if name == "untuned" else ["--max_steps", "2"]
        row = ["--experiment", name, "--switches.temporal_module", module]
        assert main(["train", *where, *row, *steps]) == 0
    exams = f"demo-stories:{'+'.join(EXAMS)}"
    runs = "runs/demo-stories/*/seed-0"
    asked = ["--checkpoints", runs, "--benchmarks", exams, "--max_new_tokens", "4"]
    assert main(["reeval", *where, *asked, "--executor", "serial"]) == 0
    report = json.loads((folder / "runs" / "reeval" / "report.json").read_text())
    (five,) = report["five"]
    assert five["dataset"] == "demo-stories"
    assert [row["name"] for row in five["rows"]] == ["red-villm", "untuned"]
    for row in five["rows"]:
        counts = {aspect: score["judged"] for aspect, score in row["aspects"].items()}
        assert counts == {
            **dict.fromkeys(["correctness", "detail", "context"], 9),
            **dict.fromkeys(["temporal", "consistency"], 6),
        }
        assert row["missing"] == []
        assert 0 <= row["mean_of_aspects"]["mean"] <= 5
    capsys.readouterr()
    assert main(["demo", "--data.world", "stories"]) == 2
    assert "make experiments STUDY=stories" in capsys.readouterr().err
