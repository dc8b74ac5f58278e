"""What a training step must compute at least, counted from the LLM's shapes and the batch itself.

Padding and full logits are not work that training asks for. Recomputation is counted apart: it is
part of the floor only where activation checkpointing was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from train.batch import Batch


class StepWork(NamedTuple):
    """What passes through the LLM in a step, or in one process's share of it."""

    tokens: float
    """Real ones."""
    answers: float
    """Tokens with a loss."""
    pairs: float
    """Query-key pairs that the attention mask lets through, one layer and head."""
    questions: float


def step_work(batches: Sequence[Batch]) -> StepWork:
    """The work of a step's micro-batches; a rank may have none."""
    return StepWork(
        sum(batch.num_tokens for batch in batches),
        sum(batch.num_answer_tokens for batch in batches),
        sum(batch.num_pairs for batch in batches),
        sum(len(batch.sample_ids) for batch in batches),
    )


@dataclass(frozen=True)
class FlopsModel:
    """Sizes of an LLM that decide its FLOPs; one multiplication and addition is two of them."""

    linear: int
    """P: weights of the decoder's linear layers, without embedding and vocabulary head."""
    linear_again: int
    """Those of P that activation checkpointing computes again. A layer's last one is not among
    them where nothing but the residual follows: torch stops when it has what it saved."""
    head: int
    """V x H: weights of the vocabulary head."""
    attention_width: int
    """Heads x width of a head."""
    layers: int

    def flops(self, work: StepWork, checkpointing: bool = False) -> float:
        """Least FLOPs of training projectors in front of this frozen LLM.

        Forward and input gradient take 2 P a token each, and there are no weight gradients: 4 P.
        The head takes the same 4 V H a position that predicts an answer token. Attention has two
        products forwards (4 FLOPs a pair and unit of width) and four backwards: 3 x forward.

        Args:
            work: of a step.
            checkpointing: count each layer's second forward pass too: nearly 6 P, and 4 x
                attention. That is the floor at this setting; work that is needed it is not.
        """
        linear = 4 * self.linear + 2 * self.linear_again * checkpointing
        attention = (3 + checkpointing) * 4 * self.attention_width * self.layers
        return float(linear * work.tokens + 4 * self.head * work.answers + attention * work.pairs)

    def forward(self, work: StepWork) -> float:
        """FLOPs of a forward pass alone: `answers` are the positions that the head sees."""
        attention = 4 * self.attention_width * self.layers
        dense = self.linear * work.tokens + self.head * work.answers
        return float(2 * dense + attention * work.pairs)

    @property
    def step_weights(self) -> int:
        """Weights that every decoding step reads once, whatever the batch."""
        return self.linear + self.head


def count_flops_model(llm: PreTrainedModel) -> FlopsModel:
    """The sizes of an LLM, from its layers' features: before it is quantised or divided.

    Args:
        llm: a causal LM with `model.layers` and `lm_head`, wherever its weights are (meta too).
    """
    parts: Any = llm
    config: Any = llm.config
    head: nn.Linear = parts.lm_head
    linear = last = 0
    for layer in parts.model.layers:
        sizes = [
            m.in_features * m.out_features for m in layer.modules() if isinstance(m, nn.Linear)
        ]
        linear += sum(sizes)
        last += 0 if hasattr(layer, "post_feedforward_layernorm") else sizes[-1]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return FlopsModel(
        linear=linear,
        linear_again=linear - last,
        head=head.in_features * head.out_features,
        attention_width=config.num_attention_heads * width,
        layers=config.num_hidden_layers,
    )


_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_LAST = ("mlp.down_proj", "mlp.c_proj")
_OUT = ("self_attn.o_proj", "attn.c_proj")


def flops_model_of(shapes: Mapping[str, tuple[int, ...]]) -> FlopsModel:
    """The same sizes from the shapes of an LLM's tensors, so that no weights are needed.

    Args:
        shapes: by name within the LLM, as features/layouts.py names them; Qwen-VL's own names too.

    Raises:
        KeyError: no such LLM: no table of embeddings, or no products of attention.
    """
    found = [(match, shapes[name]) for name in shapes if (match := _LAYER.fullmatch(name))]
    matrices = [(match[2], shape) for match, shape in found if len(shape) == 2]
    linear = sum(prod(shape) for _, shape in matrices)
    followed = any("post_feedforward_layernorm" in match[2] for match, _ in found)
    last = 0 if followed else sum(prod(shape) for name, shape in matrices if name in _LAST)
    head = shapes.get("lm_head.weight") or shapes["model.embed_tokens.weight"]
    width = {shape[1] for name, shape in matrices if name in _OUT}
    if not width:
        raise KeyError(" or ".join(_OUT))
    return FlopsModel(
        linear=linear,
        linear_again=linear - last,
        head=prod(head),
        attention_width=width.pop(),
        layers=len({match[1] for match, _ in found}),
    )
