"""The 7B recipes of the paper's rows are rows of the study, those that the README says."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest

from features.config import BaseConfig
from features.describe import load_base
from features.recipes import RECIPES
from pipelines.experiment import load_experiment
from pipelines.study.cells import Cell, Use, plan_cells
from pipelines.study.recipe import load_study
from train.options import TrainConfig

FOLDER = RECIPES / "experiments"
README = FOLDER / "README.md"
OURS = {("4", "random"), ("5", "both modules")}
"""Rows of the paper's tables that the paper does not have."""


def readme_rows() -> list[tuple[str, list[str], str]]:
    """(table, 7B recipes, row of the study) as the README has them."""
    lines = [line for line in README.read_text().splitlines() if re.match(r"\| [1-7]", line)]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [(table, re.findall(r"`([^`]+)`", large), row) for table, _, large, row, _ in cells]


@cache
def planned(name: str) -> tuple[BaseConfig, dict[Use, Cell]]:
    """A base without its weights, which nobody has here, and the paper's tables of it, seed 0."""
    base = replace(load_base(name), layout="qwen-vl" if "qwen" in name else "llava-hf")
    study = load_study("paper")
    tables = tuple(replace(table, seeds=1) for table in study.tables if table.table in "34567")
    start = load_experiment("red-villm").part(TrainConfig)
    return base, plan_cells(replace(study, tables=tables), {name: base}, start)


def test_every_printed_row_names_a_7b_recipe_and_every_recipe_is_named() -> None:
    tables = [table for table, _, _ in readme_rows()]
    assert [tables.count(n) for n in "34567"] == [6, 4, 2, 5, 2], "rows as printed"
    named = {name for _, names, _ in readme_rows() for name in names}
    assert all(names for _, names, _ in readme_rows())
    assert all("-7b" in name for name in named)
    there = {path.stem for path in FOLDER.glob("*.yaml")}
    assert named <= there
    assert there <= set(re.findall(r"`([^`]+)`", README.read_text())), "one is not told of"


@pytest.mark.parametrize(
    ("recipe", "row"), sorted({(n, row) for _, names, row in readme_rows() for n in names})
)
def test_a_7b_recipe_is_the_row_of_the_study(recipe: str, row: str) -> None:
    """In what is trained, what of the video is seen, and the number of frames."""
    experiment = load_experiment(recipe)
    base, cells = planned(experiment.base)
    table, name = row.split(": ")
    reading = ""
    if base.layout == "qwen-vl" and table in "67":
        reading = {"resampler": "A", "resampler-grid": "B"}[experiment.switches.resampler]
    cell = cells[Use(table, name, base.name, 0, "default", reading)]
    assert experiment.switches == cell.config.switches
    assert (experiment.num_frames or base.num_frames) == cell.num_frames


def test_every_row_of_the_papers_tables_has_a_7b_recipe_but_ours() -> None:
    study = load_study("paper")
    rows = {(table.table, row.name) for table in study.tables for row in table.rows}
    named = {tuple(row.split(": ")) for _, _, row in readme_rows()}
    assert named <= rows
    assert {row for row in rows - named if row[0] in "34567"} == OURS
