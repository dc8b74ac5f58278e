"""Extraction on a Ray cluster, or on a local one: Ray Core, no Ray Data.

    decode tasks (any node, killable child)  →  tower actor (owns a shard)  →  commit

Ray gives at-least-once at best; exactly-once comes from the commit markers. The driver keeps a
bounded window of videos under way for each actor, so memory does not grow with the list; the window
reaches into the actor's next shard, so that decoding does not pause at a commit. An actor that dies
loses the shards it was at, which are done again elsewhere. Decode workers never load torch.
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
from extract.meter import RunReport, Usage
from extract.progress import RunProgress
from extract.ray_metrics import RayMetrics
from extract.video import DecodedVideo, DecodeRequest
from extract.work import Unit, Work, decode_row
from features.errors import RedVillmError, StoreError, VideoError
from features.plan import PlanRow

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often a shard may lose its tower before the run gives up."""
_PATIENCE_S = 60.0
"""Seconds without any news after which a person is told what the run waits for."""
_STORE_SHARE = 0.25
"""Share of the cluster's object store that decoded images may take."""
_child: DecodeChild | None = None


@dataclass(frozen=True)
class _Cluster:
    """What there is to work with."""

    towers: int
    gpus: int
    """0: towers compute on the CPUs that decode."""
    decoders: int
    """Decode tasks that can run at once."""
    window: int
    """Videos under way for each tower: decoding, decoded, or being encoded."""
    threads: int
    """CPU threads of a tower."""


def run_ray(
    work: Work,
    units: Sequence[Unit],
    progress: RunProgress,
    after_unit: Callable[[], None],
    workers: int | None = None,
) -> RunReport:
    """Extract and commit `units`, in any order; `after_unit` may raise to stop the run.

    Args:
        work: what to do.
        units: what of it.
        progress: told of every video.
        after_unit: called after every commit.
        workers: tower actors; one for every GPU, or one, unless given.

    Raises:
        StoreError: the store cannot be written, or a shard lost its tower again and again.
    """
    ours = not ray.is_initialized()
    if ours:
        connect(workers)
    try:
        cluster = _survey(work, len(units), workers)
        progress.workers(cluster.towers, cluster.decoders, same_cores=not cluster.gpus)
        _Drive(work, units, progress, after_unit, cluster).run()
        return progress.report()
    finally:
        if ours:
            ray.shutdown()


def connect(workers: int | None) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        # Logical CPUs: a tower holds one, and every core may decode while the towers wait. Ray's
        # workers are niced for the sake of a driver, and ours has nothing to compute.
        os.environ.setdefault("RAY_worker_niceness", "0")
        cpus = (os.cpu_count() or 1) + (workers or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)


