"""The one training loop of the mini's three trained stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

_MATRIX = 96
"""Smaller matrices, such as the output words', are AdamW's."""


@dataclass(frozen=True)
class Fit:
    """How long and how fast a stage trains."""

    steps: int
    """Optimizer steps."""
    batch: int
    """Images or stories a step."""
    lr: float = 2e-3
    """Peak learning rate; it falls to zero on a cosine after a short warm-up."""

    def schedule(self, step: int) -> float:
        """Returns the factor on the learning rate at a step."""
        warm = (step + 1) / (0.03 * self.steps)
        return min(1.0, warm) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def fit(name: str, plan: Fit, learn: Iterable[Tensor], loss: Callable[[], Tensor]) -> None:
    """Trains `learn`: Muon for matrices, AdamW for the rest.

    Muon (at ten times AdamW's rate) learns the LM's skills in about half of AdamW's steps.
    """
    tensors = list(learn)
    matrices = [p for p in tensors if p.dim() == 2 and min(p.shape) >= _MATRIX]
    others = [p for p in tensors if p.dim() != 2 or min(p.shape) < _MATRIX]
    optimizers = [
        torch.optim.AdamW(others, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(matrices, lr=10 * plan.lr, weight_decay=0.01),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, plan.schedule) for o in optimizers]
    everything = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=plan.steps)
        for _ in range(plan.steps):
            value = loss()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(everything, 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            progress.update(task, advance=1, description=f"{name} loss {value.item():.3f}")
