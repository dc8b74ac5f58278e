"""What is asked of the decoding child and what it answers.

Kept apart from the decoding itself so that the process which asks need not load a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from features.spec import Preprocessing


@dataclass(frozen=True)
class DecodeRequest:
    """One video to decode."""

    path: str
    """The file."""
    num_frames: int
    """T: the most frames wanted."""
    image_size: int
    """S: side of the square images, in pixels."""
    preprocessing: Preprocessing
    """How a frame becomes a square image."""
    thumbs: int = 8
    """The most thumbnails wanted; 0 for none."""
    deadline_s: int = 300
    """CPU seconds after which decoding is given up."""
    decoders: tuple[str, ...] = ("decord", "pyav")
    """Decoders in the order they are tried."""


@dataclass(frozen=True)
class DecodedVideo:
    """The sampled frames of one video."""

    frames: UInt8[np.ndarray, "T S S 3"]
    """Square RGB images."""
    pts: tuple[float, ...]
    """Presentation time of each frame, in seconds."""
    decoder: str
    """Which decoder gave the frames."""
    decoder_version: str
    """Its version."""
    thumbs: tuple[bytes, ...] = ()
    """JPEG files, longest side at most 160 pixels."""
