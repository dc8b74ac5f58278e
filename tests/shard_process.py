"""One of two processes that divide an LLM between them; tests/test_train_shard.py is the other."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import torch
from test_train_frozen import tiny_llama
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from train.frozen import checkpoint_activations, decoder_layers, require_recomputed
from train.shard import idle_pass, shard


def compare(rank: int, store: str) -> dict[str, Any]:
    """Divide a tiny Llama; how far what it computes is from what it computed whole."""
    where, patience = f"file://{store}", timedelta(seconds=100)
    distributed.init_process_group("gloo", where, patience, 2, rank)
    try:
        llm = tiny_llama(3)
        draw = torch.Generator().manual_seed(rank)  # each process has questions of its own
        given = [torch.randn(2, 8 + rank, 64, generator=draw) for _ in range(2)]
        wanted, whole = run(llm, given), nbytes(llm)
        shard(llm, init_device_mesh("cpu", (2,)))
        record: dict[str, Any] = {"share": nbytes(llm) / whole}
        record["plain"] = furthest(run(llm, given), wanted)
        checkpoint_activations(llm, "on")
        with require_recomputed(llm, True):
            record["checkpointed"] = furthest(run(llm, given), wanted)
        run(llm, given[: 2 - rank])
        if rank == 1:  # which has no second micro-batch
            idle_pass(llm, backward=True)
        record["share_after"] = nbytes(llm) / whole
        llm.eval()
        if rank == 0:
            idle_pass(llm, backward=False)
        else:
            with torch.no_grad():
                llm.model(inputs_embeds=given[0], use_cache=False)
        with torch.no_grad():
            hidden = llm.model(inputs_embeds=given[0], use_cache=False).last_hidden_state
            record["evaluated"] = furthest([llm.lm_head(hidden)], wanted[:1])
        parts = llm.get_input_embeddings(), llm.model.norm, llm.lm_head
        record["divided"] = sum(isinstance(p, DTensor) for m in parts for p in m.parameters())
        record["kind"] = [str(llm.device), str(llm.dtype)]
        record["gradients"] = sum(p.grad is not None for p in llm.parameters())
        return record
    finally:
        distributed.destroy_process_group()


def run(llm: Any, given: list[Tensor]) -> list[Tensor]:
    """Logits and input gradients of two micro-batches."""
    found = []
    for embeddings in given:
        x = embeddings.clone().requires_grad_()
        logits = llm.lm_head(llm.model(inputs_embeds=x, use_cache=False).last_hidden_state)
        logits.square().sum().backward()
        assert x.grad is not None
        found += [logits.detach(), x.grad]
    return found


def nbytes(llm: Any) -> int:
    """Of the decoder layers in this process."""
    parameters = decoder_layers(llm).parameters()
    local = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
    return sum(p.untyped_storage().nbytes() for p in local)


def furthest(found: list[Tensor], wanted: list[Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(compare(1, sys.argv[1])))
