"""Where a run's rows go: CSV and TensorBoard always, Weights & Biases when asked.

A killed run has written rows behind the state that it resumes from. They must not stay: the CSV is
written again from the rows that belong to that state, TensorBoard is told what no longer counts.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from features.errors import ConfigError

Row = tuple[int, dict[str, float]]
"""The number of a step, from 0, and its figures."""
FOLDERS = ("logs", "tensorboard", "wandb")
"""What loggers make in the run folder."""
_SECONDS = 5.0


def make_loggers(
    run: Path, wandb: str | None = None, history: Sequence[Row] = (), step: int = 0
) -> list[Logger]:
    """The loggers of a run; afterwards their files hold the rows of `history` and no others.

    At Weights & Biases rows cannot be taken back: those of steps made twice are there twice.

    Args:
        run: the run folder.
        wandb: project to log to at Weights & Biases.
        history: the rows of a resumed run's earlier part, in order.
        step: steps that are made already; the next row has this number.

    Raises:
        ConfigError: Weights & Biases is not installed, or cannot log in.
    """
    _remove(run / FOLDERS[0])
    csv = _FreshCSVLogger(run, name="", version=FOLDERS[0])
    for number, row in history:
        csv.log_metrics(row, number)
    csv.save()
    board = TensorBoardLogger(
        run, name="", version=FOLDERS[1], purge_step=step, flush_secs=int(_SECONDS)
    )
    return [csv, board] + ([] if wandb is None else [_wandb_logger(run, wandb, resumed=step > 0)])


class _FreshCSVLogger(CSVLogger):
    """Lightning's, but never more than some seconds behind, however slow the steps are."""

    _saved = 0.0

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if time.monotonic() - self._saved > _SECONDS:
            self.save()
            self._saved = time.monotonic()


@rank_zero_only
def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _wandb_logger(run: Path, project: str, resumed: bool) -> WandbLogger:
    """A logger that has begun its run there; keys and mode come from the environment."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "Weights & Biases is not installed",
            got=error,
            do="pip install -e '.[wandb]', or leave `wandb` out",
        ) from error
    logger = WandbLogger(
        name="/".join(run.parts[-3:]),
        save_dir=run,
        project=project,
        id=_run_id(run / FOLDERS[2], resumed),
        settings=wandb.Settings(console="off"),  # what we print is not theirs
    )
    try:
        _ = logger.experiment  # now, rather than in the middle of the first step
    except wandb.errors.Error as error:
        raise ConfigError(
            "Weights & Biases does not let us in",
            got=error,
            do="set WANDB_API_KEY, or WANDB_MODE=offline and `wandb sync` later",
        ) from error
    return logger


def _run_id(folder: Path, resumed: bool) -> str:
    """The run's name at Weights & Biases: kept beside its files, new for a new training."""
    path = folder / "id"
    if not (resumed and path.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid4().hex[:12], encoding="ascii")
    return path.read_text(encoding="ascii")
