"""The frozen LLM in train mode: nothing by chance, and activation checkpointing that happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_hf import FAMILIES
from torch import Tensor, nn

from train.frozen import (
    CHECKPOINT_ABOVE,
    checkpoint_activations,
    decoder_layers,
    keep_frozen,
    require_recomputed,
)

IDS = torch.arange(24).reshape(2, 12)


def family(name: str) -> Any:
    """A family's text model whose configuration drops half of what it may drop."""
    torch.manual_seed(0)
    if name == "phi":  # has dropout layers, in three places
        sizes = {"vocab_size": 80, "hidden_size": 48, "intermediate_size": 64}
        drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attention_dropout"), 0.5)
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4}
        text: Any = hf.PhiConfig(**sizes, **heads, **drops)
    else:
        record = json.loads(json.dumps(FAMILIES[name].config))
        text = getattr(hf, f"{FAMILIES[name].model}Config")(**record).text_config
        text.attention_dropout = 0.5
    kind = "eager" if name == "paligemma2" else "sdpa"  # Gemma 2 has no other
    headless = name.startswith("qwen2-")
    auto: Any = hf.AutoModel if headless else hf.AutoModelForCausalLM
    return auto.from_config(text, attn_implementation=kind)


@torch.no_grad()
def outputs(llm: Any) -> Tensor:
    found: Tensor = llm(input_ids=IDS, use_cache=False)[0]
    return found


@pytest.mark.parametrize("name", [*FAMILIES, "phi"])
def test_train_mode_computes_exactly_what_eval_mode_computes(name: str) -> None:
    llm = family(name)
    wanted = outputs(llm.eval())
    assert not torch.equal(outputs(llm.train()), wanted)  # this dropout is real
    keep_frozen(llm)
    assert all(module.training for module in llm.modules())
    assert torch.equal(outputs(llm), wanted)
    assert not any(parameter.requires_grad for parameter in llm.parameters())


def tiny_llama(num_layers: int = 6, width: int = 64) -> Any:
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=80,
        hidden_size=width,
        intermediate_size=160,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.08,
        attn_implementation="sdpa",
    )
    llm = hf.LlamaForCausalLM(config)
    keep_frozen(llm)
    return llm


def input_gradient(llm: Any, num_forwards: int = 1) -> tuple[Tensor, int]:
    """The gradient of made-up embeddings, and the bytes that were kept for it."""
    x = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = {parameter.data_ptr() for parameter in llm.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    for _ in range(num_forwards):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = llm.model(inputs_embeds=x, use_cache=False).last_hidden_state
        llm.lm_head(hidden).square().sum().backward()
    assert x.grad is not None
    return x.grad, sum(kept.values())


def test_checkpointing_keeps_a_third_at_most_and_changes_no_gradient() -> None:
    llm = tiny_llama()
    assert checkpoint_activations(llm, "off") is False
    with require_recomputed(llm, False) as seen:
        wanted, whole = input_gradient(llm)
    assert (seen.forwards, seen.passes) == (1, 1)
    assert checkpoint_activations(llm, "on") is True
    with require_recomputed(llm, True) as seen:
        found, kept = input_gradient(llm)
    assert (seen.forwards, seen.passes) == (1, 2)
    assert 0 < 3 * kept <= whole
    assert torch.equal(found, wanted)
    assert checkpoint_activations(llm, "off") is False
    assert input_gradient(llm)[1] == whole


def test_every_micro_batch_counts() -> None:
    llm = tiny_llama(2)
    checkpoint_activations(llm, "on")
    with require_recomputed(llm, True) as seen:
        input_gradient(llm, num_forwards=3)
    assert (seen.forwards, seen.passes) == (3, 6)


def test_checkpointing_that_does_not_happen_is_an_error() -> None:
    llm = tiny_llama(2)
    checkpoint_activations(llm, "on")
    llm.eval()  # in which transformers does not checkpoint
    with (
        pytest.raises(RuntimeError, match=r"was asked for, but of 2 forward passes 0 were"),
        require_recomputed(llm, True),
    ):
        input_gradient(llm, num_forwards=2)
    llm.train()
    with (
        pytest.raises(RuntimeError, match=r"was not asked for, but of 1 forward passes 1 were"),
        require_recomputed(llm, False),
    ):
        input_gradient(llm)
    for wanted in (True, False):
        with pytest.raises(RuntimeError, match="of 0 forward"), require_recomputed(llm, wanted):
            pass
    with pytest.raises(ZeroDivisionError), require_recomputed(llm, True):
        1 / 0  # noqa: B018
    assert not any(module._forward_pre_hooks for module in llm.modules())


def test_auto_depends_on_the_number_of_parameters() -> None:
    llm = tiny_llama(1)
    assert checkpoint_activations(llm, "auto") is False
    billion = nn.Parameter(torch.empty(CHECKPOINT_ABOVE, device="meta"), requires_grad=False)
    decoder_layers(llm)[0].billion = billion
    assert checkpoint_activations(llm, "auto") is True
    with require_recomputed(llm, True):
        input_gradient(llm)
