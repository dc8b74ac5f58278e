"""The one training loop of the mini's three trained stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How long and how fast a stage trains."""

    steps: int
    """Optimizer steps."""
    batch: int
    """Images or stories a step."""
    lr: float = 2e-3
    """Peak learning rate; it falls to zero on a cosine after a short warm-up."""


def fit(name: str, plan: Fit, groups: list[dict[str, Any]], loss: Callable[[], Tensor]) -> None:
    """Runs AdamW over parameter groups, whose `lr` is a factor of the plan's."""
    params = [param for group in groups for param in group["params"]]
    scaled = [{**group, "lr": plan.lr * group.get("lr", 1.0)} for group in groups]
    optimizer = torch.optim.AdamW(scaled, lr=plan.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in scaled],
        plan.steps,
        pct_start=0.05,
        cycle_momentum=False,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=plan.steps)
        for _ in range(plan.steps):
            optimizer.zero_grad()
            value = loss()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            schedule.step()
            progress.update(task, advance=1, description=f"{name} loss {value.item():.3f}")
