"""Several processes share each step: who counts what, and one sum of gradients a step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn


class Replicas(DDPStrategy):
    """Lightning's processes without DistributedDataParallel around the model.

    Its buckets would reduce at every backward; here a step has many of them, as many as a rank has
    micro-batches, and `sum_gradients` reduces once. Nothing is broadcast at the start: every rank
    reads the same checkpoint.
    """

    def configure_ddp(self) -> None:
        """No wrapper."""


def is_rank_zero() -> bool:
    """Whether this process writes and speaks; known before the processes have met."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """The element-wise sum of all ranks' tensors, in place; the tensor itself for one process."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes the sum of all ranks' ones, in one message.

    The loss is divided by the answer tokens of all ranks before, so the sum is the gradient of the
    whole step. A rank without any question of the step counts as 0.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))
