"""The thin layer between the Video LLM and Lightning: when to step, what to log, what to save.

Optimisation is manual, because the loss of a step is normalised by the answer tokens of all its
micro-batches, which automatic accumulation cannot know.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from features.config import Budget
from features.errors import CheckpointError
from train.data import Batch
from train.video_llm import VideoLLM, clip_gradients, trainable


class ProjectorTraining(L.LightningModule):
    """Trains a VideoLLM's projectors; `history` keeps the loss of every step."""

    def __init__(self, model: VideoLLM, budget: Budget, num_steps: int, clip_norm: float = 0.0):
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints lack the frozen weights; see on_load_checkpoint
        self.model = model
        self.budget = budget
        self.num_steps = num_steps
        self.clip_norm = clip_norm
        self.history: list[Tensor] = []

    def configure_optimizers(self) -> Any:
        """AdamW on what is trainable; cosine after a linear warm-up, over our own step count."""
        optimizer = torch.optim.AdamW(
            trainable(self.model).values(), self.budget.lr, weight_decay=self.budget.weight_decay
        )
        warmup = round(self.budget.warmup * self.num_steps)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        """One optimizer step over all micro-batches of `batch`."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        total = sum(micro.num_answer_tokens for micro in batch)
        losses = []
        optimizer.zero_grad()
        for micro in batch:
            loss = self.model.loss(micro)[0] / total
            self.manual_backward(loss)
            losses.append(loss.detach())
        norm = clip_gradients(self.model, self.clip_norm)
        lr = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        self.history.append(torch.stack(losses).sum())
        self.log("loss", self.history[-1], prog_bar=True)
        self.log_dict({"lr": lr, "grad_norm": norm})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainable tensors only."""
        keep = trainable(self)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in keep}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that lacks a trainable tensor or has another."""
        differing = sorted(set(trainable(self)) ^ set(checkpoint["state_dict"]))
        if differing:
            raise CheckpointError(
                "the checkpoint does not hold what is trained here", got=", ".join(differing)
            )
