"""The command line from outside: exit codes, one-line errors, a user's own videos end to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.__main__ import STAGES, VERBS, main

PROJECT = Path(__file__).resolve().parent.parent
EXPERIMENT = str(PROJECT / "pipelines" / "recipes" / "experiments" / "red-villm.yaml")


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=240,
        check=False,
    )


def test_make_help_lists_every_target() -> None:
    text = subprocess.run(
        ["make", "help"], capture_output=True, text=True, cwd=PROJECT, check=True
    ).stdout
    phony = re.search(r"\.PHONY: (.*)", (PROJECT / "Makefile").read_text())
    assert phony is not None
    for target in phony[1].split():
        assert f"make {target}" in text


def test_ci_runs_the_readmes_test_command() -> None:
    script = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert script[-1] == "make test"
    assert "\nmake test " in (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("stage", sorted(set(STAGES) - set(VERBS)))
def test_help_of_every_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([stage, "--help"])
    assert caught.value.code == 0
    assert "--config" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], ["no such stage", "did you mean train"]),
        (["train", "--sedd", "3"], ["--sedd", "did you mean seed"]),
        (["train", "--base", "minni"], ["no such base", "did you mean mini"]),
        (["train", "--dataset", "dmo"], ["no such dataset", "did you mean demo"]),
        (["train", "--lr", "fast"], ["lr", "fast"]),
        (["extract", "--part", "3/2"], ["3/2", "i/n"]),
        (["extract", "--videos", "/nowhere"], ["/nowhere", "no such folder"]),
        (["train"], ["no features", "make extract DATASET=demo BASE=mini"]),
        (["report"], ["no run folder", "make train"]),
        (["reeval"], ["no run folder", "runs/demo/*/seed-*"]),
        (["eval", "--checkpoint", "nowhere*"], ["no run folder", "nowhere*"]),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    args: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_an_unknown_key_in_a_config_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("experiment: mine\nswitches: {temporal_modul: copy}\n")
    assert main(["train", "--config", str(tmp_path / "mine.yaml")]) == 2
    assert "did you mean switches.temporal_module" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = run("train", "--base", "minni", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "Traceback" not in run("train", "--base", "minni", cwd=tmp_path).stderr


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, clip: Callable[..., Path]) -> Path:
    """A user's folder: good clips, bad files, and questions about all of them."""
    root = tmp_path_factory.mktemp("own")
    clips = root / "clips"
    names = [f"good{i}" for i in range(8)]
    for seed, name in enumerate(names):
        clip(clips / f"{name}.mp4", seed=seed)
    clip(clips / "one" / "frame.mp4", num_frames=1)
    whole = clip(root / "whole.mp4", num_frames=64).read_bytes()
    (clips / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "empty.mp4").touch()
    (clips / "text.mp4").write_text("not a video at all\n" * 20)
    asked = [*names, "one/frame", "cut", "empty", "text", "gone"]
    rows = [
        {
            "video": f"{name}.mp4",
            "question": f"what colour is the {shape}",
            "answer": "red",
            "type": "spatial",
            "split": split,
        }
        for name in asked
        for shape in ("circle", "square")
        for split in ("train", "test")
    ]
    (root / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def options(own: Path) -> list[str]:
    return ["--videos", str(own / "clips"), "--annotations", str(own / "qa.jsonl")]


def test_own_videos_from_file_to_score(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own)
    assert main(["extract", *options(own)]) == 0
    (record,) = (own / "data" / "features" / "clips").glob("*/last_run.json")
    summary = json.loads(record.read_text())
    assert summary["ok"] == 9
    assert summary["failed"].pop("missing") == 1
    assert summary["failed"].pop("empty") == 1
    assert summary["failed"].pop("not-a-video") == 1
    assert sum(summary["failed"].values()) == 1, "the truncated file"

    assert main(["train", "--config", EXPERIMENT, *options(own), "--batch_size", "6"]) == 0
    folder = own / "runs" / "clips" / "red-villm" / "seed-0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["questions"]["used"] == 18
    assert sum(metrics["questions"]["lost"].values()) == 8
    assert metrics["steps"] == 18 // 6

    capsys.readouterr()
    asked = ["eval", *options(own), "--checkpoint", str(folder)]
    assert main(asked) == 2, "8 of 26 questions are lost: no headline"
    assert main([*asked, "--min_coverage", "0.5"]) == 0
    (verdicts,) = folder.glob("eval/clips/test/judges/offline-*/verdicts.jsonl")
    assert len(verdicts.read_text().splitlines()) == 26
    assert main(["report", *options(own)]) == 0
    assert (own / "runs" / "clips" / "report" / "index.html").is_file()
    capsys.readouterr()
    assert main(["reeval", *options(own), "--min_coverage", "0.5"]) == 0
    assert "answered before" in capsys.readouterr().out


def test_videos_added_later_are_extracted_alone(
    own: Path, monkeypatch: pytest.MonkeyPatch, clip: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(own / "clips", tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    command = ["extract", "--videos", "clips"]
    assert main(command) == 0
    (record,) = (tmp_path / "data" / "features" / "clips").glob("*/last_run.json")
    first = json.loads(record.read_text())
    clip(tmp_path / "clips" / "later.mp4", seed=99)
    clip(tmp_path / "clips" / "cut.mp4", seed=98)  # and a broken one is mended
    assert main(command) == 0
    second = json.loads(record.read_text())
    assert (first["done"], second["done"]) == (12, 2)
    assert second["ok"] == first["ok"] + 2
    assert main(command) == 0
    assert json.loads(record.read_text())["done"] == 0


def test_a_run_of_another_fingerprint_is_refused(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own)
    four = [*options(own), "--num_frames", "4"]
    assert main(["train", *four]) == 2
    assert "--num_frames 4" in capsys.readouterr().err
    assert main(["extract", *four]) == 0
    folder = own / "runs" / "clips" / "red-villm" / "seed-0"
    capsys.readouterr()
    assert main(["eval", *four, "--checkpoint", str(folder)]) == 2
    out = capsys.readouterr().out
    assert "fingerprint" in out
    assert str(folder) in out


def test_a_missing_answer_stops_with_its_place(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qa.jsonl").write_text('{"video": "good0.mp4", "question": "what"}\n')
    command = ["--videos", str(own / "clips"), "--annotations", "qa.jsonl"]
    assert main(["extract", *command]) == 2
    error = capsys.readouterr().err
    assert "answer" in error
    assert "qa.jsonl" in error
    assert "row 1" in error
