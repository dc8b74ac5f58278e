"""What is asked of the decoding child and what it answers.

Kept apart from the decoding itself so that the process which asks need not load a decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from features.spec import Preprocessing


@dataclass(frozen=True)
class View:
    """What one spec wants of a video: how many frames, and how each becomes a square."""

    num_frames: int
    """T: the most frames wanted."""
    preprocessing: Preprocessing
    """How a frame becomes a square image."""


@dataclass(frozen=True)
class DecodeRequest:
    """One video to decode, once for all views."""

    path: str
    """The file."""
    views: tuple[View, ...]
    """At least one."""
    image_size: int
    """S: side of the square images, in pixels."""
    thumbs: int = 8
    """The most thumbnails wanted; 0 for none."""
    deadline_s: int = 300
    """CPU seconds after which decoding is given up."""
    decoders: tuple[str, ...] = ("pyav", "decord")
    """Decoders in the order they are tried."""
    sha256: str = ""
    """Hexadecimal digest that the whole file must have; "" when nobody knows it."""


@dataclass(frozen=True)
class DecodedVideo:
    """The sampled frames of one video: each image once, however many views want it."""

    frames: UInt8[np.ndarray, "I S S 3"]
    """Square RGB images; those of one preprocessing stand together, in the order of time."""
    pts: tuple[float, ...]
    """Presentation time of each image, in seconds from the first frame of the video."""
    chosen: tuple[tuple[int, ...], ...]
    """For each view the images that are its frames, in order; one may come twice."""
    decoder: str
    """Which decoder gave the frames."""
    decoder_version: str
    """Its version."""
    thumbs: tuple[bytes, ...] = ()
    """JPEG files, longest side at most 160 pixels."""
    cpu_seconds: float = 0.0
    """What the decoding child spent on it."""

    def view(self, index: int = 0) -> UInt8[np.ndarray, "T S S 3"]:
        """The frames of one view."""
        return self.frames[list(self.chosen[index])]

    def view_pts(self, index: int = 0) -> tuple[float, ...]:
        """The times of one view's frames."""
        return tuple(self.pts[image] for image in self.chosen[index])
