"""From a name on the command line to a recipe: YAML in, checked dataclass out.

A recipe is looked up by name in pipelines/recipes/<kind>/, or given as a path to any YAML file.
Unknown names and unknown keys fail with the nearest known ones.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import jsonargparse
import yaml

from features.checkpoint_files import PROJECT
from features.config import DatasetConfig, SplitConfig
from features.errors import ConfigError

RECIPES = PROJECT / "pipelines" / "recipes"
Recipe = TypeVar("Recipe")
Kind = Literal["bases", "datasets", "experiments", "hardware", "judges", "studies", "translators"]
KINDS = {"studies": "study", "hardware": "hardware"}
"""What one of them is called, where that is not the folder without its s."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence for an unknown name: the nearest known ones, or all of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(choices)}"


def recipe_path(kind: Kind, name: str) -> Path:
    """The YAML file of a recipe given by name, or by path when it ends in .yaml.

    Raises:
        ConfigError: no such recipe.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / kind / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in (RECIPES / kind).glob("*.yaml")]
        raise ConfigError(
            f"no such {KINDS.get(kind, kind[:-1])}",
            where=path,
            got=name,
            do=did_you_mean(path.stem, known),
        )
    return path


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe's mapping, with `${VARIABLE}` replaced from the environment.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        record = yaml.safe_load(os.path.expandvars(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError("cannot read the recipe", where=path, got=error) from error
    if not isinstance(record, dict):
        raise ConfigError("a recipe is a mapping", where=path, got=type(record).__name__)
    return record


def load_recipe(
    kind: Kind,
    name: str,
    cls: type[Recipe],
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Read a recipe into its frozen dataclass.

    Args:
        kind: Folder of the recipe.
        name: Its name, or a path to a YAML file.
        cls: The dataclass.
        overrides: Values that replace the file's.

    Raises:
        ConfigError: unknown recipe, unknown key, or a value of the wrong type.
    """
    path = recipe_path(kind, name)
    record = read_recipe(path) | dict(overrides or {})
    check_keys(record, cls, where=path)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "recipe")
    try:
        parsed = parser.parse_object({"recipe": record})
        return typing.cast(Recipe, parser.instantiate(parsed).recipe)
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).replace("recipe.", "")
        raise ConfigError("the recipe has a wrong value", where=path, got=reason) from error


def find_split(dataset: DatasetConfig, name: str) -> SplitConfig:
    """A dataset's split.

    Raises:
        ConfigError: it has none of that name.
    """
    if name not in dataset.splits:
        where, do = f"dataset {dataset.name}", did_you_mean(name, dataset.splits)
        raise ConfigError("no such split", where=where, got=name, wanted="one split", do=do)
    return dataset.splits[name]


def check_keys(record: Mapping[str, Any], cls: type[Any], where: object) -> None:
    """Refuse keys that the dataclass does not have, at any depth.

    Raises:
        ConfigError: naming the key and the nearest known ones.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    for key, value in record.items():
        if key not in known:
            raise ConfigError("unknown key", where=where, got=key, do=did_you_mean(str(key), known))
        for nested in _dataclasses_in(hints[key]):
            if typing.get_origin(hints[key]) is dict and isinstance(value, Mapping):
                for name, item in value.items():
                    check_keys(item, nested, where=f"{where}: {key}.{name}")
            elif isinstance(value, Mapping):
                check_keys(value, nested, where=f"{where}: {key}")


def _dataclasses_in(hint: Any) -> list[type[Any]]:
    """The dataclasses mentioned by a type hint (itself, or its arguments)."""
    found = [hint, *typing.get_args(hint)]
    return [item for item in found if isinstance(item, type) and dataclasses.is_dataclass(item)]