def _survey(work: Work, units: int, workers: int | None) -> _Cluster:
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    gpus = int(have.get("GPU", 0)) if work.device in ("auto", "cuda") else 0
    towers = max(1, min(workers or gpus or 1, units))
    decoders = max(1, int(have.get("CPU", 1)) - (0 if gpus else towers))
    budget = _STORE_SHARE * have.get("object_store_memory", 2**30) / towers
    window = int(min(max(4, decoders / towers + 2), max(2, budget // work.video_bytes())))
    towers_a_node = -(-towers // len(nodes))
    return _Cluster(towers, gpus, decoders, window, max(1, (os.cpu_count() or 1) // towers_a_node))


def _decode(row: PlanRow, request: DecodeRequest, idle: bool) -> DecodedVideo | VideoError:
    """Decode in this worker's own child, which lives as long as the worker."""
    global _child
    _child = _child or DecodeChild(idle=idle)
    return decode_row(_child, row, request)


@cache
def _remote_decode() -> Any:
    return ray.remote(num_cpus=1, max_retries=3)(_decode)


class _TowerActor:  # by name, not decorated: workers import it and Ray pickles no code
    """A tower and the unit it is at. Calls of one caller run in the order they were made."""

    def __init__(self, work: Work, threads: int) -> None:
        import torch

        from extract.meter import Meter
        from extract.tower import load_tower
        from features.device import SMALL_MODEL
        from features.spec import require_same

        spec = work.targets[0].spec
        self._work = work
        self._tower = load_tower(work.base, spec.compute_dtype, work.device, work.compile)
        # Ray allows one thread for one logical CPU; but decoders here take only what is left.
        torch.set_num_threads(threads if self._tower.num_parameters >= SMALL_MODEL else 1)
        self._meter = Meter()
        require_same(
            "weights digest",
            spec.weights_digest,
            self._tower.digest,
            ours_is="the driver's tower",
            theirs_is="the tower on this node",
        )

    def start(self, unit: Unit) -> None:
        from extract.shard_builder import builder_of

        self._builder = builder_of(self._work, unit, self._tower, self._meter)
        self._count = 0

    def add(self, index: int, outcome: DecodedVideo | VideoError) -> tuple[str, Usage]:
        """Take the unit's next video; returns the code of its failure and what was used since."""
        if index != self._count:
            raise RuntimeError(f"video {index} of the shard came as number {self._count}")
        self._count += 1
        self._builder.add(outcome)
        return outcome.code if isinstance(outcome, VideoError) else "", self._meter.take()

    def commit(self, unit: Unit) -> tuple[str, Usage]:
        from extract.shard_builder import commit_unit

        commit_unit(self._work, unit, self._builder, self._meter)
        return "", self._meter.take()


@dataclass(frozen=True)
class _Call:
    """A call that a tower has not answered yet."""

    reference: Any
    unit: Unit
    video_id: str | None
    """None: the commit, which comes last."""


@dataclass
class _Lane:
    """One tower actor and its calls, in order."""

    actor: Any
    calls: deque[_Call] = field(default_factory=deque)
    unit: Unit | None = None
    """The unit whose videos are being submitted."""
    rows: Iterator[tuple[int, PlanRow]] = field(default_factory=lambda: iter(()))

    def units(self) -> list[Unit]:
        """Units that are not committed, in order."""
        under_way = [call.unit for call in self.calls] + ([self.unit] if self.unit else [])
        return list({unit.shards: unit for unit in under_way}.values())


class _Drive:
    """The driver's loop over all lanes."""

    def __init__(
        self,
        work: Work,
        units: Sequence[Unit],
        progress: RunProgress,
        after_unit: Callable[[], None],
        cluster: _Cluster,
    ) -> None:
        self._work, self._cluster = work, cluster
        self._progress, self._after_unit = progress, after_unit
        self._todo, self._lost = deque(units), Counter[Any]()
        self._shared = ray.put(work)
        # Neither restarts nor retries calls: a lost shard is ours to do again.
        gpus = cluster.gpus
        self._tower: Any = ray.remote(num_gpus=1 if gpus else 0, num_cpus=0 if gpus else 1)(
            _TowerActor
        )
        self._lanes = [self._new_lane() for _ in range(cluster.towers)]
        self._metrics = RayMetrics()

    def run(self) -> None:
        """Until every unit is committed."""
        try:
            while True:
                for lane in self._lanes:
                    self._fill(lane)
                waiting = {lane.calls[0].reference: lane for lane in self._lanes if lane.calls}
                if not waiting:
                    return
                ready = ray.wait(list(waiting), num_returns=1, timeout=_PATIENCE_S)[0]
                if not ready:
                    log.warning(
                        "no news for %.0f s from %d towers: is there a place for them?",
                        _PATIENCE_S,
                        len(waiting),
                    )
                for reference in ready:
                    self._settle(waiting[reference])
        finally:
            for lane in self._lanes:
                ray.kill(lane.actor)

    def _new_lane(self) -> _Lane:
        return _Lane(self._tower.remote(self._shared, self._cluster.threads))

    def _fill(self, lane: _Lane) -> None:
        """Submit videos up to the window, and a commit after each unit's last one."""
        while len(lane.calls) < self._cluster.window:
            if lane.unit is None:
                if not self._todo:
                    return
                lane.unit = self._todo.popleft()
                lane.rows = enumerate(lane.unit.rows)
                lane.actor.start.remote(lane.unit)
            unit = lane.unit
            index, row = next(lane.rows, (-1, None))
            if row is None:
                lane.calls.append(_Call(lane.actor.commit.remote(unit), unit, None))
                lane.unit = None
                continue
            outcome = self._outcome(unit, row)
            lane.calls.append(_Call(lane.actor.add.remote(index, outcome), unit, row.video_id))

    def _outcome(self, unit: Unit, row: PlanRow) -> Any:
        """A reference to the decoded video, or the failure that is known already."""
        request = self._work.request(unit, row)
        if request is None:
            return VideoError("missing", "no file for this video", where=row.path or row.video_id)
        return _remote_decode().remote(row, request, not self._cluster.gpus)

    def _settle(self, lane: _Lane) -> None:
        """Take the answer to the lane's oldest call."""
        call = lane.calls[0]
        try:
            failure, usage = ray.get(call.reference)
        except RayTaskError as error:  # our own code raised: that is not the cluster's fault
            if isinstance(error.cause, RedVillmError):
                raise error.cause from error
            raise
        except RayError as error:
            self._lose(lane, error)
            return
        lane.calls.popleft()
        self._metrics.count(call.video_id is not None, failure, usage)
        if call.video_id is not None:
            self._progress.video(call.video_id, failure, usage)
        else:
            self._progress.used(usage)
            self._after_unit()

    def _lose(self, lane: _Lane, error: RayError) -> None:
        """Put a dead tower's units back and start another tower."""
        units = lane.units()
        self._lost[units[0].shards] += 1
        log.warning("shards %s lost their tower, doing them again: %s", _names(units), error)
        if self._lost[units[0].shards] >= _ATTEMPTS:
            raise StoreError(
                "a shard lost its tower again and again",
                where=f"{self._work.targets[0].store}, shard {_names(units[:1])}",
                got=str(error).strip().splitlines()[-1],
                do="look at the cluster's logs (memory?), then run the same command again",
            ) from error
        ray.kill(lane.actor)
        self._todo.extendleft(reversed(units))
        self._lanes[self._lanes.index(lane)] = self._new_lane()


def _names(units: Sequence[Unit]) -> str:
    return ", ".join(str(unit.shards[0][1]) for unit in units)
