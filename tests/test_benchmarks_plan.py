from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.plan import LIMITS, PLAN, SCALES, STAGES
from pipelines import plan_sample
from pipelines.plan_sample import SMALL, Sizes

WANTED = {**{f"{stage}_off": "<= 0.25" for stage in STAGES}, "store_bytes_off": "<= 0.05"}


def test_the_smallest_run_measures_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_sample, "SMALL", Sizes((2, 4), (1, 3), (2, 6)))
    out = tmp_path / "out.json"
    PLAN.run(["--scale", "tiny", "--repeats", "1", "--data", str(tmp_path), "--out", str(out)])
    record = json.loads(out.read_text())
    assert set(record["details"]) == set(LIMITS)
    assert all(0 <= record[key] < np.inf for key in LIMITS)
    assert {key: record["details"][key]["limit"] for key in WANTED} == WANTED
    for name in (*STAGES, "store_bytes"):
        ratio = record[f"{name}_predicted_over_measured"]
        assert record[f"{name}_off"] == pytest.approx(abs(ratio - 1))
    for stage in STAGES:
        predicted, cpu = (record["seconds"][f"{stage}_{what}"][0] for what in ("predicted", "cpu"))
        assert record[f"{stage}_predicted_over_measured"] == pytest.approx(predicted / cpu)
        within = str(abs(predicted / cpu - 1) <= 0.25).lower()
        assert record["reports"][stage] == [f"within_25_percent: {within}"]


def test_every_key_belongs_to_one_part() -> None:
    assert sorted(key for keys in PLAN.parts.values() for key in keys) == sorted(LIMITS)


def test_the_run_is_several_times_as_large_as_the_sample() -> None:
    full = SCALES["full"]
    assert full.train_videos + full.test_videos > 5 * SMALL.videos[1]
    assert full.train_videos * 4 * 3 // 16 >= 5 * SMALL.steps[1]
    assert full.test_videos * 4 > 6 * SMALL.questions[1]
