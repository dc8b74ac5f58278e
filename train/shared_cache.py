"""Keys and values of rows of questions about one video each, which hold their video once.

As in a packed training row (packing.py) every token has an owner: 0 what the row's questions share,
1, 2, ... a question with its answer, -1 padding. A token sees what is shared and what its owner
said before. So neither a video nor an answer is stored for a question it does not belong to twice,
and an answer that is finished costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from train.attention import additive_masks
from train.prompt import PADDING_SEGMENT
from train.videos import Video


@dataclass(frozen=True)
class Prefix:
    """What the LLM makes of the shared beginning of questions about one video."""

    video: Video
    ids: bytes
    """Of its tokens, as bytes."""
    length: int
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values of each layer, (1, heads, length, width)."""
    last: Float[Tensor, " H"]
    """The hidden state that predicts the token behind it."""
    shift: int
    """Position of the token behind it, less `length`: not 0 where positions are a grid."""


class SharedCache(Cache):
    """R rows with room for all that will be said: nothing is moved while they grow."""

    def __init__(self, prefixes: Sequence[Prefix], more: int) -> None:
        """A row behind each prefix (an object may come twice), with room for `more` tokens.

        Prefixes are padded on the left.
        """
        longest = max(prefix.length for prefix in prefixes)
        device = prefixes[0].last.device
        super().__init__(layers=[_Layer(prefixes, n, longest, more) for n in _layers(prefixes)])
        lengths = torch.tensor([prefix.length for prefix in prefixes])
        place = torch.arange(longest) - (longest - lengths[:, None])
        self._place = place.to(device)
        self._owner = place.clamp(max=0, min=PADDING_SEGMENT).to(device)

    def extend(
        self, owner: Int[Tensor, "R Q"], place: Int[Tensor, "R Q"], config: Any, dtype: torch.dtype
    ) -> Any:
        """Masks under which the next Q tokens of each row see; they are in the cache then.

        Args:
            owner: whose the tokens are.
            place: their place in their own prompt, by which windows are measured.
            config: the LLM's.
            dtype: the LLM's.
        """
        before = self._owner.shape[1]
        self._owner = torch.cat([self._owner, owner], dim=1)
        self._place = torch.cat([self._place, place], dim=1)
        query, key = owner[:, :, None], self._owner[:, None]
        index = torch.arange(self._owner.shape[1], device=owner.device)
        # Padding that looks sees what is shared, too: its numbers are of no use but finite.
        near = ((key == 0) | (key == query)) & (index <= before + index[: owner.shape[1], None])
        distance = place[:, :, None] - self._place[:, None]
        return additive_masks(near, None, distance, config, dtype)

    def keep(self, rows: Int[Tensor, " S"]) -> None:
        """Forget all rows but these."""
        self._owner, self._place = self._owner[rows], self._place[rows]
        for layer in self.layers:
            layer.batch_select_indices(rows)  # type: ignore[union-attr]


def _layers(prefixes: Sequence[Prefix]) -> range:
    return range(len(prefixes[0].layers))


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer of a SharedCache: what grows is a view of a larger tensor."""

    def __init__(self, prefixes: Sequence[Prefix], number: int, longest: int, more: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        rooms = []
        for which in (0, 1):
            _, heads, _, width = prefixes[0].layers[number][which].shape
            size = len(prefixes), heads, longest + more, width
            room = prefixes[0].layers[number][which].new_zeros(size)
            for row, prefix in enumerate(prefixes):
                start = longest - prefix.length
                room[row, :, start:longest] = prefix.layers[number][which][0]
            rooms.append(room)
        self._rooms = rooms
        self.dtype, self.device = rooms[0].dtype, rooms[0].device
        self.is_initialized = True
        self._show(longest)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Put new keys and values behind the others; gives all."""
        start = self._length
        end = start + key_states.shape[-2]
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        return self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows."""
        self._rooms = [room[indices] for room in self._rooms]
        self._show(self._length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        self._length = length
        self.keys, self.values = (room[:, :, :length] for room in self._rooms)
        return self.keys, self.values
