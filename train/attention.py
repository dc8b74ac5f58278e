"""Attention masks: of questions that share a row, and of LLMs that look ahead in the prompt."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from train.batch import Batch
from train.image_llm import Attention
from train.packing import visible
from train.prompt import IGNORE, PADDING_SEGMENT

FLEX = "flex_attention"
"""transformers' name of the attention that takes a block mask."""


def full_masks(
    batch: Batch, attention: Attention, image_token_id: int, config: Any, dtype: torch.dtype
) -> Float[Tensor, "B 1 L L"] | dict[str, Float[Tensor, "B 1 L L"]]:
    """Additive masks of a whole batch; by kind of layer for an LLM that has sliding windows.

    Args:
        batch: labels tell the answer, ids the video.
        attention: who looks ahead.
        image_token_id: the placeholder of video tokens.
        config: the LLM's.
        dtype: the LLM's.
    """
    exists = batch.segment_ids != PADDING_SEGMENT
    near = visible(batch.segment_ids)
    if attention == "bidirectional-prefix":
        ahead = exists & (batch.labels == IGNORE)
    else:
        ahead = batch.input_ids == image_token_id
    block = ahead[:, :, None] & ahead[:, None] & (attention != "causal")
    # Questions that share a row are as far from the video as their positions say.
    distance = batch.position_ids[:, :, None] - batch.position_ids[:, None]
    # PaliGemma's prefix looks past the window, Gemma 3's images do not.
    past = block if attention == "bidirectional-prefix" else None
    # Padding sees itself: a row that sees nothing would be NaN.
    itself = torch.eye(near.shape[-1], dtype=torch.bool, device=near.device)
    return additive_masks(near | block | itself, past, distance, config, dtype)


def additive_masks(
    seen: Bool[Tensor, "B L S"],
    past_window: Bool[Tensor, "B L S"] | None,
    distance: Int[Tensor, "B L S"],
    config: Any,
    dtype: torch.dtype,
) -> Float[Tensor, "B 1 L S"] | dict[str, Float[Tensor, "B 1 L S"]]:
    """What an LLM adds to its scores; by kind of layer where it has sliding windows.

    Args:
        seen: whether a token (second axis) sees another (third axis), windows aside.
        past_window: where it does so however far the other is.
        distance: in tokens; behind is positive.
        config: the LLM's.
        dtype: the LLM's.
    """
    full = _additive(seen, dtype)
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    if not window or (layers and "sliding_attention" not in layers):
        return full
    near = distance < window
    sliding = _additive(seen & (near if past_window is None else near | past_window), dtype)
    return {"full_attention": full, "sliding_attention": sliding} if layers else sliding


def _additive(seen: Bool[Tensor, "B L S"], dtype: torch.dtype) -> Float[Tensor, "B 1 L S"]:
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]  # finite: NaN would spread


def use_block_masks(llm: PreTrainedModel, attention: Attention) -> None:
    """Let an LLM skip what packed questions do not see, where it can: flex attention.

    It trains on CUDA alone, and its masks here are for LLMs that look neither ahead nor through
    windows; the others keep their attention and get dense masks.
    """
    if attention == "causal" and not getattr(llm.config, "sliding_window", None):
        llm.set_attn_implementation(FLEX)


def block_mask(batch: Batch) -> Any:
    """What `visible` says, for flex attention, which skips blocks of tokens that see nothing."""
    from torch.nn.attention.flex_attention import create_block_mask

    segments = batch.segment_ids
    rows, length = segments.shape
    return create_block_mask(
        lambda row, head, query, key: (
            (query >= key)
            & (segments[row, key] != PADDING_SEGMENT)
            & ((segments[row, key] == 0) | (segments[row, key] == segments[row, query]))
        ),
        rows,
        None,
        length,
        length,
        device=str(segments.device),
    )
