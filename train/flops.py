"""What a training step must compute at least, counted from the LLM's shapes and the batch itself.

Nothing here depends on how the step is computed: padding, recomputation and full logits are not
work that training asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.batch import Batch
from train.prompt import PADDING_SEGMENT


@dataclass(frozen=True)
class StepWork:
    """What passes through the LLM in a step, or in one device's share of it."""

    counts: Int[Tensor, " 4"]
    """Tokens, answer tokens, visible query-key pairs and questions, on the batch's device. One
    tensor, so that the shares of several devices are summed in one go."""

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(self.counts + other.counts)


def step_work(batches: Sequence[Batch], device: torch.device) -> StepWork:
    """The work of a step's micro-batches; a rank may have none. Nothing is read from the device."""
    answers = sum(batch.num_answer_tokens for batch in batches)
    questions = sum(len(batch.sample_ids) for batch in batches)
    counts = torch.tensor([0, answers, 0, questions]).to(device, non_blocking=True)
    for batch in batches:
        counts[0] += (batch.segment_ids != PADDING_SEGMENT).sum()
        counts[2] += visible_pairs(batch.segment_ids)
    return StepWork(counts)


def visible_pairs(segment_ids: Int[Tensor, "B L"]) -> Int[Tensor, ""]:
    """Query-key pairs that the attention mask lets through, one layer and head.

    Segment 0 is causal; a token of another segment sees segment 0, which comes first, and its own
    segment causally. What PaliGemma and Gemma 3 see ahead, and what a sliding window hides, is not
    counted: little, at the lengths trained here.
    """
    rows, length = segment_ids.shape
    sizes = torch.zeros(rows, length + 2, dtype=torch.long, device=segment_ids.device)
    sizes = sizes.scatter_add_(1, segment_ids - PADDING_SEGMENT, torch.ones_like(segment_ids))
    shared, own = sizes[:, 1:2], sizes[:, 2:]  # column 0 counts the padding
    causal = sizes[:, 1:] * (sizes[:, 1:] + 1) // 2
    return causal.sum() + (shared * own).sum()


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

    def flops(
        self,
        tokens: int | float,
        answers: int | float,
        pairs: int | float,
        checkpointing: bool = False,
    ) -> int | float:
        """Least FLOPs of training projectors in front of this frozen LLM.

        Forward and input gradient take 2 P a token each, and there are no weight gradients: 4 P.
        The head takes the same 4 V H a position that predicts an answer token. Attention has two
        products forwards (4 FLOPs a pair and unit of width) and four backwards: 3 x forward.

        Args:
            tokens: real ones, padding excluded.
            answers: tokens with a loss.
            pairs: see `visible_pairs`.
            checkpointing: count each layer's second forward pass too: nearly 6 P, and 4 x
                attention. That is the floor at this setting; work that is needed it is not.
        """
        linear = 4 * self.linear + 2 * self.linear_again * checkpointing
        attention = (3 + checkpointing) * 4 * self.attention_width * self.layers
        return linear * tokens + 4 * self.head * answers + attention * pairs


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
