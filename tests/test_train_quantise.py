"""The frozen LLM in 8 and 4 bits against plain layers with the same weights, on the CPU."""

from __future__ import annotations

import copy
import sys
import weakref
from typing import Any, Literal

import pytest
import torch
from test_train_frozen import tiny_llama
from torch import Tensor, nn

from features.config import BaseConfig
from features.errors import ConfigError
from train.frozen import checkpoint_activations, decoder_layers, keep_frozen, require_recomputed
from train.image_llm import load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.quantise import quantise
from train.video_llm import VideoLLM, check_trainable, trainable

Bits = Literal["8bit", "4bit"]
BITS: tuple[Bits, ...] = ("8bit", "4bit")


def run(llm: Any) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the made-up embeddings they come from."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 16, 64, generator=draw).to(llm.dtype).requires_grad_()
    logits = llm.lm_head(llm.model(inputs_embeds=x, use_cache=False).last_hidden_state)
    (logits.float() * torch.randn(logits.shape, generator=draw)).sum().backward()
    assert x.grad is not None
    return logits.detach().float(), x.grad.float()


def distances(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> list[float]:
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)]


def quantised(bits: Bits, dtype: torch.dtype = torch.float32, bias: bool = False) -> Any:
    llm = tiny_llama(2).to(dtype)
    if bias:  # as Qwen's LLMs have it
        for layer in llm.model.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                old = getattr(layer.self_attn, name)
                old.bias = nn.Parameter(torch.randn(old.out_features, dtype=dtype) * 0.3)
    whole = copy.deepcopy(llm)
    quantise(llm, bits)
    keep_frozen(llm)
    return llm, whole


