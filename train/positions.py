"""Qwen2-VL's positions: three axes (time, row, column), all alike where there is text."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from features.pooling import grid_side


def mrope(start: int, temporal: int, spatial: int, length: int) -> Int[Tensor, "3 L"]:
    """Positions of `[text, temporal tokens, spatial tokens, text]`.

    Temporal tokens are a video of frames of one token; spatial tokens are one still image, row by
    row of the smallest square grid that holds them. Each stretch goes on one behind the largest
    position before it, so an ordinary image is counted as Qwen2-VL counts it.

    Args:
        start: tokens of text in front.
        temporal: number of temporal tokens.
        spatial: number of spatial tokens.
        length: tokens in all.
    """
    frames = torch.zeros(3, temporal, dtype=torch.long)
    frames[0] = torch.arange(temporal)
    side = grid_side(spatial)
    cell = torch.arange(spatial)
    image = torch.stack([torch.zeros_like(cell), cell // side, cell % side])
    stretches, offset = [], 0
    rest = length - start - temporal - spatial
    for stretch in (_text(start), frames, image, _text(rest)):
        stretches.append(stretch + offset)
        offset += int(stretch.max()) + 1 if stretch.shape[1] else 0
    return torch.cat(stretches, dim=1)


def _text(length: int) -> Int[Tensor, "3 L"]:
    return torch.arange(length).expand(3, -1)
