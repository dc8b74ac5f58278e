"""Greedy decoding from embeddings, the same for every way of counting and looking."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from train.batch import Batch
from train.video_llm import VideoLLM


@torch.inference_mode()
def decode_greedily(
    model: VideoLLM, batch: Batch, stop_ids: tuple[int, ...], max_new_tokens: int
) -> Int[Tensor, "B K"]:
    """The likeliest tokens one by one, K <= max_new_tokens; all is stop_ids[0] behind a stop.

    Args:
        model: whose LLM answers.
        batch: prompts, padded on the left.
        stop_ids: tokens that end an answer.
        max_new_tokens: most tokens of an answer.
    """
    llm: Any = model.llm
    stops = torch.tensor(stop_ids, device=batch.input_ids.device)
    cache = DynamicCache(config=llm.config)
    mask = batch.attention_mask
    # The next position is one behind the largest, which in a grid is not the last token's.
    position = model.position_ids(batch).amax(dim=-1, keepdim=True)
    if position.ndim == 3:
        position = position.amax(dim=0, keepdim=True).expand(3, -1, -1)
    done = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    hidden, answer = model.hidden(batch, cache), []
    while True:
        token = model.logits(hidden.last_hidden_state[:, -1]).argmax(dim=-1)
        token = torch.where(done, stops[0], token)
        done = done | torch.isin(token, stops)
        answer.append(token)
        if len(answer) == max_new_tokens or bool(done.all()):
            return torch.stack(answer, dim=1)
        position = position + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        hidden = llm.model(
            inputs_embeds=llm.get_input_embeddings()(token[:, None]),
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
