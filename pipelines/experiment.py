"""An experiment's recipe in one file: what it works on (Selection), how it trains (TrainConfig).

`extract`, `train` and `eval` are given the same file. Training takes all of it; the other stages
take the selection alone, because options of one name (`batch_size`, `device`) mean other things
there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import yaml

from features.recipes import check_keys, load_recipe, read_recipe, recipe_path
from pipelines.selection import Selection
from train.options import TrainConfig

Part = TypeVar("Part", Selection, TrainConfig)
SELECTED = frozenset(field.name for field in dataclasses.fields(Selection)) | {"experiment"}


@dataclass(frozen=True)
class Experiment(TrainConfig, Selection):
    """All that an experiment's recipe may say."""

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
            parts[at] = str(path) if "switches" in options else _selected(path, options)
    return parts


def _selected(path: Path, options: Collection[str]) -> str:
    """The part of an experiment's recipe that is not about training, as YAML in one string."""
    record = read_recipe(path)
    if "experiment" not in record:
        return str(path)
    check_keys(record, Experiment, where=path)
    chosen = {key: value for key, value in record.items() if key in SELECTED & set(options)}
    return str(yaml.safe_dump(chosen))
