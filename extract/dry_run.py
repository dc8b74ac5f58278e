"""What an extraction would do, and how long it would take; writes nothing, not even a store."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from extract.estimate import Estimate, estimate
from extract.options import ExtractConfig, check_options, uses_ray
from extract.run import list_specs, list_videos, pick_units, work_of
from extract.tower import Tower, load_tower
from extract.work import Target, Unit
from features.config import BaseConfig, DatasetConfig
from features.places import StorePath
from features.plan import STATUS_OK, SourceVideo, preview_plan
from features.spec import FeatureSpec
from features.store import pending_shards, read_statuses, store_path


@dataclass(frozen=True)
class StorePlan:
    """What a run would do to one store."""

    store: StorePath
    ok: int
    """Wanted videos that have features."""
    failed: dict[str, int]
    """Wanted videos that failed before, by code; those that would be tried again included."""
    waiting: int
    """Videos this run would do."""
    shards: int
    """Shards this run would write."""
    bytes: int
    """Of the arrays in them: (T + N) · D numbers a video, failed ones included."""


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    wanted: int
    missing: tuple[str, ...]
    """Ids of the wanted videos without a file."""
    stores: tuple[StorePlan, ...]
    estimate: Estimate | None
    """None when no video with a file waits."""
    device: str
    """Where the tower was measured ("" if it was not)."""
    towers: int
    """Towers that this machine can run."""
    decoders: int
    """Decoding processes that it can run."""

    @property
    def same_cores(self) -> bool:
        """Whether tower and decoders share the cores, so that their times add up."""
        return self.device == "cpu"

    @property
    def bottleneck(self) -> str:
        """What takes longer on this machine, `ViT` or `decoding`."""
        if self.estimate is None:
            return ""
        supplied = self.estimate.decoders_a_tower * self.towers <= self.decoders
        return "ViT" if supplied else "decoding"

    def hours(self, machines: int = 1) -> float:
        """Wall clock at best on so many machines like this one."""
        if self.estimate is None:
            return 0.0
        towers, decoders = self.towers * machines, self.decoders * machines
        return self.estimate.hours(towers, decoders, self.same_cores)


def dry_run(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    wanted: Sequence[str] | None = None,
) -> DryRun:
    """Look at what `extract_all` with the same arguments would do, and measure a sample of it.

    Raises:
        ConfigError, CheckpointError, StoreError: as `extract_all`.
    """
    check_options(config)
    videos = list_videos(dataset, wanted)
    seen = [_look(config, base, dataset, spec, videos) for spec in list_specs(config, base)]
    targets = tuple(target for target, _, _ in seen)
    units = pick_units(config, targets, [pending for _, pending, _ in seen])
    work = work_of(config, base, dataset, targets)
    jobs = [(r, q) for u in units for r in u.rows if (q := work.request(u, r)) is not None]
    tower = load_tower(base, config.compute_dtype, config.device, config.compile) if units else None
    gpus = torch.cuda.device_count() if tower and tower.device.type == "cuda" else 0
    stores = []
    for index, (target, _, statuses) in enumerate(seen):
        counts = Counter(statuses[v.video_id] for v in videos if v.video_id in statuses)
        ok = counts.pop(STATUS_OK, 0)
        stores.append(
            StorePlan(target.store, ok, dict(counts), *_volume(units, index, target, tower))
        )
    return DryRun(
        wanted=len(videos),
        missing=tuple(video.video_id for video in videos if video.size < 0),
        stores=tuple(stores),
        estimate=estimate(jobs, tower, config.batch_size) if tower and jobs else None,
        device=str(tower.device) if tower else "",
        towers=gpus if gpus and uses_ray(config) else 1,
        decoders=os.cpu_count() or 1,
    )


def _look(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    spec: FeatureSpec,
    videos: Sequence[SourceVideo],
) -> tuple[Target, list[int], dict[str, str]]:
    """A store as the run would plan it, its shards to be done, and statuses by id."""
    store = store_path(config.features, dataset.name, base.name, spec)
    there = (store / "spec.json").exists()
    statuses = read_statuses(store) if there else {}
    plan = preview_plan(store, videos, config.videos_per_shard, statuses, config.retry_failed)
    pending = pending_shards(store, plan) if there else sorted(plan.shards())
    return Target(store, spec, plan), pending, statuses


def _volume(
    units: Sequence[Unit], index: int, target: Target, tower: Tower | None
) -> tuple[int, int, int]:
    """Videos, shards and bytes that the units write to one store."""
    sizes = [len(u.rows) for u in units for number, _ in u.pending if number == index]
    if tower is None:
        return 0, 0, 0
    numbers = (target.spec.num_frames + tower.num_patches) * tower.width
    video = numbers * np.dtype(target.spec.store_dtype).itemsize
    return sum(sizes), len(sizes), sum(sizes) * video
