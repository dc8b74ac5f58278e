"""The frozen LLM in 8 or 4 bits, so that a small card holds it (`pip install -e '.[quant]'`)."""

from __future__ import annotations

from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from features.errors import ConfigError
from train.frozen import decoder_layers


def quantise(llm: PreTrainedModel, bits: Literal["8bit", "4bit"]) -> None:
    """Replace the linear layers of every decoder layer; embeddings, norms and head stay whole.

    One weight is converted at a time where it lies, on the CPU or on CUDA, so no second copy of
    the LLM is ever there. Gradients flow through to the input.

    Args:
        llm: frozen, in the dtype it computes in.
        bits: 8bit is LLM.int8() (Dettmers et al. 2022), on the CPU its weights alone; 4bit is NF4
            with double quantisation (QLoRA, Dettmers et al. 2023).

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
    convert = linear_8bit if bits == "8bit" else linear_4bit
    for layer in decoder_layers(llm):
        for name, part in list(layer.named_modules()):
            if type(part) is nn.Linear:
                layer.set_submodule(name, convert(part))
