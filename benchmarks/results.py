"""What was measured, against what is wanted, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Limit:
    """What is wanted of a key."""

    value: float
    most: bool = True
    """Whether `value` is the most allowed, or else the least."""
    given: tuple[str, float] | None = None
    """(key, least): judged only where that key's median is at least so much."""

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.value:g}"

    def holds(self, found: float) -> bool:
        """Whether a median is as wanted."""
        return found <= self.value if self.most else found >= self.value

    def applies(self, medians: Mapping[str, float]) -> bool:
        """Whether the condition under which it is judged, if any, holds or is unknown."""
        return self.given is None or medians.get(*self.given) >= self.given[1]


Limits = Mapping[str, Limit | None]
"""Every key of a benchmark, and what is wanted of it; None: for information."""


@dataclass(frozen=True)
class Measured:
    """One repeat of one part."""

    values: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    """What the ratios were made from."""
    reports: dict[str, str] = field(default_factory=dict)
    """What the runs say of themselves."""


def summarise(repeats: Iterable[Measured], facts: dict[str, Any], limits: Limits) -> dict[str, Any]:
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
    details = {}
    for key, value in medians.items():
        limit = limits[key]
        if limit is not None and not limit.applies(medians):
            limit = None
        details[key] = {
            "min": min(found[key]),
            "max": max(found[key]),
            "values": found[key],
            "limit": str(limit) if limit else None,
            "passed": limit.holds(value) if limit else None,
        }
    medians = {key: medians[key] for key in limits if key in medians}
    return {**facts, **medians, "details": details, "seconds": seconds, "reports": reports}


def machine_facts(packages: Sequence[str]) -> dict[str, Any]:
    """Commit, processor and versions of these packages."""

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
        "packages": {name: version(name) for name in packages},
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
