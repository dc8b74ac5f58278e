"""Lightning's trainer as we use it, without chatter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch

from train.distributed import Replicas, environment, num_nodes
from train.meter import LoaderClock
from train.options import TrainConfig
from train.resume import StateFile


def make_trainer(
    run: Path,
    device: torch.device,
    num_steps: int,
    config: TrainConfig,
    clock: LoaderClock,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Lightning's trainer for one pass over the steps; callbacks write and show what comes out."""
    alone = device.index is None or config.devices > 1
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=config.devices if alone else [device.index],
        num_nodes=num_nodes(),
        strategy=Replicas() if config.devices > 1 or num_nodes() > 1 else "auto",
        plugins=[environment(config.devices), StateFile()],
        max_epochs=1,
        max_steps=num_steps,
        default_root_dir=run,
        logger=False,  # WriteRows has its own
        profiler=clock,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without its adverts and with no advice about a choice that is ours."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # it is, by step
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")
        try:
            yield
        finally:
            logger.setLevel(level)


def loss_summary(history: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean of the first and last steps, about 100 points between, and all validations."""
    losses = [row["loss"] for row in history]
    if not losses:
        return {}
    every = max(1, len(losses) // 100)
    few = max(1, min(10, len(losses) // 2))
    validated = [(n, row["val_loss"]) for n, row in enumerate(history, 1) if "val_loss" in row]
    summary = {
        "first": sum(losses[:few]) / few,
        "last": sum(losses[-few:]) / few,
        "curve": [[step + 1, losses[step]] for step in range(0, len(losses), every)],
    }
    if not validated:
        return summary
    best = min(validated, key=lambda point: point[1])
    return summary | {"validation": [list(point) for point in validated], "best": list(best)}
