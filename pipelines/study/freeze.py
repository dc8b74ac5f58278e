"""What is fixed before the test videos exist.

World, study, recipes, bases, how answers are given and who judges them are digested into a lock
file beside the study's recipe. The seed of the test videos **is** a part of that digest: nobody can
have seen them while anything was still chosen, and whoever changes something gets other videos.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from eval.generate import GenerateConfig
from features.checkpoint_files import resolve_checkpoint
from features.config import BaseConfig
from features.durable import file_sha256, replace_json
from features.errors import ConfigError
from features.recipes import load_recipe
from features.spec import SCHEMA_VERSION, canonical_json
from pipelines.demo_data import DemoDataConfig
from pipelines.study.recipe import StudyConfig
from pipelines.worlds import WORLDS
from train.options import TrainConfig


def freeze(path: Path, study: StudyConfig, bases: Mapping[str, BaseConfig], judge: str) -> None:
    """Write a study's lock to `path`; commit it before anything is scored on test videos."""
    content = _content(study, bases, judge)
    digest = _digest(content)
    lock = {"schema": SCHEMA_VERSION, "frozen": date.today().isoformat()}
    replace_json(path, lock | content | {"digest": digest, "test_seed": _seed(digest)}, "lock")


def read_frozen(
    path: Path, study: StudyConfig, bases: Mapping[str, BaseConfig], judge: str
) -> dict[str, Any]:
    """The lock of a study whose world, recipes and bases are still what they were.

    Raises:
        ConfigError: there is none, something has changed since, or it was not committed.
    """
    again = "`make experiments ARGS=--freeze` draws new test videos; commit the file, then run"
    try:
        lock: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("the study was not frozen", where=path, got=error, do=again) from error
    now = _content(study, bases, judge)
    changed = [name for name in now if lock.get(name) != json.loads(json.dumps(now[name]))]
    if changed or lock.get("test_seed") != _seed(_digest(now)):
        raise ConfigError(
            "something has changed since the study was frozen: its test videos would be known",
            where=path,
            got=", ".join(changed) or "another test seed",
            do=f"undo the change, or: {again}",
        )
    if _uncommitted(path):
        raise ConfigError("the frozen study is not committed", where=path, do="git commit it")
    return lock


def with_test_seed(render: DemoDataConfig, lock: Mapping[str, Any]) -> DemoDataConfig:
    """The world with the test videos that the lock stands for."""
    return replace(render, test_seed=int(lock["test_seed"]))


def base_facts(bases: Mapping[str, BaseConfig]) -> dict[str, str]:
    """sha256 of each base's weights."""
    facts = {}
    for name, base in bases.items():
        digests = [
            file_sha256(path)
            for path in sorted(resolve_checkpoint(base.checkpoint).glob("*.safetensors"))
        ]
        facts[name] = digests[0] if len(digests) == 1 else _digest(digests)
    return facts


def _content(study: StudyConfig, bases: Mapping[str, BaseConfig], judge: str) -> dict[str, Any]:
    """Everything that a result could be steered by, as digests."""
    return {
        "world": WORLDS[(study.render or DemoDataConfig()).world].digest,
        "study": _digest(_said(study)),
        "recipe": _digest(_said(load_recipe("experiments", "red-villm", TrainConfig))),
        "bases": {name: _digest(_said(base)) for name, base in bases.items()},
        "weights": base_facts(bases),
        "answers": _digest(_said(GenerateConfig())),
        "judge": judge,
    }


def _said(config: Any) -> Any:
    """What a recipe says beyond its defaults, so that an option that is new changes nothing."""
    if is_dataclass(config):
        said = {}
        for field in fields(config):
            value = getattr(config, field.name)
            usual = field.default_factory() if callable(field.default_factory) else field.default
            if value != usual:
                said[field.name] = _said(value)
        return said
    if isinstance(config, dict):
        return {name: _said(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [_said(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def _digest(record: object) -> str:
    return hashlib.sha256(canonical_json(json.loads(json.dumps(record))).encode()).hexdigest()


def _seed(digest: str) -> int:
    return int(digest[:8], 16)


def _uncommitted(path: Path) -> bool:
    """Whether git knows of a repository there in which the file is new or changed."""
    try:
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", path.name],
            cwd=path.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False  # no git, or an archive without its history
    return bool(status.stdout.strip())
