"""Lightning's trainer as we use it: logs in the run folder, no chatter, no loss unseen."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from features.errors import RedVillmError
from train.distributed import Replicas, is_rank_zero
from train.options import TrainConfig


class _ProgressBar(RichProgressBar):
    """Lightning's bar without its version number, which says nothing here."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


def make_trainer(
    run: Path,
    device: torch.device,
    num_steps: int,
    console: Console,
    config: TrainConfig,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Lightning's trainer for one pass over the steps, with its logs inside the run folder."""
    bar: list[L.Callback] = []
    if console.is_terminal and is_rank_zero():
        bar = [_ProgressBar(refresh_rate=max(1, num_steps // 50), leave=True)]
    alone = device.index is None or config.devices > 1
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=config.devices if alone else [device.index],
        strategy=Replicas() if config.devices > 1 else "auto",
        max_epochs=1,
        max_steps=num_steps,
        default_root_dir=run,
        logger=[
            CSVLogger(run, name="", version="logs"),
            TensorBoardLogger(run, name="", version="tensorboard"),
        ],
        log_every_n_steps=1,
        callbacks=[*bar, *callbacks],
        enable_progress_bar=bool(bar),
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
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")
        try:
            yield
        finally:
            logger.setLevel(level)


def check_losses(history: Sequence[dict[str, float]]) -> None:
    """Refuse a training that diverged; such projectors are not saved.

    Raises:
        RedVillmError: naming the step.
    """
    for step, row in enumerate(history):
        if not math.isfinite(row["loss"]):
            raise RedVillmError(
                "the training diverged",
                where=f"step {step} of {len(history)}",
                got=f"loss {row['loss']}",
                do="lower lr or set clip_norm",
            )


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
        "curve": [[step, losses[step]] for step in range(0, len(losses), every)],
    }
    if not validated:
        return summary
    best = min(validated, key=lambda point: point[1])
    return summary | {"validation": [list(point) for point in validated], "best": list(best)}
