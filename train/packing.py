"""Several questions about one video in one row: the video passes through the LLM once.

A row is the prefix with the video (segment 0), then one segment a question with its answer. A
segment sees the shared part and itself, causally, and its positions go on where the shared part
ends, so each question is computed as if it were alone. Unlike in a chat no question sees another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from features.errors import ConfigError
from train.prompt import PADDING_SEGMENT, Rendered


def pack(prompts: Sequence[Rendered], where: object = None) -> Rendered:
    """One row of the questions about one video; a single one stays as it is.

    Raises:
        ConfigError: what stands before the end of the video is not the same for all.
    """
    if len(prompts) == 1:
        return prompts[0]
    first, shared = prompts[0], int((prompts[0].segment_ids == 0).sum())
    for other in prompts[1:]:
        if not np.array_equal(other.input_ids[other.segment_ids == 0], first.input_ids[:shared]):
            raise ConfigError(
                "these questions share no prefix: the prompt puts something of theirs before "
                "the end of the video",
                where=where,
                do="set questions_per_row 1",
            )
    rests = [prompt.input_ids[shared:] for prompt in prompts]
    numbers = [np.full(len(rest), number) for number, rest in enumerate(rests, start=1)]
    return Rendered(
        input_ids=np.concatenate([first.input_ids[:shared], *rests]),
        labels=np.concatenate([first.labels[:shared], *(p.labels[shared:] for p in prompts)]),
        segment_ids=np.concatenate([np.zeros(shared, np.int64), *numbers]),
        position_ids=np.concatenate(
            [first.position_ids[:shared], *(p.position_ids[shared:] for p in prompts)]
        ),
    )


def visible_pairs(segment_ids: Int[np.ndarray, " L"]) -> int:
    """Pairs of tokens of which one sees the other in a row without padding, by sizes alone."""
    sizes = np.bincount(segment_ids)
    return int((sizes * (sizes + 1) // 2).sum() + sizes[0] * sizes[1:].sum())


def visible(segment_ids: Int[Tensor, "B L"]) -> Bool[Tensor, "B L L"]:
    """Whether a token (second axis) may see another (third axis): block by block, causally."""
    query, key = segment_ids[:, :, None], segment_ids[:, None]
    place = torch.arange(segment_ids.shape[1], device=segment_ids.device)
    return (place[:, None] >= place) & (key != PADDING_SEGMENT) & ((key == 0) | (key == query))
