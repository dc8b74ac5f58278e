"""From the decoded videos of one shard, in plan order, to the rows that are committed.

Frames fill batches of a fixed size across videos, so a short clip does not leave the ViT half
empty, and what shares a batch follows from the plan alone: never from timing or from the number of
workers. Pooling follows the video as its frames come out, and a whole (T, N, D) is never held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from extract.tower import Tower
from extract.video import DecodedVideo
from features.errors import VideoError
from features.plan import STATUS_OK, PlanRow
from features.pooling import temporal_features
from features.store import VideoRow


@dataclass
class _Open:
    """A video some of whose frames still wait for the tower."""

    row: int
    video: DecodedVideo
    spatial_sum: Float[Tensor, "N D"]
    temporal: list[Float[Tensor, "C D"]] = field(default_factory=list)
    sent: int = 0
    """Frames put into batches."""
    done: int = 0
    """Frames that came back."""


class ShardBuilder:
    """Encodes and pools one shard.

    Args:
        tower: the ViT.
        rows: the shard's planned rows.
        batch_size: frames a batch; decides bits, so keep it for a whole store.
    """

    def __init__(self, tower: Tower, rows: Sequence[PlanRow], batch_size: int) -> None:
        self._tower = tower
        self._planned = rows
        self._batch_size = batch_size
        self._open: deque[_Open] = deque()
        self._waiting = 0
        self._rows: list[VideoRow | None] = []

    def add(self, video: DecodedVideo | VideoError) -> None:
        """Take the next video of the plan, or why it cannot be had."""
        row = len(self._rows)
        if isinstance(video, VideoError):
            self._rows.append(VideoRow(self._planned[row].video_id, video.code, str(video)))
            return
        self._rows.append(None)
        shape = self._tower.num_patches, self._tower.width
        self._open.append(_Open(row, video, torch.zeros(shape, device=self._tower.device)))
        self._waiting += len(video.frames)
        while self._waiting >= self._batch_size:
            self._encode(self._batch_size)

    def finish(self) -> list[VideoRow]:
        """The rows in plan order, after the last and smaller batch.

        Raises:
            RuntimeError: not every planned video was added.
        """
        if self._waiting:
            self._encode(self._waiting)
        rows = [row for row in self._rows if row is not None]
        if len(rows) != len(self._planned):
            raise RuntimeError(f"{len(rows)} of {len(self._planned)} videos were added")
        return rows

    def _encode(self, size: int) -> None:
        pieces: list[tuple[_Open, int]] = []
        images: list[UInt8[np.ndarray, "C S S 3"]] = []
        free = size
        for video in self._open:
            count = min(free, len(video.video.frames) - video.sent)
            if count:
                images.append(video.video.frames[video.sent : video.sent + count])
                pieces.append((video, count))
                video.sent += count
                free -= count
        tokens = self._tower.encode(np.concatenate(images))
        self._waiting -= size
        start = 0
        for video, count in pieces:
            part, start = tokens[start : start + count], start + count
            video.temporal.append(temporal_features(part))
            video.spatial_sum += part.sum(dim=0, dtype=torch.float32)
            video.done += count
        while self._open and self._open[0].done == len(self._open[0].video.frames):
            self._close(self._open.popleft())

    def _close(self, opened: _Open) -> None:
        video = opened.video
        self._rows[opened.row] = VideoRow(
            video_id=self._planned[opened.row].video_id,
            status=STATUS_OK,
            temporal=torch.cat(opened.temporal).cpu().numpy(),
            spatial=(opened.spatial_sum / len(video.frames)).cpu().numpy(),
            pts=video.pts,
            decoder=video.decoder,
            decoder_version=video.decoder_version,
            thumbs=video.thumbs,
        )
