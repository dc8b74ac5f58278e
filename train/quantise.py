"""The frozen LLM in 8 or 4 bits, so that a small card holds it (`pip install -e '.[quant]'`)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from features.errors import ConfigError
from train.frozen import decoder_layers


def quantise(
    llm: PreTrainedModel, bits: Literal["8bit", "4bit"], device: torch.device | None = None
) -> None:
    """Replace the linear layers of every decoder layer; embeddings, norms and head stay whole.

    One weight is converted at a time, and a layer's old ones go before the next layer's are looked
    at: there is never a second copy, nor a whole LLM on a card that would not hold it. Gradients
    flow through to the input.

    Args:
        llm: frozen, in the dtype it computes in; on the CPU or on CUDA.
        bits: 8bit is LLM.int8() (Dettmers et al. 2022), on the CPU its weights alone; 4bit is NF4
            with double quantisation (QLoRA, Dettmers et al. 2023).
        device: where the LLM goes, weight by weight; it stays where it is unless given.

    Raises:
        ConfigError: bitsandbytes is not installed, or a layer's width does not go into 4 bits.
    """
    try:
        from train.quantised_layers import linear_4bit, linear_8bit
    except ImportError as error:
        raise ConfigError(
            "quantised training needs bitsandbytes",
            where=f"quantise {bits}",
            got=error,
            do="pip install -e '.[quant]', or quantise none",
        ) from error
    convert, device = linear_8bit if bits == "8bit" else linear_4bit, device or llm.device
    for layer in decoder_layers(llm):
        for name, part in list(layer.named_modules()):
            if type(part) is nn.Linear:
                layer.set_submodule(name, convert(part, device))
    model: Any = llm  # transformers does not type the parts of its models
    model.to(device)
