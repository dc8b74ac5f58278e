"""`make train`'s own path, watched from inside Lightning's loop, with the floor beside every step.

The floor is forward and input-gradient of the bare frozen LLM, on the embeddings, masks and
positions that our step has just passed to it, with the vocabulary head on the answer positions
alone. It runs in the same process right behind each micro-batch, so that a busy machine slows both.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch.nn.functional as F
from torch import Tensor

from benchmarks.train_world import QUESTIONS, TrainWorld
from train.batch import Batch
from train.options import TrainConfig
from train.prompt import IGNORE
from train.run import train
from train.sources import TrainingData

_MICRO_TOKENS = 1024
"""One packed row at a time: no padding, and a CPU gains nothing by more."""


@dataclass(frozen=True)
class Step:
    """One optimizer step of ours."""

    seconds: float
    """From the end of the last one: loading, logging and Lightning's own work included."""
    loss: float
    questions: tuple[str, ...]
    """Ids, in the order of the micro-batches."""
    tokens: int
    """Padding included."""
    floor_seconds: float = 0.0
    floor_loss: float = 0.0
    loading_seconds: float = 0.0


def train_ours(
    world: TrainWorld,
    scratch: Path,
    batch_size: int,
    steps: int,
    floor: bool = False,
    questions_per_row: int = QUESTIONS,
) -> list[Step]:
    """Train by the project's own `train`; what its steps took, with the floor or without."""
    config = TrainConfig(
        "bench",
        runs=scratch,
        epochs=1,
        batch_size=batch_size,
        max_steps=steps,
        device="cpu",
        questions_per_row=questions_per_row,
        micro_tokens=_MICRO_TOKENS,
        resume=False,
    )
    watch = _Watch(floor)
    with watch.inside(), contextlib.redirect_stdout(io.StringIO()):
        train(config, world.base, TrainingData(world.dataset, world.store))
    if len(watch.steps) != steps:
        raise RuntimeError(f"{len(watch.steps)} steps were made instead of {steps}")
    return watch.steps


class _Watch(L.Callback):
    """Times Lightning's steps, and behind each micro-batch the floor, in no step's time."""

    def __init__(self, floor: bool) -> None:
        self.steps: list[Step] = []
        self._floor = floor
        self._pass: dict[str, Any] = {}
        self._left: list[Batch] = []
        self._floor_loss = self._floor_seconds = self._since = 0.0
        self._waited = 0.0

    @contextlib.contextmanager
    def inside(self) -> Any:
        """Every trainer that fits inside has this callback behind its own."""
        fit = L.Trainer.fit

        def watched(trainer: Any, *args: Any, **kwargs: Any) -> None:
            trainer.callbacks.append(self)
            fit(trainer, *args, **kwargs)

        with patch.object(L.Trainer, "fit", watched):
            yield

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self._floor:
            body = pl_module.model.llm.model
            body.register_forward_pre_hook(self._keep, with_kwargs=True)
        self._since = time.perf_counter()

    def _keep(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._pass = kwargs | {"inputs_embeds": kwargs["inputs_embeds"].detach()}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        self._left = list(batch)
        self._floor_loss = self._floor_seconds = 0.0

    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Lightning calls this behind every micro-batch."""
        if self._floor:
            start = time.perf_counter()
            self._floor_loss += _bare_pass(pl_module.model.llm, self._pass, self._left.pop(0))
            self._floor_seconds += time.perf_counter() - start

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: list[Batch], batch_idx: int
    ) -> None:
        now, waited = time.perf_counter(), pl_module.meter.report().waited_s
        step = Step(
            seconds=now - self._since - self._floor_seconds,
            loss=pl_module.history[-1]["loss"],
            questions=tuple(i for micro in batch for i in micro.sample_ids),
            tokens=sum(micro.input_ids.numel() for micro in batch),
            floor_seconds=self._floor_seconds,
            floor_loss=self._floor_loss / sum(micro.num_answer_tokens for micro in batch),
            loading_seconds=waited - self._waited,
        )
        self.steps.append(step)
        self._since, self._waited = now, waited


def _bare_pass(llm: Any, inputs: dict[str, Any], micro: Batch) -> float:
    """Forward and input-gradient of the LLM alone; the sum of the losses of answer tokens."""
    inputs["inputs_embeds"].requires_grad_()
    hidden = llm.model(**inputs).last_hidden_state
    targets = micro.labels[:, 1:]
    counted = targets != IGNORE
    logits: Tensor = llm.lm_head(hidden[:, :-1][counted])
    loss = F.cross_entropy(logits.float(), targets[counted], reduction="sum")
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()
