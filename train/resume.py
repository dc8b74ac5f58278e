"""A run that was stopped goes on where it was: what is saved, when, and on whose word.

States are written between two optimizer steps, under one name that is replaced at once, so a kill
at any moment leaves the last whole one. All ranks agree on when, because writing is a meeting.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from features.durable import commit_point, disk_errors, fsync_path
from train.module import ProjectorTraining

STATE = "state.ckpt"
"""Lightning's checkpoint: trainable tensors, optimizer, schedule, history, best so far."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""A batch system's grace, Ctrl-C, and the early warning that SLURM sends on request."""


class SaveState(L.Callback):
    """Writes the state now and then, and once more when the run is asked to end."""

    def __init__(self, path: Path, minutes: float, steps: int | None) -> None:
        """Writes to `path` every so many minutes, or every so many optimizer steps."""
        self._path, self._seconds, self._steps = path, 60 * minutes, steps
        self._saved_at = time.monotonic()
        self._asked = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has put its own handlers in place by now; its ranks may miss one another."""
        module, self._saved_at = _checked(pl_module), time.monotonic()
        module.wants = lambda: (trainer.is_global_zero and self._due(module), self._asked)
        if threading.current_thread() is threading.main_thread():  # no other may have handlers
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._ask)
        if trainer.received_sigterm:  # before our handler was there
            self._asked, trainer._signal_connector.received_sigterm = True, False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back to Lightning, which gives them back in its turn."""
        self._give_back()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """As at the end."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second time it is meant at once
        self._asked = True

    def _due(self, module: ProjectorTraining) -> bool:
        """Asked within a step, before the module's history has it."""
        if self._steps:
            return (len(module.history) + 1) % self._steps == 0
        return time.monotonic() - self._saved_at >= self._seconds

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write, if any rank wanted it; not when this was the last step."""
        module = _checked(pl_module)
        if (module.stopping or module.saving) and len(module.history) < module.num_steps:
            trainer.save_checkpoint(self._path, weights_only=False)
            self._saved_at = time.monotonic()


class StateFile(TorchCheckpointIO):
    """Lightning's way to the disk, on rank 0: the last state is there until the new one is whole.

    Lightning's own goes by a copy in the system's folder for temporary files.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside, flush, and take the place.

        Raises:
            StoreError: the disk does not take it.
        """
        path = Path(path)
        new = path.with_name(f".{path.name}.new")
        with disk_errors("cannot save the state of the training", path):
            torch.save(checkpoint, new)
            fsync_path(new)
            commit_point("state-written")
            new.replace(path)
            fsync_path(path.parent)


def _checked(module: L.LightningModule) -> ProjectorTraining:
    if not isinstance(module, ProjectorTraining):
        raise TypeError(f"not ours: {type(module).__name__}")
    return module
