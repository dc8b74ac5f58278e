"""From the decoded videos of one unit, in plan order, to the rows that are committed.

Frames fill batches of a fixed size across videos, so a short clip does not leave the ViT half
empty, and what shares a batch follows from the plan alone: never from timing or from the number of
workers. Pooling follows the video, and each spec's view of it, as tokens come out; a whole
(T, N, D) is never held.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from extract.meter import Meter, Usage
from extract.tower import Tower
from extract.video import DecodedVideo
from extract.work import Unit, Work
from features.errors import VideoError
from features.plan import STATUS_OK, PlanRow
from features.pooling import temporal_features
from features.spec import StoreDtype
from features.store import VideoRow, write_shard


@dataclass
class _View:
    """The features of one view of a video, as far as its tokens came."""

    chosen: tuple[int, ...]
    """The view's frames among the video's images, never falling."""
    spatial_sum: Float[Tensor, "N D"]
    temporal: Float[Tensor, "T D"]

    def take(self, start: int, tokens: Float[Tensor, "C N D"], means: Float[Tensor, "C D"]) -> None:
        """Pool those of the images from `start` on that are frames of this view."""
        low, high = (bisect_left(self.chosen, end) for end in (start, start + len(tokens)))
        if low == high:
            return
        frames = [image - start for image in self.chosen[low:high]]
        if frames != list(range(len(tokens))):
            tokens, means = tokens[frames], means[frames]
        self.temporal[low:high] = means
        self.spatial_sum += tokens.sum(dim=0, dtype=torch.float32)


@dataclass
class _Open:
    """A video some of whose images still wait for the tower."""

    row: int
    video: DecodedVideo
    views: list[_View]
    sent: int = 0
    """Images put into batches."""
    done: int = 0
    """Images that came back."""


class ShardBuilder:
    """Encodes and pools the videos of one unit.

    Args:
        tower: the ViT.
        rows: the planned rows.
        batch_size: frames a batch; decides bits, so keep it for a whole store.
        store_dtypes: what each view's features are rounded to.
        meter: told where the time goes.
    """

    def __init__(
        self,
        tower: Tower,
        rows: Sequence[PlanRow],
        batch_size: int,
        store_dtypes: Sequence[StoreDtype] = ("float16",),
        meter: Meter | None = None,
    ) -> None:
        self._tower = tower
        self._planned = rows
        self._batch_size = batch_size
        self._dtypes: list[torch.dtype] = [getattr(torch, name) for name in store_dtypes]
        self._meter = meter or Meter()
        self._open: deque[_Open] = deque()
        self._waiting = 0
        self._rows: list[list[VideoRow] | None] = []

    def add(self, video: DecodedVideo | VideoError) -> None:
        """Take the next video of the plan, or why it cannot be had."""
        with self._meter.phase("encode_s"):
            row = len(self._rows)
            if isinstance(video, VideoError):
                failure = VideoRow(self._planned[row].video_id, video.code, str(video))
                self._rows.append([failure] * len(self._dtypes))
                return
            self._meter.add(Usage(decode_cpu_s=video.cpu_seconds))
            self._rows.append(None)
            self._open.append(_Open(row, video, [self._view(c) for c in video.chosen]))
            self._waiting += len(video.frames)
            while self._waiting >= self._batch_size:
                self._encode(self._batch_size)

    def finish(self) -> list[list[VideoRow]]:
        """For each view the rows in plan order, after the last and smaller batch.

        Raises:
            RuntimeError: not every planned video was added.
        """
        with self._meter.phase("encode_s"):
            if self._waiting:
                self._encode(self._waiting)
        rows = [row for row in self._rows if row is not None]
        if len(rows) != len(self._planned):
            raise RuntimeError(f"{len(rows)} of {len(self._planned)} videos were added")
        return [list(view) for view in zip(*rows, strict=True)]

    def _view(self, chosen: tuple[int, ...]) -> _View:
        tower = self._tower
        spatial = torch.zeros(tower.num_patches, tower.width, device=tower.device)
        return _View(chosen, spatial, torch.empty(len(chosen), tower.width, device=tower.device))

    def _encode(self, size: int) -> None:
        pieces: list[tuple[_Open, int]] = []
        images: list[UInt8[np.ndarray, "_ S S 3"]] = []
        free = size
        for video in self._open:
            count = min(free, len(video.video.frames) - video.sent)
            if count:
                images.append(video.video.frames[video.sent : video.sent + count])
                pieces.append((video, count))
                video.sent += count
                free -= count
        tokens = self._tokens(images, size)
        self._waiting -= size
        start = 0
        for video, count in pieces:
            part, start = tokens[start : start + count], start + count
            means = temporal_features(part)
            for view in video.views:
                view.take(video.done, part, means)
            video.done += count
        while self._open and self._open[0].done == len(self._open[0].video.frames):
            self._close(self._open.popleft())

    def _tokens(
        self, images: list[UInt8[np.ndarray, "_ S S 3"]], size: int
    ) -> Float[Tensor, "B N D"]:
        timed = size == self._batch_size and self._meter.wants_rate()
        start = time.perf_counter()
        tokens = self._tower.encode(np.concatenate(images))
        rate = 0.0
        if timed:
            self._tower.synchronise()
            rate = size / (time.perf_counter() - start)
        self._meter.add(Usage(images=size, rate=rate))
        return tokens

    def _close(self, opened: _Open) -> None:
        video, rows = opened.video, []
        for index, (view, dtype) in enumerate(zip(opened.views, self._dtypes, strict=True)):
            spatial = view.spatial_sum / len(view.chosen)
            row = VideoRow(
                video_id=self._planned[opened.row].video_id,
                status=STATUS_OK,
                temporal=view.temporal.to(dtype).cpu().numpy(),
                spatial=spatial.to(dtype).cpu().numpy(),
                pts=video.view_pts(index),
                decoder=video.decoder,
                decoder_version=video.decoder_version,
                thumbs=video.thumbs,
            )
            rows.append(row)
        self._rows[opened.row] = rows


def builder_of(work: Work, unit: Unit, tower: Tower, meter: Meter) -> ShardBuilder:
    """The builder of one unit of the work."""
    dtypes = [spec.store_dtype for spec in work.specs(unit)]
    return ShardBuilder(tower, unit.rows, work.batch_size, dtypes, meter)


def commit_unit(work: Work, unit: Unit, builder: ShardBuilder, meter: Meter) -> None:
    """Write and commit a finished unit's shard in every store that waits for it.

    Raises:
        StoreError: a store cannot be written; what was committed stays.
    """
    rows = builder.finish()
    with meter.phase("commit_s"):
        for view, place in enumerate(unit.shards):
            if place in unit.pending:
                target = work.targets[place[0]]
                write_shard(
                    target.store, target.spec, target.plan, place[1], rows[view], work.format
                )
