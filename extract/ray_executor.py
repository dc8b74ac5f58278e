"""Extraction on a Ray cluster, or on a local one: Ray Core, no Ray Data.

    decode tasks (any node, killable child)  →  tower actor (owns a shard)  →  commit

Ray gives at-least-once at best; exactly-once comes from the commit markers. The driver keeps a
bounded window of videos under way for each actor, so memory does not grow with the list. An actor
that dies loses the shard it was at, which is done again elsewhere. Decode workers never load torch.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from extract.decode_child import DecodeChild
from extract.progress import RunProgress
from extract.video import DecodedVideo, DecodeRequest
from extract.work import Work, decode_row
from features.errors import RedVillmError, StoreError, VideoError
from features.plan import PlanRow

log = logging.getLogger(__name__)

_WINDOW = 4
"""Videos under way for each tower: decoding, decoded, or being encoded."""
_ATTEMPTS = 3
"""How often a shard may lose its tower before the run gives up."""
_child: DecodeChild | None = None


def run_ray(
    work: Work,
    shards: Sequence[int],
    progress: RunProgress,
    after_shard: Callable[[], None],
    workers: int | None = None,
) -> None:
    """Extract and commit `shards`, in any order; `after_shard` may raise to stop the run.

    Args:
        work: what to do.
        shards: shards to be done.
        progress: told of every video.
        after_shard: called after every commit.
        workers: tower actors; one for every GPU, or one, unless given.

    Raises:
        StoreError: the store cannot be written, or a shard lost its tower again and again.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect(workers)
    try:
        here: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(here.get("GPU", 0)) if work.device in ("auto", "cuda") else 0
        _drive(work, shards, progress, after_shard, min(workers or gpus or 1, len(shards)), gpus)
    finally:
        if ours:
            ray.shutdown()


def _connect(workers: int | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        # Logical CPUs: a tower holds one, and somebody must be left to decode.
        cpus = max(os.cpu_count() or 1, (workers or 1) + 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)


def _decode(row: PlanRow, request: DecodeRequest) -> DecodedVideo | VideoError:
    """Decode in this worker's own child, which lives as long as the worker."""
    global _child
    _child = _child or DecodeChild()
    return decode_row(_child, row, request)


@cache
def _remote_decode() -> Any:
    return ray.remote(num_cpus=1, max_retries=3)(_decode)


class _TowerActor:  # by name, not decorated: workers import it and Ray pickles no code
    """A tower and the shard it is at. Calls of one caller run in the order they were made."""

    def __init__(self, work: Work) -> None:
        from extract.tower import load_tower
        from features.spec import require_same

        self._work = work
        self._tower = load_tower(work.base, work.spec.compute_dtype, work.device)
        require_same(
            "weights digest",
            work.spec.weights_digest,
            self._tower.digest,
            ours_is="the driver's tower",
            theirs_is="the tower on this node",
        )

    def start(self, shard: int) -> None:
        from extract.shard_builder import ShardBuilder

        rows = self._work.plan.shards()[shard]
        self._builder = ShardBuilder(self._tower, rows, self._work.batch_size)
        self._count = 0

    def add(self, index: int, outcome: DecodedVideo | VideoError) -> tuple[int, str]:
        """Take the shard's next video; returns its frames and the code of its failure."""
        if index != self._count:
            raise RuntimeError(f"video {index} of the shard came as number {self._count}")
        self._count += 1
        self._builder.add(outcome)
        if isinstance(outcome, VideoError):
            return 0, outcome.code
        return len(outcome.frames), ""

    def commit(self, shard: int) -> bool:
        from features.store import write_shard

        work = self._work
        rows = self._builder.finish()
        return write_shard(work.store, work.spec, work.plan, shard, rows, work.format).won


@dataclass
class _Lane:
    """One tower actor, the shard it is at and the calls it has not answered yet, in order."""

    actor: Any
    shard: int = -1
    rows: Iterator[tuple[int, PlanRow]] = field(default_factory=lambda: iter(()))
    calls: deque[tuple[Any, str | None]] = field(default_factory=deque)
    """(reference, video id); None for the id: the commit, which comes last."""
    committing: bool = False


def _drive(
    work: Work,
    shards: Sequence[int],
    progress: RunProgress,
    after_shard: Callable[[], None],
    towers: int,
    gpus: int,
) -> None:
    shared = ray.put(work)
    # Neither restarts nor retries calls: a lost shard is ours to do again.
    remote = ray.remote(num_gpus=1 if gpus else 0, num_cpus=0 if gpus else 1)
    remote_tower: Any = remote(_TowerActor)

    def new_actor() -> Any:
        return remote_tower.remote(shared)

    todo, lost = deque(shards), Counter[int]()
    lanes = [_Lane(new_actor()) for _ in range(towers)]
    while True:
        for lane in lanes:
            if lane.shard < 0 and todo:
                _start(lane, todo.popleft(), work)
            _fill(lane, work)
        waiting = {lane.calls[0][0]: lane for lane in lanes if lane.calls}
        if not waiting:
            return
        for reference in ray.wait(list(waiting), num_returns=1)[0]:
            lane = waiting[reference]
            try:
                if _settle(lane, progress):
                    after_shard()
            except RayTaskError as error:  # our own code raised: that is not the cluster's fault
                if isinstance(error.cause, RedVillmError):
                    raise error.cause from error
                raise
            except RayError as error:
                lost[lane.shard] += 1
                log.warning("shard %d lost its tower, doing it again: %s", lane.shard, error)
                if lost[lane.shard] >= _ATTEMPTS:
                    raise StoreError(
                        "a shard lost its tower again and again",
                        where=f"{work.store}, shard {lane.shard}",
                        got=str(error).strip().splitlines()[-1],
                        do="look at the cluster's logs (memory?), then run the same command again",
                    ) from error
                ray.kill(lane.actor)
                todo.appendleft(lane.shard)
                lanes[lanes.index(lane)] = _Lane(new_actor())


def _start(lane: _Lane, shard: int, work: Work) -> None:
    lane.shard, lane.committing = shard, False
    lane.rows = enumerate(work.plan.shards()[shard])
    lane.actor.start.remote(shard)


def _fill(lane: _Lane, work: Work) -> None:
    """Submit videos up to the window, and the commit after the last one."""
    while lane.shard >= 0 and not lane.committing and len(lane.calls) < _WINDOW:
        index, row = next(lane.rows, (-1, None))
        if row is None:
            lane.calls.append((lane.actor.commit.remote(lane.shard), None))
            lane.committing = True
            return
        request = work.request(row)
        outcome: Any = (
            _remote_decode().remote(row, request)
            if request
            else VideoError("missing", "no file for this video", where=row.path or row.video_id)
        )
        lane.calls.append((lane.actor.add.remote(index, outcome), row.video_id))


def _settle(lane: _Lane, progress: RunProgress) -> bool:
    """Take the answer to the lane's oldest call; True when that was a commit."""
    reference, video_id = lane.calls[0]
    answer = ray.get(reference)
    lane.calls.popleft()
    if video_id is not None:
        progress.video(video_id, *answer)
        return False
    lane.shard = -1
    return True
