from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import LIMITS, REPORT
from benchmarks.report_world import SCALES, make_report_world
from eval.folders import eval_folder

TINY = SCALES["tiny"]


def test_the_smallest_run_measures_every_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    REPORT.run(["--scale", "tiny", "--repeats", "1", "--data", str(tmp_path), "--out", str(out)])
    record = json.loads(out.read_text())
    assert set(record["details"]) == set(LIMITS)
    assert all(0 < record[key] < np.inf for key in LIMITS)
    limits = {key: record["details"][key]["limit"] for key in LIMITS}
    assert limits == {"report_build_s": "<= 60", "page_interactive_s": "<= 3", "filter_s": None}
    assert record["filter_s"] < record["page_interactive_s"]
    assert "page_interactive_s" in capfd.readouterr().err
    assert not list(tmp_path.glob("run-*"))

    runs, parts, _ = make_report_world(tmp_path, TINY)
    wrong = set()
    for run in runs:
        folder = eval_folder(run.seeds[0], parts[0].dataset, parts[0].split) / "judges"
        for path in folder.glob("*/verdicts.jsonl"):
            verdicts = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            wrong |= {verdict["sample_id"] for verdict in verdicts if verdict["correct"] is False}
    asked = TINY.questions - 60  # the other parts' share
    assert record["reports"]["all"] == [f"{asked} of {asked} questions"]
    assert record["reports"]["wrong"] == [f"{len(wrong)} of {asked} questions"]


def test_full_scale_is_what_is_asked_for() -> None:
    assert SCALES["full"].questions == 73_000
    assert set(SCALES) == {"full", "quick", "tiny"}


def test_a_missing_browser_is_said_with_what_to_do(tmp_path: Path) -> None:
    missing = {"CHROMIUM": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chromium"],
        env=os.environ | missing,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no Chromium" in done.stderr
    assert "apt-get install chromium" in done.stderr
