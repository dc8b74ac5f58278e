"""Features of videos as training and evaluation want them: float32, pooled, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from features.errors import StoreError
from features.pooling import window_pool
from features.store import FeatureStore, VideoFeatures

NOT_EXTRACTED = "not-extracted"
"""Why a question is lost whose video the store has never seen."""


@dataclass(frozen=True)
class Video:
    """One video's features, float32, valid rows only."""

    temporal: Float[Tensor, "T D"]
    spatial: Float[Tensor, "N D"]

    @classmethod
    def of(cls, stored: VideoFeatures, spatial_window: int, where: object) -> Video:
        """From what a store holds, with the patches pooled in windows.

        Raises:
            StoreError: a feature is not finite.
        """
        # torch, not numpy: ten times as fast from float16.
        temporal = torch.from_numpy(stored.temporal).float()
        spatial = torch.from_numpy(stored.spatial).float()
        if not (_is_finite(temporal) and _is_finite(spatial)):
            do = "verify the store, extract again"
            raise StoreError("a stored feature is not finite", where=where, do=do)
        if spatial_window > 1:
            spatial = window_pool(spatial, spatial_window)
        return cls(temporal, spatial)


class VideoReader:
    """Reads a store, pools patches in windows, and keeps videos in memory as long as they fit."""

    def __init__(
        self, store: FeatureStore, spatial_window: int = 1, cache_bytes: int = 1 << 30
    ) -> None:
        """Reads `store`; each process keeps up to `cache_bytes` (the first videos it meets)."""
        self._store = store
        self._failures = store.failures
        self._window = spatial_window
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
        video = Video.of(self._store[video_id], self._window, video_id)
        self._cache_bytes -= video.temporal.nbytes + video.spatial.nbytes
        if self._cache_bytes >= 0:
            self._cache[video_id] = video
        return video


def _is_finite(x: Float[Tensor, "_ D"]) -> bool:
    """A finite sum is proof, and takes a twentieth of the time."""
    return bool(x.sum().isfinite() or x.isfinite().all())
