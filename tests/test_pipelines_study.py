"""A whole study in small, as a user runs it: frozen, run on Ray, killed, run again, here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.config import BaseConfig
from features.describe import load_base
from features.errors import ConfigError
from pipelines.experiment import load_experiment
from pipelines.study.cells import Use, plan_cells, table_names
from pipelines.study.freeze import freeze, read_frozen
from pipelines.study.recipe import StudyConfig, load_study
from train.options import TrainConfig

STUDY = {
    "name": "small",
    "base": "mini",
    "dataset": "demo-study",
    "render": {"train_videos": 24, "val_videos": 4, "test_videos": 6},
    "families": {"mini": ["mini", "mini-b"]},
    "tables": [
        {
            "table": "4",
            "title": "temporal module",
            "factor": "temporal module",
            "seeds": 2,
            "bases": 2,
            "budgets": ["default"],
            "rows": [
                {"name": "shared", "switches": {"temporal_module": "shared"}},
                {"name": "copy"},
            ],
            "claims": [
                {"name": "copy over shared", "says": "so", "more": "copy", "less": "shared"}
            ],
        },
        {
            "table": "6",
            "title": "frames",
            "factor": "frames",
            "seeds": 1,
            "budgets": ["default"],
            "curve": True,
            "rows": [{"name": "few", "frames": {"mini": 4}}, {"name": "eight"}],
        },
        {
            "table": "controls",
            "title": "controls",
            "factor": "control",
            "seeds": 2,
            "budgets": ["default"],
            "rows": [
                {"name": "untuned", "untrained": True, "switches": {"temporal_module": "shared"}}
            ],
        },
    ],
}
START = load_experiment("red-villm").part(TrainConfig)
CELLS = 2 * 2 * 2 + 1 + 1
"""Table 4, the few frames of Table 6 (its eight are Table 4's), the untuned base once."""


def command(folder: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "pipelines", "experiments", "--study", "small.yaml", *args]


def run(folder: Path, *args: str, code: int = 0) -> str:
    done = subprocess.run(
        command(folder, *args),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        timeout=280,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def results(folder: Path, name: str = "experiments-small") -> dict[str, Any]:
    return dict(json.loads((folder / "runs" / name / "results.json").read_text()))


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    cells = [
        {k: v for k, v in cell.items() if k not in ("train_s", "answer_s")}
        for cell in record["cells"]
    ]
    return {**record, "cells": cells}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.yaml").write_text(yaml.safe_dump(STUDY))
    said = run(folder, code=2)
    assert "the study was not frozen" in said
    assert not (folder / "data").exists(), "no video before that"
    run(folder, "--freeze")
    assert "9 cells, 0 of them done before" in run(folder, "--tables", "4 controls")
    stores = [path.name.split("-t")[1][:2] for path in folder.glob("data/features/*/*")]
    assert stores == ["8-", "8-"], "features of the tables that were run"
    assert results(folder)["missing"] == 1
    assert f"{CELLS} cells, 9 of them done before" in run(folder)
    return folder


def test_every_cell_is_run_once_and_every_use_is_in_the_results(ran: Path) -> None:
    found = list((ran / "runs/study-cells").glob("*/*/seed-*/cell-*.json"))
    assert len(found) == CELLS
    record = results(ran)
    assert len(record["cells"]) == 8 + 2 + 2
    assert len({cell["cell"] for cell in record["cells"]}) == CELLS
    assert {cell["split"] for cell in record["cells"]} == {"test"}
    assert {cell["asked"] for cell in record["cells"]} == {24}
    (claim,) = record["claims"]
    assert claim["n"] == 4
    assert claim["p"] >= 0.125, "four pairs cannot come below"
    assert record["frozen"]["test_seed"] != 2024


def test_running_again_does_nothing_and_gives_the_same_bytes(ran: Path) -> None:
    path = ran / "runs/experiments-small/results.json"
    before = path.read_bytes(), stamps(ran)
    assert f"{CELLS} cells, {CELLS} of them done before" in run(ran)
    assert (path.read_bytes(), stamps(ran)) == before


def test_fewer_seeds_or_another_recipe_find_the_cells_and_keep_the_results(ran: Path) -> None:
    before = (ran / "runs/experiments-small/results.json").read_bytes()
    assert "6 cells, 6 of them done before" in run(ran, "--seeds", "1")
    fewer = results(ran, "experiments-small-1-seeds")
    assert (fewer["claims"][0]["n"], fewer["missing"]) == (2, 0)
    # The rows say the budget, so that this recipe's trains nothing else; it was not frozen.
    assert f"{CELLS} of them done before" in run(ran, "--experiment", "red-villm-long")
    other = results(ran, "experiments-small-red-villm-long")
    assert (other["experiment"], other["frozen"]) == ("red-villm-long", None)
    assert (ran / "runs/experiments-small/results.json").read_bytes() == before


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(STUDY))
    far = ("--base", "qwen-vl", "--dataset", "activitynet", "--benchmarks", "vcgbench")
    for args, words in {
        ("--tables", "4 9"): "no such table",
        ("--experiment", "shared"): "a study's rows say switches and frames",
        ("--quick", "--seeds", "0"): "not a number of seeds",
        ("--quick", *far): "nothing to score cells on",
    }.items():
        assert words in run(tmp_path, *args, code=2)
    assert not (tmp_path / "data/features").exists()


def test_a_killed_study_goes_on_and_ends_in_the_same_results(ran: Path, tmp_path: Path) -> None:
    for name in ("small.yaml", "small.lock.json"):
        (tmp_path / name).write_bytes((ran / name).read_bytes())
    (tmp_path / "data").symlink_to(ran / "data")
    cells = tmp_path / "runs/study-cells"
    for wanted in (1, 4):
        with subprocess.Popen(
            command(tmp_path), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 200
            while len(list(cells.glob("*/*/seed-*/cell-*.json"))) < wanted:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
    said = run(tmp_path, "--executor", "serial")
    assert ", 0 of them done before" not in said
    assert without_times(results(tmp_path)) == without_times(results(ran))


def test_a_change_after_the_freeze_is_refused_by_name(ran: Path) -> None:
    text = (ran / "small.yaml").read_text()
    try:
        (ran / "small.yaml").write_text(text.replace("val_videos: 4", "val_videos: 5"))
        said = run(ran, code=2)
    finally:
        (ran / "small.yaml").write_text(text)
    assert "something has changed since the study was frozen" in said
    assert "got: study" in said


def test_a_quick_look_never_sees_test_videos(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(STUDY))
    run(tmp_path, "--quick", "--tables", "4")
    record = results(tmp_path, "experiments-small-quick")
    assert record["quick"]
    assert {cell["split"] for cell in record["cells"]} == {"val"}
    assert len(list((tmp_path / "data/study/videos").iterdir())) == 24 + 4
    assert not (tmp_path / "data/study/test_q.json").exists()


def stamps(folder: Path) -> dict[Path, int]:
    files = (folder / "runs/study-cells").rglob("*")
    kept = re.compile(r"metrics\.json|predictions\.jsonl|cell-.*\.json")
    return {path: path.stat().st_mtime_ns for path in files if kept.fullmatch(path.name)}


def test_the_papers_study_is_planned_with_equal_rows_alike() -> None:
    study = load_study("paper")
    bases = {name: load_base(name) for name in study.families["mini"]}
    cells = plan_cells(study, bases, START)

    def cell(table: str, row: str, **more: Any) -> Any:
        use = Use(table, row, "mini", 0, "long")
        found = cells[replace(use, **more)]
        return replace(found, config=replace(found.config, experiment=""))

    assert cell("3", "both") == cell("4", "shared")
    assert cell("4", "copy") == cell("5", "nothing") == cell("6", "middle") == cell("7", "all")
    assert cell("4", "copy") == cell("controls", "red-villm") == cell("data", "1")
    assert cell("4", "copy") != cell("learning rate", "1"), "scored on validation videos"
    assert [cell("6", r.name).num_frames for r in study.tables[3].rows] == [2, 4, 8, 16, 32]
    for table in "345":
        uses = [use for use in cells if use.table == table and use.row == "both"]
        assert table != "3" or len({(use.base, use.seed) for use in uses}) == 10
    small, whole = cell("data", "1/16").config, cell("data", "1").config
    assert (small.data, small.epochs) == (0.0625, 16 * whole.epochs)
    untuned = {c.config.seed for use, c in cells.items() if use.row == "untuned base"}
    assert untuned == {0}
    assert len([use for use in cells if use.table == "learning rate"]) == 15
    assert table_names(study, "learning-rate 4") == {"learning rate", "4"}
    assert table_names(study, "") == {table.table for table in study.tables}
    with pytest.raises(ConfigError, match="did you mean controls"):
        table_names(study, "control")


def test_a_7b_takes_its_own_frames_and_a_resampler_is_read_in_two_ways() -> None:
    study = load_study("paper")
    qwen = replace(load_base("qwen-vl"), layout="qwen-vl")
    cells = plan_cells(study, {"qwen-vl": qwen}, START)
    table6 = {use: cell for use, cell in cells.items() if use.table == "6"}
    assert {cell.num_frames for cell in table6.values()} == {50, 75, 100, 150, 200}
    assert {use.reading for use in table6} == {"A", "B"}
    assert {use.reading for use in cells if use.table == "4"} == {""}
    assert {use.budget for use in cells} == {"default"}
    grids = {cell.config.switches.resampler for use, cell in table6.items() if use.reading == "B"}
    assert grids == {"resampler-grid"}
    llava = replace(load_base("llava-1.5-7b"), layout="llava-hf")
    assert {use.reading for use in plan_cells(study, {"llava": llava}, START)} == {""}


def test_what_is_frozen_must_be_committed(tmp_path: Path, base: BaseConfig) -> None:
    study, bases, path = load_study("paper"), {"mini": base}, tmp_path / "paper.lock.json"
    freeze(path, study, bases, "offline")
    assert read_frozen(path, study, bases, "offline")["test_seed"] > 0
    with pytest.raises(ConfigError, match="wanted: bases mini, judge offline"):
        read_frozen(path, study, bases, "another")

    def git(*args: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *who, *args], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    with pytest.raises(ConfigError, match="not committed"):
        read_frozen(path, study, bases, "offline")
    git("add", "-A")
    git("commit", "-m", "frozen")
    lock = read_frozen(path, study, bases, "offline")
    other = replace(bases["mini"], prompt="{question}")
    with pytest.raises(ConfigError, match="got: bases"):
        read_frozen(path, study, {"mini": other}, "offline")
    freeze(path, replace(study, name="other"), bases, "offline")
    assert json.loads(path.read_text())["test_seed"] != lock["test_seed"]
    with pytest.raises(ConfigError, match="got: study"):
        read_frozen(path, study, bases, "offline")


def test_both_embedded_bases_train_alike() -> None:
    first, second = load_base("mini"), load_base("mini-b")
    alike = {"name": "", "checkpoint": ""}
    assert replace(first, **alike) == replace(second, **alike)
    assert isinstance(load_study("paper"), StudyConfig)
