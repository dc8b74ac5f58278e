"""What a training step must compute at least, counted from the LLM's shapes and the batch itself.

Padding and full logits are not work that training asks for. Recomputation is counted apart: it is
part of the floor only where activation checkpointing was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