def dequantised(part: Any) -> Tensor:
    """The weight that a quantised layer stands for, in float32."""
    import bitsandbytes.functional as reference

    if part.weight.dtype == torch.int8:
        codes, scales = part.weight.double(), part.scales.double()
        return (codes * scales[:, None] / 127).float()
    found: Tensor = reference.dequantize_4bit(part.weight.data, part.weight.quant_state)
    return found.float()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("bits", "bound", "step"), [("8bit", 0.05, 0.6 / 127), ("4bit", 0.25, 0.17)]
)
def test_logits_and_input_gradients_are_those_of_the_rounded_weights(
    bits: Bits, bound: float, step: float, bias: bool
) -> None:
    llm, whole = quantised(bits, bias=bias)
    wanted, found = run(whole), run(llm)
    assert all(1e-4 < distance < bound for distance in distances(found, wanted))
    plain = copy.deepcopy(whole)
    names = [name for name, part in whole.model.layers.named_modules() if type(part) is nn.Linear]
    assert len(names) == 2 * 7
    for name in names:
        weight = dequantised(llm.model.layers.get_submodule(name))
        before = whole.model.layers.get_submodule(name).weight
        # To the nearest code: half a gap is 0.5/127 of a row's largest weight (in float16), or at
        # most 0.152 (NF4) of a block's: of 64 weights, or 32 where the width is 160.
        block = 32 if before.shape[1] == 160 else 64
        group = before.shape[1] if bits == "8bit" else block
        error = (weight - before).reshape(-1, group).abs().amax(dim=1)
        assert (error <= step * before.reshape(-1, group).abs().amax(dim=1)).all()
        plain.model.layers.get_submodule(name).weight.data = weight
    for a, b in zip(found, run(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_head_embeddings_and_norms_stay_whole(bits: Bits) -> None:
    llm, whole = quantised(bits)
    stock = dict(whole.named_parameters())
    for name, parameter in llm.named_parameters():
        assert not parameter.requires_grad
        if not name.endswith("_proj.weight"):
            assert torch.equal(parameter, stock[name])
    assert (llm.device, llm.dtype) == (whole.device, whole.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", BITS)
def test_the_layers_take_a_quarter_or_a_seventh_of_float32(bits: Bits, dtype: torch.dtype) -> None:
    llm, whole = quantised(bits, dtype)
    count = sum(p.numel() for p in decoder_layers(whole).parameters())
    parts: list[Any] = [m for m in decoder_layers(llm).modules() if hasattr(m, "compute_dtype")]
    extra = sum(m.scales.nbytes for m in decoder_layers(llm).modules() if hasattr(m, "scales"))
    for state in (part.weight.quant_state for part in parts):
        extra += state.absmax.nbytes + state.state2.absmax.nbytes
    nbytes = sum(p.nbytes for p in decoder_layers(llm).parameters()) + extra
    assert nbytes < count * 4 / (3.6 if bits == "8bit" else 7)
    bound = 0.05 if bits == "8bit" else 0.25
    assert all(distance < bound for distance in distances(run(llm), run(whole)))


@pytest.mark.parametrize("bits", BITS)
def test_evaluation_in_between_changes_nothing(bits: Bits) -> None:
    llm, _ = quantised(bits)
    wanted = run(llm)
    llm.eval()
    x = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = llm.lm_head(llm.model(inputs_embeds=x, use_cache=False).last_hidden_state)
    assert torch.equal(logits, wanted[0])
    llm.train()
    for device in ("cpu", torch.device("cpu")):  # as a trainer moves what it is given
        llm.to(device)
        assert all(torch.equal(a, b) for a, b in zip(run(llm), wanted, strict=True))


@pytest.mark.parametrize("bits", BITS)
def test_checkpointing_holds_nothing_inside_a_quantised_layer(bits: Bits) -> None:
    llm, _ = quantised(bits)
    wanted = run(llm)
    inputs: list[weakref.ref[Tensor]] = []
    linear = llm.model.layers[0].mlp.down_proj
    hook = linear.register_forward_pre_hook(lambda _, given: inputs.append(weakref.ref(given[0])))
    x = torch.randn(2, 16, 64).requires_grad_()
    alive = []
    for choice in ("off", "on"):
        checkpoint_activations(llm, choice)
        hidden = llm.model(inputs_embeds=x, use_cache=False).last_hidden_state
        alive.append(inputs[-1]() is not None)
        del hidden
    hook.remove()
    assert alive == [False, False]
    with require_recomputed(llm, True):
        found = run(llm)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("bits", BITS)
def test_no_second_copy_is_made(bits: Bits, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.quantised_layers as layers

    llm = tiny_llama(4)
    weights = [
        [weakref.ref(part.weight) for part in layer.modules() if type(part) is nn.Linear]
        for layer in decoder_layers(llm)
    ]
    whole: list[int] = []
    name = f"linear_{bits}"
    convert = getattr(layers, name)

    def watched(part: nn.Linear, device: torch.device) -> nn.Module:
        whole.append(sum(any(ref() is not None for ref in layer) for layer in weights))
        converted: nn.Module = convert(part, device)
        return converted

    monkeypatch.setattr(layers, name, watched)
    quantise(llm, bits)
    assert whole == [4] * 7 + [3] * 7 + [2] * 7 + [1] * 7


@pytest.mark.parametrize("bits", BITS)
def test_projectors_in_front_are_trained_and_nothing_else(bits: Bits, base: BaseConfig) -> None:
    loaded = load_image_llm(base)
    projector = VideoProjector(loaded.aligner, loaded.hidden_size, ProjectorSwitches())
    quantise(loaded.llm, bits)
    keep_frozen(loaded.llm)
    model = VideoLLM.of(projector, loaded)
    check_trainable(model)
    assert set(trainable(model)) == {f"projector.{n}" for n, _ in projector.named_parameters()}
    assert not any("llm" in name for name in projector.state_dict())


def test_a_width_that_is_no_multiple_of_32_goes_into_8_bits_alone() -> None:
    with pytest.raises(ConfigError, match="48 inputs"):
        quantise(tiny_llama(1, width=48), "4bit")
    quantise(tiny_llama(1, width=48), "8bit")


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.delitem(sys.modules, "train.quantised_layers", raising=False)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes.*pip install -e '.\[quant\]'"):
        quantise(tiny_llama(1), "4bit")
