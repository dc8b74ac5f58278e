"""Stage one: video files in, a feature store out. Rerun it until nothing is missing.

The plan fixes which video goes where; what is committed is never done again. A killed run, a run
in parts and a run on a cluster therefore end in the same store.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from extract.progress import RunProgress
from extract.work import Work
from features.config import BaseConfig, DatasetConfig
from features.durable import replace_file
from features.errors import ConfigError, RedVillmError
from features.plan import STATUS_OK, SourceVideo, extend_plan, find_videos, source_video
from features.spec import SCHEMA_VERSION, ComputeDtype, StoreDtype
from features.store import (
    compact_index,
    content_digest,
    create_store,
    pending_shards,
    read_statuses,
    store_path,
)
from features.tower_files import has_tower_files, make_spec, tower_digest


@dataclass(frozen=True)
class ExtractConfig:
    """How to run an extraction. What is extracted is the base's and the dataset's business."""

    features: Path = Path("data/features")
    """Folder for all feature stores."""
    num_frames: int | None = None
    """T: frames sampled a video; the base's own number unless given."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the tower's arithmetic."""
    store_dtype: StoreDtype = "float16"
    """dtype on disk."""
    format: Literal["zarr", "hdf5"] = "zarr"
    """Files of new shards."""
    videos_per_shard: int = 128
    """Videos of a new shard: what a killed worker loses at most."""
    batch_size: int = 64
    """Frames a ViT batch, filled across videos. Another size may change last bits."""
    executor: Literal["auto", "serial", "ray"] = "auto"
    """auto: ray when RAY_ADDRESS is set or `workers` > 1, else this process."""
    workers: int | None = None
    """Tower actors under Ray; one for every GPU of the cluster (or one) unless given."""
    part: str = "1/1"
    """`i/n`: do every n-th shard only, from the i-th, as in a SLURM array of n jobs."""
    device: str = "auto"
    """auto (cuda, mps, cpu) or a torch device."""
    deadline_s: int = 300
    """CPU seconds for decoding one video; ten times that in wall clock."""
    max_failures: float = 1.0
    """Share of this run's videos that may fail before it stops."""
    thumbs: int = 8
    """Thumbnails kept a video for the report; 0 for none."""
    retry_failed: bool = False
    """Try videos again that failed before."""


@dataclass(frozen=True)
class ExtractSummary:
    """What a run did and what the store holds of the videos wanted."""

    store: Path
    planned: int
    """Videos wanted."""
    done: int
    """Videos done by this run."""
    ok: int
    """Wanted videos with features, from this run and earlier ones."""
    failed: dict[str, int]
    """Wanted videos without, by failure code."""
    waiting: int
    """Wanted videos left to other parts."""
    seconds: float
    """Wall clock of this run."""
    content_digest: str
    """The store's."""


def extract(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    wanted: Sequence[str] | None = None,
) -> ExtractSummary:
    """Bring the store of a dataset up to date; only what is missing is done.

    Args:
        config: how to run.
        base: whose eyes.
        dataset: where the videos are.
        wanted: ids of the videos wanted; all files in the dataset's folder unless given. An id
            without a file becomes a failure row `missing`.

    Raises:
        ConfigError: an option, the image size or the device does not fit.
        CheckpointError: the tower cannot be had.
        StoreError: the store is damaged or cannot be written.
        RedVillmError: more videos failed than `max_failures` allows; what is committed stays.
    """
    start = time.monotonic()
    first, step = parse_part(config.part)
    _check(config)
    digest = _weights_digest(base)
    spec = make_spec(base, digest, config.num_frames, config.compute_dtype, config.store_dtype)
    videos = list_videos(dataset, wanted)
    store = create_store(store_path(config.features, dataset.name, base.name, spec), spec)
    plan = extend_plan(
        store, videos, config.videos_per_shard, read_statuses(store), config.retry_failed
    )
    shards = [shard for shard in pending_shards(store, plan) if shard % step == first]
    work = Work(
        store=store,
        base=base,
        spec=spec,
        plan=plan,
        batch_size=config.batch_size,
        format=config.format,
        device=config.device,
        thumbs=config.thumbs,
        deadline_s=config.deadline_s,
    )
    total = sum(len(plan.shards()[shard]) for shard in shards)
    if shards:
        _execute(config, work, shards, total)
    compact_index(store)
    return _summarise(store, videos, total, time.monotonic() - start)


