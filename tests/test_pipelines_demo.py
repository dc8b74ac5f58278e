"""The whole demo in small, as a user runs it: one process, real files, twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from features.annotations import load_annotations
from features.config import DatasetConfig
from features.recipes import load_recipe
from pipelines import world
from pipelines.demo_data import DemoDataConfig, write_demo

SMALL = ["--data.train_videos", "40", "--data.val_videos", "4", "--data.test_videos", "12"]
ROWS = ["untuned", "shared", "red-villm", "shared-long", "red-villm-long"]


def run(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *args],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(folder, "demo", *SMALL)


def test_the_report_has_the_promised_form(ran: tuple[Path, str]) -> None:
    folder, out = ran
    report = json.loads((folder / "runs" / "demo" / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ROWS
    for row in report["rows"]:
        assert row["seeds"] == 1
        assert set(row["types"]) == {"temporal", "spatial"}
        for score in row["types"].values():
            assert score["asked"] == score["judged"] == 24
            assert score["lost"] == 0
            assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 100
    assert set(report["seconds"]) == {"render", "extract", "train", "evaluate"}
    assert report["fingerprints"]
    assert "offline" in report["judge"]
    page = (folder / "runs" / "demo" / "report.html").read_text()
    assert "data:image/jpeg" in page
    assert "runs/demo/report.html" in out
    assert "It is not GPT" in page


def test_a_second_run_reuses_what_is_done(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    path = folder / "runs" / "demo" / "report.json"
    first = json.loads(path.read_text())
    out = run(folder, "demo", *SMALL)
    assert out.count("reused") >= 6
    second = json.loads(path.read_text())
    assert {**first, "seconds": {}} == {**second, "seconds": {}}


def test_the_demos_answers_serve_batch_evaluation(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    out = run(folder, "reeval")
    assert out.count("answered before from the same checkpoint; reused") == 5
    assert "5 evaluations, 0 failed" in out
    compared = json.loads((folder / "runs" / "reeval" / "report.json").read_text())
    assert {d["b"] for d in compared["differences"]} == {"untuned"}


def test_splits_are_disjoint_and_in_the_real_sets_forms(
    ran: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    monkeypatch.chdir(folder)
    root = folder / "data" / "demo"
    assert set(json.loads((root / "train.json").read_text())[0]) == {"q", "a", "video_id"}
    assert set(json.loads((root / "test_q.json").read_text())[0]) == {
        "video_name",
        "question_id",
        "question",
    }
    os.chdir(folder)
    dataset = load_recipe("datasets", "demo", DatasetConfig)
    ids = [
        {s.video_id for s in load_annotations(dataset.splits[name])}
        for name in ("train", "val", "test")
    ]
    assert [len(found) for found in ids] == [40, 4, 12]
    assert len(set.union(*ids)) == 56
    assert all((root / "videos" / f"{name}.mp4").is_file() for name in set.union(*ids))


def test_the_written_video_shows_the_world(tmp_path: Path) -> None:
    config = DemoDataConfig(train_videos=1, val_videos=0, test_videos=0)
    assert write_demo(tmp_path, config)
    assert not write_demo(tmp_path, config), "a second call finds it done"
    (path,) = (tmp_path / "videos").iterdir()
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        shown = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    meant = world.render(world.sample_story(np.random.default_rng([config.seed, 0, 0])), 64)
    assert shown.shape == meant.shape
    # 4:2:0 chroma blurs edges; flat areas must be right
    assert np.median(abs(shown.astype(int) - meant)) <= 3
    assert abs(shown.astype(int) - meant).mean() < 6
