"""One training run: from a recipe, a base and stores to a run folder.

The folder `<runs>/<dataset>/<experiment>/seed-<n>/` holds config.yaml (everything that decides the
result), logs, projectors/ and, written last, metrics.json: a folder that has it is a finished run.
The same recipe on the same stores is then not trained again. One that was stopped has state.ckpt
and goes on from there, as if it had never stopped.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from features.config import BaseConfig
from features.device import pick_device, pick_dtype
from features.durable import replace_file
from features.spec import IMPORTED
from train.checkpoint import PROJECTORS
from train.distributed import is_rank_zero
from train.fit import fit
from train.job import Job
from train.loggers import FOLDERS
from train.options import TrainConfig, check_options, pick_budget
from train.resume import STATE
from train.sources import TrainingData, open_data

CONFIG, METRICS = "config.yaml", "metrics.json"


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
    first = is_rank_zero()
    budget, console = pick_budget(config, base), Console(soft_wrap=True, quiet=not first)
    device = pick_device(config.device)
    dtype = pick_dtype(config.llm_dtype, device, accelerated=torch.bfloat16)
    job = Job(config, budget, base, open_data(base, data), device, dtype, console)
    for one in job.data:
        if one.features.spec.tower.startswith(IMPORTED):
            where = one.features.path
            console.print(f"{where}: imported; that the eyes of {base.name} made it is not checked")
    run, record = run_folder(config, job.name), job.record()
    old, finished = _old_record(run), (run / METRICS).is_file()
    if config.resume and finished and old == record:
        console.print(f"{run}: finished before with the same config and store; reused")
        return run
    state = run / STATE
    unfinished = config.resume and not finished and old == record and state.is_file()
    if first and not unfinished:
        _make_room(run, old if finished else None, record, console)
    metrics = fit(job, run, state if unfinished else None)
    if first:
        text = json.dumps(metrics, indent=2) + "\n"
        replace_file(run / METRICS, text.encode(), "metrics")
        state.unlink(missing_ok=True)
    return run


def _old_record(run: Path) -> dict[str, Any] | None:
    """The record of the run that was begun in that folder, or None."""
    try:
        return dict(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return None  # none, or one that was killed while it wrote this


def _make_room(
    run: Path, finished: dict[str, Any] | None, record: dict[str, Any], console: Console
) -> None:
    """Move a finished run out of the way, throw an unfinished one away, and begin a new folder."""
    if finished is not None:
        changed = [key for key in record if finished.get(key) != record[key]]
        why = f"{', '.join(changed)} changed" if changed else "resume is off"
        folder = run.parent / "replaced"
        folder.mkdir(exist_ok=True)
        target = folder / f"{run.name}-{len(list(folder.iterdir()))}"
        run.rename(target)
        console.print(f"{run}: trained again ({why}); the old run is {target}")
    for leftover in (*FOLDERS, PROJECTORS):
        shutil.rmtree(run / leftover, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    (run / STATE).unlink(missing_ok=True)
    text = yaml.safe_dump(record, sort_keys=False)
    replace_file(run / CONFIG, text.encode(), "config")
