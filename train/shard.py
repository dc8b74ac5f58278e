"""The frozen LLM divided over devices, where one does not hold it (FSDP2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from features.errors import ConfigError
from train.frozen import decoder_layers


def shard(llm: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Leave each device its part of every decoder layer; a layer is whole while it computes.

    Embeddings, last norm and head stay whole everywhere, because they are called by themselves.
    The LLM's body is the root, without parameters of its own to divide: it lets a layer's weights
    be fetched while the one before computes, and in backward the one behind. Layers that lie on
    the CPU (mapped from a checkpoint) go to their devices one at a time.

    Each call gathers weights from all processes, so they must all call the LLM equally often; see
    `passes_lacking` and `idle_pass`.

    Args:
        llm: frozen, in the dtype it computes in; the same on every process.
        mesh: of one dimension; gloo on the CPU or NCCL on CUDA.

    Raises:
        ConfigError: the layers are quantised.
    """
    layers = decoder_layers(llm)
    if not all(parameter.is_floating_point() for parameter in layers.parameters()):
        raise ConfigError(
            "a quantised LLM cannot be divided over devices",
            do="strategy ddp, or quantise none",
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    model: Any = llm  # transformers does not type the parts of its models
    whole = set(llm.parameters()) - set(layers.parameters())
    fully_shard(model.model, mesh=mesh, ignored_params=whole)
    model.to(mesh.device_type)


def passes_lacking(llm: PreTrainedModel, own: int) -> int:
    """How many idle passes this process owes; asked of all, before the first pass of a step.

    Args:
        llm: divided, or whole: then nobody waits for anybody, and it is 0.
        own: micro-batches that this process has.
    """
    model: Any = llm
    if not isinstance(model.model, FSDPModule):
        return 0
    most = torch.tensor(own, device=llm.device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most) - own


def idle_pass(llm: PreTrainedModel, backward: bool) -> None:
    """Take part in another process's pass, where this one has no micro-batch left.

    Args:
        llm: divided.
        backward: as in training; evaluation has none.
    """
    model: Any = llm
    size = 1, 1, llm.config.hidden_size
    x = torch.zeros(size, device=llm.device, dtype=llm.dtype, requires_grad=backward)
    with torch.set_grad_enabled(backward):
        hidden = model.model(inputs_embeds=x, use_cache=False).last_hidden_state
    if backward:
        hidden.sum().backward()