def _execute(config: ExtractConfig, work: Work, shards: Sequence[int], total: int) -> None:
    from extract.serial_executor import run_serial
    from extract.tower import load_tower

    # The driver of a cluster loads the tower too: what does not fit is refused here and now.
    device = "cpu" if uses_ray(config) else config.device
    tower = load_tower(work.base, config.compute_dtype, device)
    with RunProgress(total) as progress:

        def after_shard() -> None:
            _stop_if_rotten(progress.failed, total, config.max_failures, work.store)

        if uses_ray(config):
            from extract.ray_executor import run_ray

            del tower
            run_ray(work, shards, progress, after_shard, config.workers)
        else:
            run_serial(work, shards, progress, after_shard, tower)


def _weights_digest(base: BaseConfig) -> str:
    """From the files if possible: a run with nothing to do need not load open_clip."""
    if has_tower_files(base):
        return tower_digest(base)
    from extract.tower import load_tower

    return load_tower(base, device="cpu").digest


def parse_part(part: str) -> tuple[int, int]:
    """(i - 1, n) of `i/n`.

    Raises:
        ConfigError: not of that form, or i is not in 1..n.
    """
    index, slash, count = part.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
        return int(index) - 1, int(count)
    raise ConfigError("not a part of a run", where="part", got=part, wanted="i/n with 1 <= i <= n")


def uses_ray(config: ExtractConfig) -> bool:
    """Whether the run goes to Ray."""
    if config.executor == "auto":
        return bool(os.environ.get("RAY_ADDRESS")) or (config.workers or 1) > 1
    return config.executor == "ray"


def list_videos(dataset: DatasetConfig, wanted: Sequence[str] | None = None) -> list[SourceVideo]:
    """The wanted videos as they are on disk now, by id; a wanted one without a file has size -1.

    Raises:
        ConfigError: there is nothing to do.
        StoreError: no such folder, or two files with one id.
    """
    files = find_videos(dataset.videos)
    ids = sorted(files if wanted is None else set(wanted))
    if not ids:
        raise ConfigError("no videos", where=dataset.videos, do="set the dataset's `videos` folder")
    with ThreadPoolExecutor(16) as pool:  # reading both ends of each file waits for the disk
        return list(pool.map(lambda video_id: source_video(video_id, files.get(video_id)), ids))


def _check(config: ExtractConfig) -> None:
    least = {"videos_per_shard": 1, "batch_size": 1, "deadline_s": 1, "thumbs": 0}
    least |= {name: 1 for name in ("num_frames", "workers") if getattr(config, name) is not None}
    for name, low in least.items():
        if getattr(config, name) < low:
            raise ConfigError(
                "too small", where=name, got=getattr(config, name), wanted=f">= {low}"
            )


def _stop_if_rotten(failed: Counter[str], total: int, share: float, store: Path) -> None:
    if failed.total() > share * total:
        worst = ", ".join(f"{code} {count}" for code, count in failed.most_common())
        raise RedVillmError(
            "too many videos failed; what is done so far is kept",
            where=store,
            got=f"{failed.total()} of {total} ({worst})",
            wanted=f"at most {share:.1%}",
            do="look at the messages in the store, or raise max_failures",
        )


def _summarise(
    store: Path, videos: Sequence[SourceVideo], done: int, seconds: float
) -> ExtractSummary:
    statuses = read_statuses(store)
    counts = Counter(statuses.get(video.video_id, "waiting") for video in videos)
    summary = ExtractSummary(
        store=store,
        planned=len(videos),
        done=done,
        ok=counts.pop(STATUS_OK, 0),
        waiting=counts.pop("waiting", 0),
        failed=dict(sorted(counts.items())),
        seconds=round(seconds, 3),
        content_digest=content_digest(store),
    )
    record = {"schema": SCHEMA_VERSION, **asdict(summary), "store": str(store)}
    replace_file(store / "last_run.json", json.dumps(record, indent=2).encode(), "summary")
    return summary
