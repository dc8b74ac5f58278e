"""Features of videos as training and evaluation want them: float32, pooled, kept in memory.

What is done to a video before the projectors see it is done here, for training, evaluation and
`pipelines.load` alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor

from features.errors import StoreError
from features.pooling import window_pool
from features.store import FeatureStore, VideoFeatures
from train.projectors import ProjectorSwitches

NOT_EXTRACTED = "not-extracted"
"""Why a question is lost whose video the store has never seen."""
_AS_STORED = ProjectorSwitches()


@dataclass(frozen=True)
class Video:
    """One video's features, float32, valid rows only."""

    temporal: Float[Tensor, "T D"]
    spatial: Float[Tensor, "N D"]

    @classmethod
    def of(cls, stored: VideoFeatures, switches: ProjectorSwitches, video_id: str) -> Video:
        """From what a store holds: patches pooled in windows, frames shuffled, or all of it blank.

        Blank features are as many as the video has: how long it is can still be told.

        Args:
            stored: temporal (T', D) and spatial (N, D).
            switches: `spatial_window` and `video` of them.
            video_id: decides the order of shuffled frames, and stands in errors.

        Raises:
            StoreError: a feature is not finite.
        """
        # torch, not numpy: ten times as fast from float16.
        temporal = torch.from_numpy(stored.temporal).float()
        spatial = torch.from_numpy(stored.spatial).float()
        if not (_is_finite(temporal) and _is_finite(spatial)):
            do = "verify the store, extract again"
            raise StoreError("a stored feature is not finite", where=video_id, do=do)
        if switches.spatial_window > 1:
            spatial = window_pool(spatial, switches.spatial_window)
        if switches.video == "shuffled":
            temporal = temporal[_shuffled(video_id, len(temporal))]
        if switches.video == "blank":
            temporal, spatial = torch.zeros_like(temporal), torch.zeros_like(spatial)
        return cls(temporal, spatial)


class VideoReader:
    """Reads a store as the switches ask, and keeps videos in memory as long as they fit."""

    def __init__(
        self,
        store: FeatureStore,
        switches: ProjectorSwitches = _AS_STORED,
        cache_bytes: int = 1 << 30,
    ) -> None:
        """Reads `store`; each process keeps up to `cache_bytes` (the first videos it meets)."""
        self._store = store
        self._failures = store.failures
        self._switches = switches
        self._cache: dict[str, Video] = {}
        self._cache_bytes = cache_bytes

    def lost(self, video_id: str) -> str | None:
        """Why the video cannot be used, or None."""
        if video_id in self._store:
            return None
        return self._failures.get(video_id, (NOT_EXTRACTED, ""))[0]

    def __getitem__(self, video_id: str) -> Video:
        if video_id in self._cache:
            return self._cache[video_id]
        video = Video.of(self._store[video_id], self._switches, video_id)
        self._cache_bytes -= video.temporal.nbytes + video.spatial.nbytes
        if self._cache_bytes >= 0:
            self._cache[video_id] = video
        return video


def _shuffled(video_id: str, count: int) -> list[int]:
    """Rows in an order that is the video's own, whoever asks: no generator, no seed."""
    return sorted(range(count), key=lambda row: sha256(f"{video_id}\n{row}".encode()).digest())


def _is_finite(x: Float[Tensor, "_ D"]) -> bool:
    """A finite sum is proof, and takes a twentieth of the time."""
    return bool(x.sum().isfinite() or x.isfinite().all())
