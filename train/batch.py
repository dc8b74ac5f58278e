"""Rows of questions with their videos, padded to one micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from train.packing import visible_pairs
from train.prompt import IGNORE, PADDING_SEGMENT, Rendered
from train.videos import Video


@dataclass(frozen=True)
class Item:
    """One row: a video and the question (or packed questions) about it, ready to be collated."""

    sample_ids: tuple[str, ...]
    prompt: Rendered
    video: Video


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B rows. Padding has segment -1 and label -100; absent features are 0."""

    sample_ids: tuple[str, ...]
    """Of all questions, row by row."""
    input_ids: Int[Tensor, "B L"]
    labels: Int[Tensor, "B L"]
    """Not shifted."""
    segment_ids: Int[Tensor, "B L"]
    """0 what a row's questions share, then 1, 2, ... a question and its answer each."""
    position_ids: Int[Tensor, "B L"]
    """Each question's go on behind the shared part."""
    temporal: Float[Tensor, "B T D"]
    temporal_valid: Bool[Tensor, "B T"]
    spatial: Float[Tensor, "B N D"]
    spatial_valid: Bool[Tensor, "B N"]
    num_answer_tokens: int
    num_tokens: int
    """Real ones."""
    num_pairs: int
    """Pairs of which one token sees the other, one layer and head (packing.visible_pairs). What
    PaliGemma and Gemma 3 see ahead and what a window hides is not counted: little, here."""
    side: Literal["right", "left"] = "right"
    """Where the padding is."""

    @property
    def packed(self) -> bool:
        """Whether a row holds questions that must not see one another."""
        return len(self.sample_ids) > len(self.input_ids)

    @property
    def attention_mask(self) -> Int[Tensor, "B L"]:
        """1 where there is a token."""
        return (self.segment_ids != PADDING_SEGMENT).long()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(
    items: Sequence[Item], pad_token_id: int, side: Literal["right", "left"] = "right"
) -> Batch:
    """Pad to the longest: on the right for training, on the left for generation."""
    prompts = [item.prompt for item in items]
    labels = _pad_ids([p.labels for p in prompts], IGNORE, side)
    temporal, temporal_valid = _pad_rows([item.video.temporal for item in items])
    spatial, spatial_valid = _pad_rows([item.video.spatial for item in items])
    return Batch(
        sample_ids=tuple(name for item in items for name in item.sample_ids),
        input_ids=_pad_ids([p.input_ids for p in prompts], pad_token_id, side),
        labels=labels,
        segment_ids=_pad_ids([p.segment_ids for p in prompts], PADDING_SEGMENT, side),
        position_ids=_pad_ids([p.position_ids for p in prompts], 0, side),
        temporal=temporal,
        temporal_valid=temporal_valid,
        spatial=spatial,
        spatial_valid=spatial_valid,
        num_answer_tokens=int((labels[:, 1:] != IGNORE).sum()),
        num_tokens=sum(len(p.input_ids) for p in prompts),
        num_pairs=sum(visible_pairs(p.segment_ids) for p in prompts),
        side=side,
    )


def _pad_ids(
    rows: Sequence[Int[np.ndarray, " _"]], value: int, side: Literal["right", "left"]
) -> Int[Tensor, "B L"]:
    padded = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[slice(0, len(row)) if side == "right" else slice(len(target) - len(row), None)] = row
    return torch.from_numpy(padded)


def _pad_rows(
    rows: Sequence[Float[Tensor, "_ D"]],
) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]
