"""Which frames of a video are looked at.

The baseline's rule, kept to the digit: its published features and ours must come from the same
frames, and numpy's half-to-even rounding decides some of them.
"""

from __future__ import annotations

from itertools import pairwise


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
