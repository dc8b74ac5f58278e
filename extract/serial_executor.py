"""Extraction in this process: one child decodes a few videos ahead while the tower encodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from extract.decode_child import DecodeChild
from extract.progress import RunProgress
from extract.shard_builder import ShardBuilder
from extract.tower import Tower
from extract.video import DecodedVideo
from extract.work import Work, decode_row
from features.errors import VideoError
from features.store import write_shard

_AHEAD = 4
"""Videos decoded before they are needed: bounds memory, also across shards."""


def run_serial(
    work: Work,
    shards: Sequence[int],
    progress: RunProgress,
    after_shard: Callable[[], None],
    tower: Tower,
) -> None:
    """Extract and commit `shards`, in order; `after_shard` may raise to stop the run."""
    rows = iter([row for shard in shards for row in work.plan.shards()[shard]])
    ahead: deque[Future[DecodedVideo | VideoError]] = deque()
    child, pool = DecodeChild(), ThreadPoolExecutor(1, thread_name_prefix="decode")
    try:
        for shard in shards:
            planned = work.plan.shards()[shard]
            builder = ShardBuilder(tower, planned, work.batch_size)
            for row in planned:
                while len(ahead) <= _AHEAD and (coming := next(rows, None)) is not None:
                    ahead.append(pool.submit(decode_row, child, coming, work.request(coming)))
                outcome = ahead.popleft().result()
                builder.add(outcome)
                report(progress, row.video_id, outcome)
            write_shard(work.store, work.spec, work.plan, shard, builder.finish(), work.format)
            after_shard()
    finally:
        child.stop()
        pool.shutdown(cancel_futures=True)
        child.close()


def report(progress: RunProgress, video_id: str, outcome: DecodedVideo | VideoError) -> None:
    """Count one decoded video, or its failure."""
    if isinstance(outcome, VideoError):
        progress.video(video_id, 0, outcome.code)
    else:
        progress.video(video_id, len(outcome.frames))
