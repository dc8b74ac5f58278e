"""Lightning's trainer as we use it: logs in the run folder, no chatter, no loss unseen."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from features.errors import RedVillmError
from train.module import ProjectorTraining


class _ProgressBar(RichProgressBar):
    """Lightning's bar without its version number, which says nothing here."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


def make_trainer(run: Path, device: torch.device, num_steps: int, console: Console) -> L.Trainer:
    """Lightning's trainer for one pass over the steps, with its logs inside the run folder."""
    bar: list[L.Callback] = []
    if console.is_terminal:
        bar = [_ProgressBar(refresh_rate=max(1, num_steps // 50), leave=True)]
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=1,
        max_steps=num_steps,
        default_root_dir=run,
        logger=[
            CSVLogger(run, name="", version="logs"),
            TensorBoardLogger(run, name="", version="tensorboard"),
        ],
        log_every_n_steps=1,
        callbacks=bar,
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


def check_losses(module: ProjectorTraining, num_steps: int) -> list[float]:
    """The loss of every step.

    Raises:
        RedVillmError: the training diverged; such projectors are not saved.
    """
    losses = [float(loss) for loss in module.history]
    if len(losses) != num_steps:
        raise RuntimeError(f"{len(losses)} steps were made instead of {num_steps}")
    bad = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if bad is not None:
        raise RedVillmError(
            "the training diverged",
            where=f"step {bad} of {num_steps}",
            got=f"loss {losses[bad]}",
            do="lower lr or set clip_norm",
        )
    return losses


def loss_summary(losses: list[float]) -> dict[str, Any]:
    """Mean of the first and last steps, and about 100 points between."""
    if not losses:
        return {}
    every = max(1, len(losses) // 100)
    few = max(1, min(10, len(losses) // 2))
    return {
        "first": sum(losses[:few]) / few,
        "last": sum(losses[-few:]) / few,
        "curve": [[step, losses[step]] for step in range(0, len(losses), every)],
    }
