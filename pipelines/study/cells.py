"""What has to be trained: rows x bases x seeds x budgets, equal ones once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from features.checkpoint_files import resolve_checkpoint
from features.config import BaseConfig
from features.errors import ConfigError
from features.layouts import detect_layout
from features.recipes import did_you_mean
from pipelines.study.recipe import RowConfig, StudyConfig, TableConfig
from train.options import TrainConfig, pick_budget
from train.projectors import ProjectorSwitches

READINGS = {"A": "resampler", "B": "resampler-grid"}
"""Of a resampler, by the name of the reading."""
QUICK = ("default",)
"""Budgets of a quick study."""


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

    @property
    def label(self) -> str:
        """For people."""
        reading = f", reading {self.reading}" if self.reading else ""
        return f"{self.table}: {self.row}{reading}, {self.base}, seed {self.seed}, {self.budget}"


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


def plan_cells(
    study: StudyConfig,
    bases: Mapping[str, BaseConfig],
    start: TrainConfig,
    quick: bool = False,
    seeds: int | None = None,
) -> dict[Use, Cell]:
    """Every use of every row, in the order of the recipe.

    Args:
        study: the recipe, with the tables that are wanted.
        bases: the family by name, the one that gives it its name first.
        start: training options that every row starts from.
        quick: one seed of the first base in the quick budget, scored on validation videos.
        seeds: of every row, instead of what its table says.

    Raises:
        ConfigError: a row's switches do not exist or exclude one another, or no seeds at all.
    """
    if seeds is not None and seeds < 1:
        raise ConfigError("not a number of seeds", where="--seeds", got=seeds, wanted="1 or more")
    cells: dict[Use, Cell] = {}
    for table in study.tables:
        count = 1 if quick else seeds or table.seeds
        for name in list(bases)[: 1 if quick else table.bases]:
            base = bases[name]
            varied = _readings(table, base), _budgets(table, base, quick), range(count)
            for row, reading, budget, seed in product(table.rows, *varied):
                use = Use(table.table, row.name, name, seed, budget, reading)
                cell = _cell(use, table, row, base, next(iter(bases)), start)
                cells[use] = replace(cell, split="val") if quick else cell
    return cells


def table_names(study: StudyConfig, wanted: str) -> set[str]:
    """These tables (separated by blanks; a name's blanks become dashes), all where none is said.

    Raises:
        ConfigError: no such table.
    """
    names = {table.table.replace(" ", "-"): table.table for table in study.tables}
    for name in wanted.split():
        if name not in names:
            raise ConfigError("no such table", got=name, do=did_you_mean(name, names))
    return {names[name] for name in wanted.split() or names}


def _cell(
    use: Use,
    table: TableConfig,
    row: RowConfig,
    base: BaseConfig,
    family: str,
    start: TrainConfig,
) -> Cell:
    where = f"table {table.table}, row {row.name}"
    switches: dict[str, Any] = {"features": "both", "temporal_module": "copy"} | row.switches
    if use.reading:
        switches["resampler"] = READINGS[use.reading]
    try:
        built = ProjectorSwitches(**switches)
    except TypeError as error:
        raise ConfigError("no such switch", where=where, got=error) from error
    config = replace(start, experiment=row.name, switches=built)
    if row.untrained:  # whatever the seed and the budget, it is the same
        config = replace(config, budget="default", epochs=0)
    else:
        budget = pick_budget(replace(config, budget=use.budget), base)
        config = replace(
            config,
            seed=use.seed,
            budget=use.budget,
            lr=budget.lr * row.lr,
            data=row.data,
            epochs=round(budget.epochs / row.data),
        )
    frames = row.frames.get(family, row.frames.get("default", base.num_frames))
    return Cell(config, use.base, frames, table.split)


def _readings(table: TableConfig, base: BaseConfig) -> Sequence[str]:
    return tuple(READINGS) if table.readings and has_resampler(base) else ("",)


def has_resampler(base: BaseConfig) -> bool:
    """Whether the base's alignment module is a resampler: Qwen-VL's is."""
    if base.layout != "auto":
        return base.layout == "qwen-vl"
    return detect_layout(resolve_checkpoint(base.checkpoint)).name == "qwen-vl"


def _budgets(table: TableConfig, base: BaseConfig, quick: bool) -> Sequence[str]:
    wanted = QUICK if quick else table.budgets
    return tuple(name for name in wanted if name in base.budgets) or QUICK
