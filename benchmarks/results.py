"""What was measured, against what is wanted, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

_PACKAGES = ("torch", "transformers", "decord", "av", "ray", "zarr", "h5py", "numpy")


@dataclass(frozen=True)
class Limit:
    """What is wanted of a key."""

    value: float
    most: bool = True
    """Whether `value` is the most allowed, or else the least."""

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.value:g}"

    def holds(self, found: float) -> bool:
        """Whether a median is as wanted."""
        return found <= self.value if self.most else found >= self.value


LIMITS: dict[str, Limit | None] = {
    "in_process_over_floor": Limit(1.15),
    "ray_over_floor": Limit(1.25),
    "speedup_fp32": Limit(1.1, most=False),
    "speedup_bf16": Limit(2.3, most=False),
    "bf16_floor": None,
    "parity_max_abs": Limit(1e-4),
    "multi_spec_over_union": Limit(1.15),
    "rss_growth": Limit(1.1),
    "hdf5_read_over_npload": Limit(2.5),
    "zarr_read_over_npload": Limit(4.0),
    "zarr_library_read_over_npload": None,
    "zarr_tensorstore_read_over_npload": None,
    "loader_samples_per_s_hdf5": Limit(500, most=False),
    "loader_samples_per_s_zarr": Limit(500, most=False),
}
"""Every key, and what is wanted of it; None: for information. Zarr may take 10 times as long as
numpy.load, or 4 times with TensorStore's help; ours needs no help."""
_BF16_FLOOR = 2.5
"""The processor's own gain from bfloat16 below which nothing is wanted of ours."""


@dataclass(frozen=True)
class Measured:
    """One repeat of one part."""

    values: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    """What the ratios were made from."""
    reports: dict[str, str] = field(default_factory=dict)
    """What the runs say of themselves."""


def summarise(repeats: Iterable[Measured], facts: dict[str, Any]) -> dict[str, Any]:
    """The record: each key's median at the top, its spread and limit under `details`."""
    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    reports: dict[str, list[str]] = {}
    for one in repeats:
        for target, values in (
            (found, one.values),
            (seconds, one.seconds),
            (reports, one.reports),
        ):
            for key, value in values.items():
                target.setdefault(key, []).append(value)  # type: ignore[arg-type]
    medians = {key: median(values) for key, values in found.items()}
    limits = dict(LIMITS)
    if medians.get("bf16_floor", _BF16_FLOOR) < _BF16_FLOOR:
        limits["speedup_bf16"] = None
    details = {}
    for key, value in medians.items():
        limit = limits[key]
        details[key] = {
            "min": min(found[key]),
            "max": max(found[key]),
            "values": found[key],
            "limit": str(limit) if limit else None,
            "passed": limit.holds(value) if limit else None,
        }
    medians = {key: medians[key] for key in LIMITS if key in medians}
    return {**facts, **medians, "details": details, "seconds": seconds, "reports": reports}


def machine_facts() -> dict[str, Any]:
    """Commit, processor and versions."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
        return done.stdout.strip()

    return {
        "git_commit": git("rev-parse", "HEAD") or "unknown",
        "git_clean": not git("status", "--porcelain", "--untracked-files=no"),
        "cpu_model": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")


def print_table(console: Console, record: dict[str, Any]) -> None:
    """Median, spread, limit and verdict of every key."""
    table = Table("key", "median", "min", "max", "wanted", "")
    for key, details in record["details"].items():
        verdict = {True: "ok", False: "[red]missed", None: ""}[details["passed"]]
        numbers = (f"{x:.4g}" for x in (record[key], details["min"], details["max"]))
        table.add_row(key, *numbers, details["limit"] or "", verdict)
    console.print(table)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
