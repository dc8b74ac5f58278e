"""How each run learned: loss, learning rate and validation loss by step, from its own log."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.runs import NamedRun
from features.errors import RedVillmError

LOG = Path("logs", "metrics.csv")
"""Where train/loggers.py keeps it in a run."""
MOST = 500
"""Points a curve."""


def learning_curves(runs: Sequence[NamedRun]) -> dict[str, dict[str, Any]]:
    """By run, `{"step", "loss", "lr", "val"}` of its first seed; `val` is None without validation.

    A run without a log (untuned, imported, exported) has no curve. Of a long log at most `MOST`
    steps are kept, evenly, and among them those with a validation.

    Raises:
        RedVillmError: a log cannot be read.
    """
    found = {run.name: _curve(run.seeds[0] / LOG) for run in runs}
    return {name: curve for name, curve in found.items() if curve is not None}


def _curve(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]  # a training that goes on may be in a line's middle
        rows = list(csv.DictReader(whole.splitlines()))
        steps = [int(row["step"]) for row in rows]
        numbers = {
            name: [_number(row, name) for row in rows] for name in ("loss", "lr", "val_loss")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "remove the file to go without the curve"
        raise RedVillmError("cannot read a run's log", where=path, got=error, do=do) from error
    if not steps:
        return None
    kept = _thin(
        len(rows), [at for at, value in enumerate(numbers["val_loss"]) if value is not None]
    )
    loss, lr, val = ([values[at] for at in kept] for values in numbers.values())
    validated = any(value is not None for value in val)
    return {
        "step": [steps[at] for at in kept],
        "loss": loss,
        "lr": lr,
        "val": val if validated else None,
    }


def _number(row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name)
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _thin(count: int, wanted: Sequence[int]) -> list[int]:
    """At most MOST of `count` places, the wanted ones first (half of all at most)."""
    if count <= MOST:
        return list(range(count))
    first = _evenly(len(wanted), MOST // 2)
    chosen = {wanted[at] for at in first}
    return sorted(chosen | set(_evenly(count, MOST - len(chosen))))


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the places 0 to count - 1, the first and the last among them."""
    places = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    found: list[int] = places.tolist()
    return found
