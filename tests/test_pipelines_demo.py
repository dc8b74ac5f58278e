"""The whole demo in small, as a user runs it: one process, real files, twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from world_parser import in_chinese, in_english

from features.annotations import load_annotations
from features.config import DatasetConfig
from features.recipes import load_recipe
from pipelines import world
from pipelines.demo_data import DemoDataConfig, encode_video, write_demo
from pipelines.world import QA

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


def test_the_chinese_demo_asks_about_the_same_videos_and_reports_in_the_same_form(
    ran: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    out = run(folder, "demo", "--lang", "zh", *SMALL)
    assert "rendered before; reused" in out
    english, chinese = (
        json.loads((folder / "runs" / name / "report.json").read_text(encoding="utf-8"))
        for name in ("demo", "demo-zh")
    )
    assert set(chinese) == set(english)
    assert [row["name"] for row in chinese["rows"]] == ROWS
    for mine, theirs in zip(chinese["rows"], english["rows"], strict=True):
        counts = [
            {kind: score["judged"] for kind, score in row["types"].items()}
            for row in (mine, theirs)
        ]
        assert counts[0] == counts[1] == {"temporal": 24, "spatial": 24}
    route = chinese["tables"][1]
    assert (route["dataset"], route["split"], route["route"]) == ("demo", "test.zh-en", "zh-en")
    assert "zh-en by memory" in route["translations"]
    for direct, translated in zip(chinese["rows"], route["rows"], strict=True):
        for kind, score in translated["types"].items():
            assert score["judged"] + score["lost"] == 24
            # what is right in one language is right in the other
            if score["lost"] == 0:
                assert score["accuracy"] == direct["types"][kind]["accuracy"]
    pairs = [[(d["a"], d["b"]) for d in report["differences"]] for report in (chinese, english)]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) > 0
    page = (folder / "runs" / "demo-zh" / "report.html").read_text(encoding="utf-8")
    assert "图像大语言模型" in page
    assert "最先做了什么" in page
    monkeypatch.chdir(folder)
    for name in ("train", "val", "test"):
        ours, twins = (
            load_annotations(load_recipe("datasets", recipe, DatasetConfig).splits[name])
            for recipe in ("demo", "demo-zh")
        )
        assert [(s.sample_id, s.video_id, s.type) for s in ours] == [
            (s.sample_id, s.video_id, s.type) for s in twins
        ]
        for our, twin in zip(ours, twins, strict=True):
            asks = [QA(s.question, s.answer, "temporal") for s in (our, twin)]
            assert in_english(asks[0]) == in_chinese(asks[1])


def test_a_folder_of_before_gets_its_chinese_questions_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    config = DemoDataConfig(5, 2, 3)
    write_demo(tmp_path, config)
    shutil.rmtree(tmp_path / "zh")
    before = {path: path.stat() for path in tmp_path.rglob("*.*")}
    assert write_demo(tmp_path, config)
    assert not write_demo(tmp_path, config)
    after = {path: path.stat() for path in tmp_path.rglob("*.*")}
    assert {path: after[path] for path in before} == before
    chinese = ["manifest", "test_a", "test_q", "train", "val_a", "val_q"]
    added = sorted(str(path.relative_to(tmp_path)) for path in set(after) - set(before))
    assert added == [f"zh/{name}.json" for name in chinese]


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (DemoDataConfig(5, 2, 3), "2e0011a82c063033"),
        (DemoDataConfig(5, 2, 3, test_seed=7), "f3944f19207157f1"),
        (DemoDataConfig(5, 2, 3, world="stories"), "f14981b85f19457d"),
    ],
    ids=["demo", "demo-study", "stories"],
)
def test_english_questions_and_video_ids_are_those_that_studies_were_frozen_to(
    tmp_path: Path, config: DemoDataConfig, digest: str
) -> None:
    """Another encoding, or another world, is another set of videos, and has other ids."""
    write_demo(tmp_path, config)
    found = hashlib.sha256()
    for path in sorted(tmp_path.rglob("*.*")):
        if path.parent.name != "zh":
            text = path.read_bytes() if path.suffix == ".json" else b""
            found.update(path.name.encode() + text)
    assert found.hexdigest()[:16] == digest


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


def test_a_video_is_the_same_bytes_whatever_lies_in_memory(tmp_path: Path) -> None:
    """Of these stories x264's assembler made two to five files in 25 attempts."""
    rng, rubbish = np.random.default_rng(0), []
    for index in (6, 166, 735, 785):
        story = world.sample_story(np.random.default_rng([2024, 0, index]))
        frames, found = world.render(story), set()
        for _ in range(25):
            rubbish.append(rng.integers(0, 255, int(rng.integers(1_000, 60_000)), dtype=np.uint8))
            if len(rubbish) > 40:
                rubbish.pop(int(rng.integers(40)))
            encode_video(tmp_path / "a.mp4", frames, 8)
            found.add((tmp_path / "a.mp4").read_bytes())
        assert len(found) == 1
