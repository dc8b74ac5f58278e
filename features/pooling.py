"""From patch tokens to the two pooled tensors a video is kept as.

Sums are taken in float32 whatever the tower computed in: a float16 sum over 576 patches loses
three digits.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from features.errors import ConfigError


def temporal_features(x: Float[Tensor, "T N D"]) -> Float[Tensor, "T D"]:
    """Mean over the patches of each frame, float32."""
    return x.mean(dim=1, dtype=torch.float32)


def spatial_features(x: Float[Tensor, "T N D"]) -> Float[Tensor, "N D"]:
    """Mean over the frames of each patch, float32."""
    return x.mean(dim=0, dtype=torch.float32)


def window_pool(x: Float[Tensor, "*B N D"], window: int) -> Float[Tensor, "*B M D"]:
    """Mean over window x window neighbours of a square grid of patches, float32.

    It commutes with the mean over frames, so it is done when features are loaded and one store
    serves every window.

    Args:
        x: patches in row-major order of a square grid; N = side².
        window: side of the window, a divisor of the grid's side; 1 leaves the patches as they are.

    Returns:
        M = (side / window)² patches, in row-major order.

    Raises:
        ConfigError: the patches are no square grid, or the window does not divide it.
    """
    *batch, num_patches, width = x.shape
    side = isqrt(num_patches)
    if window < 1 or side * side != num_patches or side % window:
        raise ConfigError(
            "spatial window does not fit the grid of patches",
            got=f"window {window}, {num_patches} patches",
            wanted=f"a divisor of the grid's side ({side})" if side**2 == num_patches else "n²",
            do="set spatial_window to 1 or another divisor",
        )
    cells = side // window
    grid = x.reshape(*batch, cells, window, cells, window, width)
    pooled = grid.mean(dim=(-4, -2), dtype=torch.float32)
    return pooled.reshape(*batch, cells * cells, width)


def grid_side(count: int) -> int:
    """Side of the smallest square grid with room for `count` cells, at least 1."""
    return isqrt(max(count - 1, 0)) + 1


def resize_positions(table: Float[Tensor, "M D"], side: int) -> Float[Tensor, "N D"]:
    """A square table of positions on another square grid: bicubic, in float32, row-major."""
    before = isqrt(len(table))
    if side == before:
        return table
    grid = table.float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(0, 2).to(table.dtype)
