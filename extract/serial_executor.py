"""Extraction in this process: decoding children work ahead while the tower encodes.

As many children as cores. Where the tower computes on the same cores, the children take only what
it leaves: they run while it waits for frames, and never slow down its matrix products.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from extract.decode_child import DecodeChild
from extract.meter import Meter, RunReport
from extract.progress import RunProgress
from extract.video import DecodedVideo, DecodeRequest
from extract.work import Unit, Work, decode_row
from features.device import intra_op_threads, pick_device
from features.errors import VideoError
from features.plan import PlanRow

_AHEAD_BYTES = 2**30
"""Images decoded before they are needed: bounds memory, also across shards."""


def run_serial(
    work: Work, units: Sequence[Unit], progress: RunProgress, after_unit: Callable[[], None]
) -> RunReport:
    """Extract and commit `units`, in order; `after_unit` may raise to stop the run."""
    jobs = iter([(unit, row) for unit in units for row in unit.rows])
    same_cores = pick_device(work.device).type == "cpu"
    count = min(os.cpu_count() or 1, sum(len(unit.rows) for unit in units))
    most = max(2, min(2 * count + 2, _AHEAD_BYTES // work.video_bytes()))
    progress.workers(towers=1, decoders=count, same_cores=same_cores)
    ahead: deque[Future[DecodedVideo | VideoError]] = deque()
    with _Decoders(count, idle=same_cores) as decoders:

        def decode_ahead() -> None:
            while len(ahead) < most and (job := next(jobs, None)) is not None:
                ahead.append(decoders.submit(job[1], work.request(*job)))

        decode_ahead()  # the children start while the tower is loaded
        from extract.shard_builder import builder_of, commit_unit
        from extract.tower import load_tower

        spec = work.targets[0].spec
        tower = load_tower(work.base, spec.compute_dtype, work.device, work.compile)
        meter = Meter()
        with intra_op_threads(tower.encoder):
            for unit in units:
                builder = builder_of(work, unit, tower, meter)
                for row in unit.rows:
                    outcome = ahead.popleft().result()
                    decode_ahead()
                    builder.add(outcome)
                    failure = outcome.code if isinstance(outcome, VideoError) else ""
                    progress.video(row.video_id, failure, meter.take())
                commit_unit(work, unit, builder, meter)
                progress.used(meter.take())
                after_unit()
    return progress.report()


class _Decoders:
    """Threads with a decoding child each."""

    def __init__(self, count: int, idle: bool) -> None:
        self._idle = idle
        self._mine = threading.local()
        self._children: list[DecodeChild] = []
        self._pool = ThreadPoolExecutor(count, "decode", self._start)

    def _start(self) -> None:
        self._mine.child = DecodeChild(idle=self._idle)
        self._children.append(self._mine.child)

    def submit(
        self, row: PlanRow, request: DecodeRequest | None
    ) -> Future[DecodedVideo | VideoError]:
        """Decode a video when a child is free."""
        return self._pool.submit(lambda: decode_row(self._mine.child, row, request))

    def __enter__(self) -> _Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in list(self._children):
            child.stop()
        self._pool.shutdown()
        for child in self._children:
            child.close()
