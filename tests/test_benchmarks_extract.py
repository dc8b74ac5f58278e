from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.extract import EXTRACT, LIMITS
from benchmarks.results import Measured, summarise


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_smallest_run_measures_every_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    options = ["--scale", "tiny", "--repeats", "1", "--data", str(tmp_path / "data")]
    EXTRACT.run([*options, "--out", str(out)])
    record = json.loads(out.read_text())
    optional = {"zarr_tensorstore_read_over_npload"}
    assert set(LIMITS) - optional <= set(record) & set(record["details"])
    assert all(0 <= record[key] < np.inf for key in record["details"])
    assert record["parity_max_abs"] < 1e-4
    assert record["repeats"] == 1
    assert record["cpu_model"]
    assert len(record["git_commit"]) == 40
    assert "parity_max_abs" in capfd.readouterr().err
    assert not list((tmp_path / "data").glob("run-*"))


def test_every_key_belongs_to_one_part() -> None:
    assert sorted(key for keys in EXTRACT.parts.values() for key in keys) == sorted(LIMITS)


def test_median_spread_and_verdict() -> None:
    repeats = [Measured({"rss_growth": x, "loader_samples_per_s_zarr": 500 * x}) for x in (1, 3, 2)]
    record = summarise(repeats, {}, LIMITS)
    assert record["rss_growth"] == 2
    growth, loader = (record["details"][k] for k in ("rss_growth", "loader_samples_per_s_zarr"))
    assert (growth["min"], growth["max"], growth["values"]) == (1, 3, [1, 3, 2])
    assert (growth["limit"], growth["passed"]) == ("<= 1.1", False)
    assert (loader["limit"], loader["passed"]) == (">= 500", True)


@pytest.mark.parametrize(("floor", "passed"), [(2.6, False), (2.4, None)])
def test_bf16_is_judged_only_where_the_processor_gains(floor: float, passed: bool | None) -> None:
    found = [Measured({"speedup_bf16": 2.0, "bf16_floor": floor})]
    record = summarise(found, {}, LIMITS)
    assert record["details"]["speedup_bf16"]["passed"] is passed
