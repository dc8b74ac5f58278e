"""The thin layer between the Video LLM and Lightning: when to step, what to log, what to save.

Optimisation is manual, because the loss of a step is normalised by the answer tokens of all its
micro-batches on all ranks, which automatic accumulation cannot know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from transformers import get_cosine_schedule_with_warmup

from features.config import Budget
from features.errors import CheckpointError, RedVillmError
from train.batch import Batch
from train.distributed import sum_gradients, sum_numbers
from train.flops import StepWork, step_work
from train.frozen import require_recomputed
from train.meter import StepMeter
from train.shard import idle_pass, passes_lacking
from train.steps import Rank
from train.validation import Validation
from train.video_llm import VideoLLM, clip_gradients, trainable

LoaderOf = Callable[[Rank, int], Any]
"""Makes the loader of one rank, from a number of steps on that have been made."""


class ProjectorTraining(L.LightningModule):
    """Trains a VideoLLM's projectors; `history` keeps what was logged of every step."""

    def __init__(
        self,
        model: VideoLLM,
        budget: Budget,
        num_steps: int,
        meter: StepMeter,
        clip_norm: float = 0.0,
        loader_of: LoaderOf | None = None,
        validation_of: Callable[[Rank], Validation] | None = None,
        divide: Callable[[], None] | None = None,
    ) -> None:
        """Args are what to train and how long.

        Args:
            model: whose projectors are trained.
            budget: learning rate and schedule.
            num_steps: optimizer steps in all.
            meter: measures each of them.
            clip_norm: largest gradient norm; 0 clips nothing.
            loader_of: makes a rank's loader, where none is given to `fit`.
            validation_of: makes a rank's share of the validation; there is none without.
            divide: divides the LLM over the processes once they know one another. All must then
                call it equally often.
        """
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints lack the frozen weights; see on_load_checkpoint
        self.model = model
        self.budget = budget
        self.num_steps = num_steps
        self.meter = meter
        self.clip_norm = clip_norm
        self.validation: Validation | None = None
        self.history: list[dict[str, float]] = []
        self.wants: Callable[[], tuple[bool, bool]] = lambda: (False, False)
        """Whether this rank is to save, and whether to stop, now that a step is made."""
        self.stopping = self.saving = False  # what all ranks agreed on
        self._loader_of, self._validation_of = loader_of, validation_of
        self._divide, self._proved = divide, False

    def train_dataloader(self) -> Any:
        """This rank's, from where the history ends: a place in the order is a step number."""
        if self._loader_of is None:
            raise RuntimeError("no loader")
        return self._loader_of(self._rank, len(self.history))

    @property
    def _rank(self) -> Rank:
        return Rank(self.trainer.global_rank, self.trainer.world_size)

    def configure_model(self) -> None:
        """What needs to know the other processes: the LLM's division, the share of validation."""
        if self._divide is not None:
            self._divide()
        if self._validation_of is not None:
            self.validation = self._validation_of(self._rank)
        self._divide = self._validation_of = None

    def configure_optimizers(self) -> Any:
        """AdamW on what is trainable; cosine after a linear warm-up, over our own step count."""
        optimizer = torch.optim.AdamW(
            trainable(self.model).values(), self.budget.lr, weight_decay=self.budget.weight_decay
        )
        warmup = math.ceil(self.budget.warmup * self.num_steps)  # as transformers' Trainer rounds
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}

    @property
    def ended(self) -> bool:
        """Whether to make no more steps: asked to stop, or validation sees no more progress."""
        return self.stopping or (self.validation is not None and self.validation.ended)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Lightning's way to leave the loop: -1, before a step that is not to be made."""
        return -1 if self.ended else None

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        """One optimizer step over all micro-batches of `batch`."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        work = StepWork(*sum_numbers(self.device, *step_work(batch)))
        losses = torch.zeros((), device=self.device)
        optimizer.zero_grad()
        lacking = passes_lacking(self.model.llm, len(batch))
        with self._proof(batch):
            for micro in batch:
                share = self.model.loss(micro)[0] / work.answers
                self.manual_backward(share)
                losses += share.detach()
            for _ in range(lacking):
                idle_pass(self.model.llm, backward=True)
        sum_gradients(trainable(self.model.projector).values())
        clip_gradients(self.model, self.clip_norm, self.meter.gradients())
        lr = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        loss, save, stop = sum_numbers(self.device, losses.item(), *self.wants())
        self.stopping, self.saving = stop > 0, save > 0
        step = len(self.history) + 1
        check_loss(loss, step, self.num_steps)
        row = self.meter.row(step, loss, lr, work)
        if self.validation is not None:
            row |= self.validation.after_step(self.model, step, last=step == self.num_steps)
        self.history.append(row)

    def _proof(self, batch: list[Batch]) -> AbstractContextManager[object]:
        """The first step here proves that activation checkpointing happens as it should."""
        if self._proved or not batch:
            return nullcontext()
        self._proved = True
        return require_recomputed(self.model.llm, self.meter.checkpointing)

    def cpu(self) -> ProjectorTraining:
        """Stays where it is: Lightning would move the LLM to the host when training ends."""
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainable tensors only, and what was logged."""
        keep = trainable(self)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in keep}
        checkpoint["history"] = self.history
        if self.validation is not None:
            checkpoint["validation"] = self.validation.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that lacks a trainable tensor or has another."""
        differing = sorted(set(trainable(self)) ^ set(checkpoint["state_dict"]))
        if differing:
            raise CheckpointError(
                "the checkpoint does not hold what is trained here", got=", ".join(differing)
            )
        self.history = list(checkpoint["history"])
        if self.validation is not None:
            self.validation.load_state_dict(checkpoint["validation"])


def check_loss(loss: float, step: int, num_steps: int) -> None:
    """Refuse a training that diverged; such projectors are not saved.

    Raises:
        RedVillmError: naming the step.
    """
    if not math.isfinite(loss):
        raise RedVillmError(
            "the training diverged",
            where=f"step {step} of {num_steps}",
            got=f"loss {loss}",
            do="lower lr or set clip_norm",
        )
