"""Where a run's rows go: CSV and TensorBoard always, Weights & Biases when asked.

A killed run has written rows behind the state that it resumes from. They must not stay: the CSV is
written again from the rows that belong to that state, TensorBoard is told what no longer counts.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from features.errors import ConfigError

Row = dict[str, float]
"""The figures of a step. Rows are numbered from 1."""
FOLDERS = ("logs", "tensorboard", "wandb")
"""What loggers make in the run folder."""
_SECONDS = 5.0


class WriteRows(L.Callback):
    """Writes the module's `history` (the rows of all steps so far) to the loggers, row by row.

    The loggers are made when training starts: only then it is known which rows a resumed run has.
    """

    def __init__(self, run: Path, wandb: str | None = None) -> None:
        """Logs of the run in `run`; `wandb` is the project at Weights & Biases, if any."""
        self._run, self._wandb = run, wandb

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning closes the loggers when it ends, however it ends."""
        module: Any = pl_module
        trainer.loggers = make_loggers(self._run, self._wandb, module.history)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the newest row."""
        module: Any = pl_module
        for logger in trainer.loggers:
            logger.log_metrics(module.history[-1], len(module.history))


def make_loggers(run: Path, wandb: str | None = None, history: Sequence[Row] = ()) -> list[Logger]:
    """The loggers of a run; their files hold the rows of `history`, and room for those after it.

    At Weights & Biases rows cannot be taken back: those of steps made twice are there twice.

    Args:
        run: the run folder.
        wandb: project to log to at Weights & Biases.
        history: the rows of a resumed run's earlier part.

    Raises:
        ConfigError: Weights & Biases is not installed, or does not let us in.
    """
    _remove(run / FOLDERS[0])
    csv = _TimelyCSVLogger(run, name="", version=FOLDERS[0])
    for step, row in enumerate(history, 1):
        csv.log_metrics(row, step)
    csv.save()
    board = _RowTensorBoardLogger(
        run, name="", version=FOLDERS[1], purge_step=len(history) + 1, flush_secs=int(_SECONDS)
    )
    loggers: list[Logger] = [csv, board]
    if wandb is not None:
        loggers.append(_wandb_logger(run, wandb, resumed=len(history) > 0))
    return loggers


class _TimelyCSVLogger(CSVLogger):
    """Lightning's, but never more than some seconds behind, however slow the steps are."""

    _saved = 0.0

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if time.monotonic() - self._saved > _SECONDS:
            self.save()
            self._saved = time.monotonic()


class _RowTensorBoardLogger(TensorBoardLogger):
    """Lightning's, with one event a row instead of one a figure."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)


class _EndingWandbLogger(WandbLogger):
    """Lightning's, which would leave its run open: the next training here would log to it too."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


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
    logger = _EndingWandbLogger(
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


@rank_zero_only
def _run_id(folder: Path, resumed: bool) -> str:
    """The run's name at Weights & Biases: kept beside its files, new for a new training."""
    path = folder / "id"
    if not (resumed and path.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid4().hex[:12], encoding="ascii")
    return path.read_text(encoding="ascii")
