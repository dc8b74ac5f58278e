"""What is fixed before the test videos exist.

World, study, recipes, bases and who judges are digested into a lock file beside the study's recipe.
The seed of the test videos **is** a part of that digest: nobody can have seen them while any of it
was still chosen, and whoever changes it gets other videos. What recipes leave to defaults, and the
rule of the verdicts, are written out beside it and must stay as they are. The code itself is not
covered: that is what a commit is for.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from eval.generate import GenerateConfig
from features.checkpoint_files import resolve_checkpoint
from features.config import BaseConfig, Budget
from features.durable import file_sha256, replace_json
from features.errors import ConfigError, few
from features.recipes import load_recipe
from features.spec import SCHEMA_VERSION, record_digest
from pipelines.demo_data import DemoDataConfig
from pipelines.study.claims import rule
from pipelines.study.recipe import ClaimConfig, RowConfig, StudyConfig, TableConfig
from pipelines.worlds import WORLDS
from train.options import TrainConfig


def freeze(path: Path, study: StudyConfig, bases: Mapping[str, BaseConfig], judge: str) -> None:
    """Write a study's lock to `path`; commit it before anything is scored on test videos."""
    content = _content(study, bases, judge)
    digest = record_digest(content)
    lock = {"schema": SCHEMA_VERSION, "frozen": date.today().isoformat()}
    seed = {"digest": digest, "test_seed": _seed(digest), "defaults": _defaults()}
    replace_json(path, lock | content | seed, "lock")


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
    if sorted(lock["bases"]) != sorted(bases) or lock["judge"] != judge:
        raise ConfigError(
            "the study was frozen for others",
            where=path,
            got=f"bases {few(sorted(bases))}, judge {judge}",
            wanted=f"bases {few(sorted(lock['bases']))}, judge {lock['judge']}",
            do="name another DATASET for them, or a study of your own (STUDY=my.yaml)",
        )
    now = _content(study, bases, judge)
    changed = [name for name in now if lock.get(name) != now[name]]
    changed += _changed(lock.get("defaults", {}), _defaults())
    if changed or lock.get("test_seed") != _seed(record_digest(now)):
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
        facts[name] = digests[0] if len(digests) == 1 else record_digest(digests)
    return facts


def _content(study: StudyConfig, bases: Mapping[str, BaseConfig], judge: str) -> dict[str, Any]:
    """Everything that a result could be steered by, as digests."""
    return {
        "world": WORLDS[(study.render or DemoDataConfig()).world].digest,
        "study": record_digest(_said(study)),
        "recipe": record_digest(_said(load_recipe("experiments", "red-villm", TrainConfig))),
        "bases": {name: record_digest(_said(base)) for name, base in bases.items()},
        "weights": base_facts(bases),
        "answers": record_digest(_said(GenerateConfig())),
        "judge": judge,
    }


def _defaults() -> dict[str, Any]:
    """What recipes leave unsaid, and the rule of the verdicts; only new options may join."""
    unsaid = (TrainConfig(), GenerateConfig(), DemoDataConfig(), Budget())
    found = {type(one).__name__: asdict(one) for one in unsaid}
    for cls in (BaseConfig, TableConfig, RowConfig, ClaimConfig):
        found[cls.__name__] = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    record: dict[str, Any] = json.loads(json.dumps(found | {"verdicts": rule()}, default=str))
    return record


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of what was fixed and is not the same any more."""
    return [
        f"{name}.{key}"
        for name, values in then.items()
        for key, value in values.items()
        if now.get(name, {}).get(key, MISSING) != value
    ]


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


def _seed(digest: str) -> int:
    return int(digest[:8], 16)


def _uncommitted(path: Path) -> bool:
    """Whether git knows of a repository there in which the file is new or changed."""
    command = ["git", "status", "--porcelain", "--", path.name]
    try:
        status = subprocess.run(
            command, cwd=path.parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return False  # no git
    if status.returncode and "not a git repository" not in status.stderr:
        raise ConfigError("git cannot say whether the lock is committed", got=status.stderr.strip())
    return bool(status.stdout.strip())
