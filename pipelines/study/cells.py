"""What has to be trained: rows x bases x seeds x budgets, equal ones once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.options import TrainConfig


@dataclass(frozen=True)
class Use:
    """Where a cell stands in a study; rows of one (base, seed, budget) are paired."""

    table: str
    row: str
    base: str
    seed: int
    budget: str
    reading: str = ""
    """Of a resampler: `A` or `B`; empty for other bases."""


@dataclass(frozen=True)
class Cell:
    """One training run and its evaluation on one split."""

    config: TrainConfig
    base: str
    num_frames: int
    split: Literal["test", "val"]


@dataclass(frozen=True)
class Done:
    """A cell that was run."""

    cell: Cell
    fingerprint: str
    """Of everything that decides its numbers."""
    run: Path
    """The run's folder."""
    answers: tuple[Path, ...]
    """Folders of its answers (eval/folders.py), one a benchmark split, judged by `judge`."""
    judge: str
    """Slug of the judge."""
    metrics: dict[str, Any]
    """The run's metrics.json."""
