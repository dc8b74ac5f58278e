"""Which frames of a video are looked at.

The baseline's rule, kept to the digit: its published features and ours must come from the same
frames, and numpy's half-to-even rounding decides some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from extract.video import View
from features.spec import Preprocessing


def midpoint_indices(total: int, num_frames: int) -> list[int]:
    """Indices of the midpoints of n = min(total, num_frames) equal segments of a video.

    Args:
        total: frames the video has, at least 1.
        num_frames: T, the most frames wanted, at least 1.

    Returns:
        n indices below `total`, never falling. The rule repeats one now and then when total is
        close to n (two frames give [0, 0]); the baseline's features have those repetitions too.

    Raises:
        ValueError: `total` or `num_frames` is below 1.
    """
    if total < 1 or num_frames < 1:
        raise ValueError(f"need at least one frame, got total={total}, num_frames={num_frames}")
    n = min(total, num_frames)
    segment = (total - 1) / n
    # Python's round is numpy's: halves go to the even number.
    edges = [round(segment * i) for i in range(n + 1)]
    return [(low + high) // 2 for low, high in pairwise(edges)]


@dataclass(frozen=True)
class Choice:
    """Which frames several views of one video need, each decoded once."""

    indices: tuple[int, ...]
    """Every frame that any view needs, rising."""
    images: dict[Preprocessing, tuple[int, ...]]
    """The squares to be made: for each preprocessing the positions in `indices`, rising."""
    chosen: tuple[tuple[int, ...], ...]
    """For each view its frames in order, as positions in the squares of all preprocessings."""


def choose_frames(total: int, views: Sequence[View]) -> Choice:
    """The union of the views' midpoint frames of a video of `total` frames.

    Raises:
        ValueError: `total` or a view's number of frames is below 1.
    """
    wanted = [midpoint_indices(total, view.num_frames) for view in views]
    indices = tuple(sorted({index for view in wanted for index in view}))
    at = {index: position for position, index in enumerate(indices)}
    images: dict[Preprocessing, tuple[int, ...]] = {}
    for mode in dict.fromkeys(view.preprocessing for view in views):
        same = [
            frames for view, frames in zip(views, wanted, strict=True) if view.preprocessing == mode
        ]
        images[mode] = tuple(sorted({at[index] for frames in same for index in frames}))
    stacked = [(mode, position) for mode, positions in images.items() for position in positions]
    image_of = {square: image for image, square in enumerate(stacked)}
    chosen = tuple(
        tuple(image_of[view.preprocessing, at[index]] for index in frames)
        for view, frames in zip(views, wanted, strict=True)
    )
    return Choice(indices, images, chosen)
