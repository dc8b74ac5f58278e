"""How long a run will take, from a sample of its own videos on this machine.

Sizes of files spread over orders of magnitude and decoding goes with them, so the sample takes one
video from each of a few classes of size, and speaks for its class by its bytes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from extract.decode_child import DecodeChild
from extract.meter import Usage, run_report
from extract.tower import Tower
from extract.video import DecodeRequest
from extract.work import decode_row
from features.device import intra_op_threads
from features.errors import VideoError
from features.plan import SourceVideo

SAMPLE = 8
_PATIENCE_S = 20.0
"""About as long one batch may take; a tower slower than that is timed on a smaller one."""


@dataclass(frozen=True)
class Estimate:
    """What the videos that wait will take."""

    videos: int
    """Videos that wait and have a file."""
    sampled: int
    """Videos decoded to find out."""
    failed: dict[str, int]
    """Those of them that could not be used, by code."""
    usage: Usage
    """Images, CPU seconds of decoding, and images a second of one tower alone."""
    thumb_bytes: int
    """Of all thumbnails."""

    def hours(self, towers: int, decoders: int, same_cores: bool) -> float:
        """Wall clock at best.

        Args:
            towers: towers as fast as the one measured.
            decoders: decoding processes, each with a core.
            same_cores: whether towers and decoders share the cores, so that their times add up.
        """
        return run_report(self.usage, 0.0, towers, decoders, same_cores).floor_s / 3600

    @property
    def decoders_a_tower(self) -> float:
        """Decoding processes that one tower keeps busy."""
        return self.usage.decode_cpu_s * self.usage.rate / max(self.usage.images, 1)


def estimate(
    jobs: Sequence[tuple[SourceVideo, DecodeRequest]],
    tower: Tower | None,
    batch_size: int,
    seed: int = 0,
) -> Estimate:
    """Decode a sample of the videos and encode a batch of its images.

    Args:
        jobs: the videos that wait, and what will be asked of the decoder.
        tower: what will encode, where it will do so; without one only decoding is measured.
        batch_size: images a batch.
        seed: of the sample.
    """
    ordered = sorted(jobs, key=lambda job: (job[0].size, job[0].video_id))
    count = min(SAMPLE, len(ordered))
    edges = [len(ordered) * index // max(count, 1) for index in range(count + 1)]
    classes = [ordered[low:high] for low, high in pairwise(edges)]
    picks = random.Random(seed)
    failed, heard, decode_s, images, thumbs = Counter[str](), 0, 0.0, 0.0, 0.0
    first: list[UInt8[np.ndarray, "I S S 3"]] = []
    with DecodeChild() as child:
        if ordered:  # a child's first video takes it longer, by as much as three small ones
            decode_row(child, *ordered[0])
        for alike in classes:
            video, request = picks.choice(alike)
            outcome = decode_row(child, video, request)
            if isinstance(outcome, VideoError):
                failed[outcome.code] += 1
                continue
            heard += len(alike)
            weight = sum(other.size for other, _ in alike) / max(video.size, 1)
            decode_s += outcome.cpu_seconds * weight
            images += len(outcome.frames) * len(alike)
            thumbs += sum(map(len, outcome.thumbs)) * len(alike)
            if sum(map(len, first)) < batch_size:
                first.append(outcome.frames)
    rate = _rate(tower, np.concatenate(first), batch_size) if first and tower else 0.0
    more = len(ordered) / heard if heard else 0.0  # classes whose sample failed are as the others
    usage = Usage(images=round(images * more), decode_cpu_s=decode_s * more, rate=rate)
    return Estimate(len(ordered), count, dict(failed), usage, round(thumbs * more))


def _rate(tower: Tower, images: UInt8[np.ndarray, "I S S 3"], batch_size: int) -> float:
    """Images a second of one batch, after one that warms up."""

    def seconds(size: int) -> float:
        batch = np.resize(images, (size, *images.shape[1:]))
        start = time.perf_counter()
        tower.encode(batch)
        tower.synchronise()
        return time.perf_counter() - start

    with intra_op_threads(tower.encoder):
        seconds(1)
        size = max(1, min(batch_size, int(_PATIENCE_S / seconds(1))))
        return size / min(seconds(size) for _ in range(2))
