"""bitsandbytes' linear layers as a frozen LLM in front of a trained module needs them.

Used as they come, they have four traps (bitsandbytes 0.50): the 8-bit layer keeps its input until
backward in a way that activation checkpointing cannot see; on the CPU it computes something else in
eval mode than in train mode; the 4-bit layer, once called without gradients in eval mode on a CPU
with AVX512-BF16, is packed for inference and gives no gradients ever after; and on the CPU it reads
other weights than were written where 64 does not divide its inputs.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from features.errors import ConfigError

# At import it misses optional kernels, and at each 8-bit call in bfloat16 it says that it casts.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

import bitsandbytes  # noqa: E402
from bitsandbytes.nn.modules import Linear8bitLt  # noqa: E402

bnb: Any = bitsandbytes  # it is typed in part
OUTLIER = 6.0
"""Activations above it are multiplied in the LLM's dtype (on CUDA): LLM.int8()'s own value."""


class FrozenLinear8bit(Linear8bitLt):
    """The 8-bit layer with nothing kept for backward but its weight, the same in either mode."""

    scales: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out) in the dtype of x."""
        # Set each time, because moving the module moves these two and not the state.
        self.state.CB, self.state.SCB = self.weight.data, self.scales
        self.state.is_training = True
        y: Tensor = _InputGradient.apply(x, self)
        return y


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear8bit) -> Tensor:
        ctx.layer = layer
        y: Tensor = bnb.matmul(x, layer.weight, bias=layer.bias, state=layer.state)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        state = ctx.layer.state
        weight = state.CB.to(grad.dtype).mul_((state.SCB / 127).to(grad.dtype)[:, None])
        return grad @ weight, None


def linear_8bit(old: nn.Linear, device: torch.device) -> FrozenLinear8bit:
    """The layer with one int8 number a weight and one scale an output."""
    sizes = old.in_features, old.out_features
    bias = old.bias is not None
    new = FrozenLinear8bit(
        *sizes, bias, has_fp16_weights=False, threshold=OUTLIER, device=torch.device("meta")
    )
    # Int8Params converts by itself only what it moves away from the CPU.
    codes, scales, _ = bnb.functional.int8_vectorwise_quant(old.weight.detach().to(device).half())
    new.weight = bnb.nn.Int8Params(codes, requires_grad=False)
    new.register_buffer("scales", scales, persistent=False)
    new.bias = old.bias
    return new


def linear_4bit(old: nn.Linear, device: torch.device) -> nn.Module:
    """The layer in NF4 with doubly quantised scales.

    A block of weights has one scale, and blocks that reach over the end of a row are read wrongly
    on the CPU (no error, other weights), so they must fit the row.

    Raises:
        ConfigError: no block fits.
    """
    block = math.gcd(old.in_features, 64)
    if block < 32:
        raise ConfigError(
            "a layer of this width cannot be had in 4 bits",
            got=f"{old.in_features} inputs",
            wanted="a multiple of 32",
            do="quantise 8bit",
        )
    new: Any = bnb.nn.Linear4bit(
        old.in_features,
        old.out_features,
        old.bias is not None,
        compute_dtype=old.weight.dtype,
        quant_type="nf4",
        device=torch.device("meta"),
    )
    weight = bnb.nn.Params4bit(old.weight.detach(), blocksize=block, quant_type="nf4", module=new)
    new.weight = weight.to(device)
    new.bias = old.bias
    new.support_avx512bf16_for_cpu = False
    found: nn.Module = new
    return found
