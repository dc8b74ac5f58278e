"""What every kind of tower is to the rest of the extraction."""

from __future__ import annotations

from torch import nn


class PatchEncoder(nn.Module):
    """A ViT up to the wanted layer: normalised pixels (B, 3, S, S) in, tokens (B, N, D) out.

    Tokens are patches in row-major order of their grid, regrouped where the base's alignment module
    wants several in one, and without CLS.
    """

    image_size: int
    """S: side of the images it takes, in pixels."""
    num_patches: int
    """N: tokens an image, after regrouping."""
    width: int
    """D: width of a token, after regrouping."""
    regrouping: int = 1
    """Side of the square of patches in one token."""
