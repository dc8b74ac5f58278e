"""One training run: from a recipe, a base and stores to a run folder.

The folder `<runs>/<dataset>/<experiment>/seed-<n>/` holds config.yaml (everything that decides the
result), logs, projectors/ and, written last, metrics.json: a folder that has it is a finished run.
The same recipe on the same stores is then not trained again. One that was stopped has state.ckpt
and goes on from there, as if it had never stopped.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from features.config import BaseConfig
from features.device import pick_device, pick_dtype
from features.durable import replace_file
from features.spec import IMPORTED
from train.checkpoint import METRICS, PROJECTORS, RECORD
from train.distributed import find_own_device, is_rank_zero
from train.fit import fit
from train.job import Job
from train.loggers import FOLDERS
from train.options import TrainConfig, check_options, pick_budget
from train.resume import STATE
from train.sources import TrainingData, open_data


def run_folder(config: TrainConfig, dataset: str) -> Path:
    """Where a run of this experiment on this dataset goes."""
    return config.runs / dataset / config.experiment / f"seed-{config.seed}"


def train(config: TrainConfig, base: BaseConfig, *data: TrainingData) -> Path:
    """Train projectors and return the run folder; a finished run of the same recipe is reused.

    Args:
        config: the experiment.
        base: the Image LLM.
        data: datasets, whose `train` splits are used, with their feature stores.

    Raises:
        RedVillmError: anything a user can put right.
        KeyboardInterrupt: the run was asked to stop; the same command goes on from there.
    """
    check_options(config)
    find_own_device(config.devices)
    first = is_rank_zero(config.devices)
    budget, console = pick_budget(config, base), Console(soft_wrap=True, quiet=not first)
    device = pick_device(config.device)
    dtype = pick_dtype(config.llm_dtype, device, accelerated=torch.bfloat16)
    job = Job(config, budget, base, open_data(base, data), device, dtype, console)
    for one in job.data:
        if one.features.spec.tower.startswith(IMPORTED):
            path = one.features.path
            console.print(f"{path}: imported; that {base.name}'s eyes made it is taken on trust")
    run, record = run_folder(config, job.name), job.record()
    old, finished = _old_record(run), (run / METRICS).is_file()
    same = config.resume and _changed(old, record) == []
    if finished and same:
        console.print(f"{run}: finished before with the same config and store; reused")
        return run
    state = run / STATE
    goes_on = same and not finished and state.is_file()
    if first and not goes_on:
        _make_room(run, old, record, console)
    metrics = fit(job, run, state if goes_on else None)
    if metrics is None and first:
        raise KeyboardInterrupt(f"stopped; the same command goes on from {state}")
    if metrics is not None and first:
        text = json.dumps(metrics, indent=2) + "\n"
        replace_file(run / METRICS, text.encode(), "metrics")
        state.unlink(missing_ok=True)
    return run


def _old_record(run: Path) -> dict[str, Any] | None:
    """The record of the run that was begun in that folder, or None."""
    try:
        return dict(yaml.safe_load((run / RECORD).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return None  # none, or one that was killed while it wrote this


def _changed(old: dict[str, Any] | None, record: dict[str, Any]) -> list[str]:
    """What differs between two records, but for what decides last bits alone."""
    old = dict(old or {})
    old["train"] = _completed(old.get("train"), record["train"], asdict(TrainConfig()))
    return [key for key in record if key != "how" and old.get(key) != record[key]]


def _completed(old: Any, new: dict[str, Any], defaults: dict[str, Any]) -> Any:
    """An old record's settings, with those that it did not know yet at their defaults."""
    if not isinstance(old, dict):
        return old
    later = {k: defaults[k] for k in new if k in defaults and k not in old}
    if "switches" in new:
        later["switches"] = _completed(old.get("switches"), new["switches"], defaults["switches"])
    return old | later


def _make_room(
    run: Path, old: dict[str, Any] | None, record: dict[str, Any], console: Console
) -> None:
    """Move what was begun or finished out of the way, and begin a new folder."""
    if (run / METRICS).is_file() or (run / STATE).is_file():
        why = (
            ", ".join(_changed(old, record)) + " changed" if _changed(old, record) else "resume off"
        )
        folder = run.parent / "replaced"
        folder.mkdir(exist_ok=True)
        names = (folder / f"{run.name}-{number}" for number in count())
        target = next(path for path in names if not path.exists())
        run.rename(target)
        console.print(f"{run}: trained again ({why}); the old run is {target}")
    for leftover in (*FOLDERS, PROJECTORS):
        shutil.rmtree(run / leftover, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(record, sort_keys=False)
    replace_file(run / RECORD, text.encode(), "config")
