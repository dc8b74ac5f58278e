"""An experiment's recipe in one file: what it works on (Selection), how it trains (TrainConfig).

`extract`, `train` and `eval` are given the same file. Training takes all of it but the dtype of
answering; the other stages take the selection alone, because options of one name (`batch_size`,
`device`) mean other things there, and `eval` that dtype besides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import yaml

from features.recipes import check_keys, load_recipe, read_recipe, recipe_path
from pipelines.selection import Selection
from train.options import TrainConfig

Part = TypeVar("Part", Selection, TrainConfig)
SELECTED = frozenset(field.name for field in dataclasses.fields(Selection)) | {"experiment"}
ANSWERED = frozenset({"dtype"})
"""Keys that only a stage that answers questions is given."""


@dataclass(frozen=True)
class Experiment(TrainConfig, Selection):
    """All that an experiment's recipe may say."""

    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """In which the LLM answers: `dtype` of `eval` alone."""

    def part(self, cls: type[Part]) -> Part:
        """The selection, or the training options, by themselves."""
        return cls(**{field.name: getattr(self, field.name) for field in dataclasses.fields(cls)})


def load_experiment(name: str) -> Experiment:
    """An experiment by the name of its recipe or the path of a YAML file.

    Raises:
        ConfigError: unknown recipe, unknown key, or a value of the wrong type.
    """
    return load_recipe("experiments", name, Experiment)


def read_recipes(args: Sequence[str], options: Collection[str]) -> list[str]:
    """The command line with each `--config` made readable for a stage that has these options.

    An experiment may go by its name. Its recipe (what names an `experiment`) becomes its selection
    alone where the stage does not train; other files stay as they are.

    Raises:
        ConfigError: no such recipe, or an unknown key in it.
    """
    parts = [p for a in args for p in (a.split("=", 1) if a.startswith("--config=") else [a])]
    for at, (option, value) in enumerate(pairwise(parts), start=1):
        if option == "--config":
            path = Path(value) if Path(value).is_file() else recipe_path("experiments", value)
            parts[at] = _selected(path, options)
    return parts


def _selected(path: Path, options: Collection[str]) -> str:
    """The part of an experiment's recipe that a stage takes, as YAML in one string."""
    record = read_recipe(path)
    if "switches" in options:  # training
        taken = record.keys() - ANSWERED
    elif "experiment" in record:
        check_keys(record, Experiment, where=path)
        answers = "temperature" in options
        taken = record.keys() & set(options) & (SELECTED | (ANSWERED if answers else set()))
    else:
        return str(path)
    if taken == record.keys():
        return str(path)
    return str(yaml.safe_dump({key: value for key, value in record.items() if key in taken}))
