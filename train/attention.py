"""Attention masks of LLMs that look ahead in part of the prompt."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from train.data import Batch
from train.image_llm import Attention
from train.prompt import IGNORE, PADDING_SEGMENT


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
    if attention == "bidirectional-prefix":
        ahead = exists & (batch.labels == IGNORE)
    else:
        ahead = batch.input_ids == image_token_id
    block = ahead[:, :, None] & ahead[:, None]
    place = torch.arange(exists.shape[1], device=exists.device)
    causal = place[:, None] >= place
    real = exists[:, None] | torch.eye(len(place), dtype=torch.bool, device=exists.device)
    full = _additive((causal | block) & real, dtype)
    window = getattr(config, "sliding_window", None)
    if not window or "sliding_attention" not in (config.layer_types or ()):
        return full
    near = place[:, None] - place < window
    # PaliGemma's prefix looks past the window, Gemma 3's images do not.
    seen = near & causal | block if attention == "bidirectional-prefix" else near & (causal | block)
    return {"full_attention": full, "sliding_attention": _additive(seen & real, dtype)}


def _additive(seen: Bool[Tensor, "B L L"], dtype: torch.dtype) -> Float[Tensor, "B 1 L L"]:
    # Finite, and padding sees itself: a row that sees nothing would be NaN.
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
