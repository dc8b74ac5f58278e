"""The two halves of extraction, each alone on all cores: no run on this machine can be faster.

Out of the floors: starting processes, loading weights, pooling, waiting, writing. In them: whatever
the run itself asks of its decoding children (thumbnails and the way through the pipe included), and
the tower from uint8 images to tokens, in the run's batches.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from extract.decode_child import DecodeChild
from extract.tower import load_tower
from extract.video import DecodeRequest, View
from features.config import BaseConfig
from features.spec import ComputeDtype

BATCH = 64


class Decoders:
    """One decoding child a core, started and warm."""

    def __init__(self, base: BaseConfig, num_frames: Sequence[int]) -> None:
        self._views = tuple(View(count, base.preprocessing) for count in num_frames)
        self._side = base.image_size
        self._children = [DecodeChild() for _ in range(os.cpu_count() or 1)]

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.close()

    def measure(self, paths: Sequence[Path]) -> tuple[float, list[UInt8[np.ndarray, "I S S 3"]]]:
        """Seconds for all videos, and their images."""
        for child in self._children:
            self._decode(child, paths[0])
        free = list(self._children)

        def decode(path: Path) -> UInt8[np.ndarray, "I S S 3"]:
            child = free.pop()
            try:
                return self._decode(child, path)
            finally:
                free.append(child)

        with ThreadPoolExecutor(len(free)) as pool:
            start = time.perf_counter()
            images = list(pool.map(decode, paths))
            return time.perf_counter() - start, images

    def _decode(self, child: DecodeChild, path: Path) -> UInt8[np.ndarray, "I S S 3"]:
        request = DecodeRequest(str(path), self._views, self._side)
        return child.decode(request).frames


def encode_floor(
    base: BaseConfig, images: Sequence[UInt8[np.ndarray, "I S S 3"]], dtype: ComputeDtype
) -> float:
    """Seconds of the tower for images in memory, in full batches but for the last, on all cores."""
    tower = load_tower(base, dtype, "cpu")
    every = np.concatenate(images)
    tower.encode(every[:BATCH])
    start = time.perf_counter()
    for low in range(0, len(every), BATCH):
        tower.encode(every[low : low + BATCH])
    return time.perf_counter() - start
