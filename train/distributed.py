"""Several processes share each step: who counts what, and one sum of gradients a step."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from features.errors import ConfigError


class Replicas(DDPStrategy):
    """Lightning's processes without DistributedDataParallel around the model.

    Its buckets would reduce at every backward; here a step has many of them, as many as a rank has
    micro-batches, and `sum_gradients` reduces once. Nothing is broadcast at the start: every rank
    reads the same checkpoint.
    """

    def configure_ddp(self) -> None:
        """No wrapper."""


def is_rank_zero(devices: int) -> bool:
    """Whether this process writes and speaks; known before the processes have met.

    One with a single device is alone, whatever number it has in a job of several.
    """
    alone = devices * num_nodes() == 1
    return alone or int(getattr(rank_zero_only, "rank", 0)) == 0


def num_nodes() -> int:
    """Nodes that `torchrun` started processes on; 1 without it."""
    return int(os.environ["GROUP_WORLD_SIZE"]) if TorchElasticEnvironment.detect() else 1


def find_own_device(devices: int) -> None:
    """Let `cuda` mean this process's own GPU, under whoever started it.

    Raises:
        ConfigError: torchrun has started another number of processes a node.
    """
    if TorchElasticEnvironment.detect() and int(os.environ["LOCAL_WORLD_SIZE"]) != devices:
        found = os.environ["LOCAL_WORLD_SIZE"]
        raise ConfigError(
            "torchrun has started another number of processes a node than --devices says",
            got=f"{found} processes, devices {devices}",
            do=f"set devices {found}",
        )
    if devices * num_nodes() > 1 and torch.cuda.is_available():
        local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
        torch.cuda.set_device(int(local))


def environment(devices: int) -> ClusterEnvironment:
    """Who has started the processes, or will: torchrun, srun, or Lightning itself.

    Lightning by itself takes any SLURM job for one that srun has started, and waits for the others.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if devices > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == str(devices):
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def sum_numbers(device: torch.device, *mine: float | int) -> list[float]:
    """Each number summed over the ranks, which all call this together."""
    if not _several():
        return [float(number) for number in mine]
    sums = torch.tensor(mine, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return [float(number) for number in sums.tolist()]


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Each gradient becomes the sum of all ranks' ones, in one message.

    The loss is divided by the answer tokens of all ranks before, so the sum is the gradient of the
    whole step. A rank without any question of the step counts as 0.
    """
    if not _several():
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
