"""Stage one: video files in, feature stores out. Rerun it until nothing is missing.

The plan fixes which video goes where; what is committed is never done again. A killed run, a run
in parts and a run on a cluster therefore end in the same store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from extract.meter import RunReport
from extract.options import (
    ExtractConfig,
    check_options,
    parse_part,
    parse_share,
    parse_specs,
    uses_ray,
)
from extract.progress import RunProgress
from extract.work import Target, Unit, Work, find_units
from features.config import BaseConfig, DatasetConfig
from features.durable import replace_file
from features.errors import ConfigError, RedVillmError
from features.manifest import load_checksums
from features.places import StorePath, place
from features.plan import STATUS_OK, SourceVideo, extend_plan, find_videos, source_video
from features.spec import SCHEMA_VERSION, FeatureSpec
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
class ExtractSummary:
    """What a run did and what a store holds of the videos wanted."""

    store: StorePath
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
    run: RunReport | None
    """Where the time went; None when there was nothing to do."""


def extract(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    wanted: Sequence[str] | None = None,
) -> ExtractSummary:
    """`extract_all` for a run of one spec."""
    (summary,) = extract_all(config, base, dataset, wanted)
    return summary


def extract_all(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    wanted: Sequence[str] | None = None,
) -> list[ExtractSummary]:
    """Bring a dataset's stores up to date, one for each spec; only what is missing is done.

    Each video is decoded once and each image that any spec needs is encoded once.

    Args:
        config: how to run.
        base: whose eyes.
        dataset: where the videos are.
        wanted: ids of the videos wanted; all files in the dataset's folder unless given. An id
            without a file becomes a failure row `missing`.

    Raises:
        ConfigError: an option, the image size or the device does not fit.
        CheckpointError: the tower cannot be had.
        StoreError: a store is damaged or cannot be written.
        RedVillmError: more videos failed than `max_failures` allows; what is committed stays.
    """
    start = time.monotonic()
    check_options(config)
    if uses_ray(config):  # nodes and jobs have working folders of their own
        root = place(config.features)
        config = replace(config, features=root.absolute() if isinstance(root, Path) else str(root))
        dataset = replace(dataset, videos=dataset.videos.absolute())
    specs = list_specs(config, base)
    videos = list_videos(dataset, wanted)
    targets = tuple(_target(config, base, dataset, spec, videos) for spec in specs)
    pending = [pending_shards(target.store, target.plan) for target in targets]
    units = pick_units(config, targets, pending)
    total = len({row.video_id for unit in units for row in unit.rows})
    work = work_of(config, base, dataset, targets)
    report = _execute(config, work, units, total) if units else None
    for target in targets:
        compact_index(target.store)
    seconds = time.monotonic() - start
    return [_summarise(target.store, videos, total, seconds, report) for target in targets]


def list_specs(config: ExtractConfig, base: BaseConfig) -> list[FeatureSpec]:
    """The specs of a run: one tower, and a T and a preprocessing each.

    Raises:
        ConfigError: `specs` cannot be read.
        CheckpointError: the tower cannot be had.
    """
    views = parse_specs(config, base)
    digest = _weights_digest(base)
    return [
        make_spec(
            replace(base, preprocessing=view.preprocessing),
            digest,
            view.num_frames,
            config.compute_dtype,
            config.store_dtype,
        )
        for view in views
    ]


def pick_units(
    config: ExtractConfig, targets: Sequence[Target], pending: Sequence[Sequence[int]]
) -> list[Unit]:
    """The units of this run's part, by each target's shards to be done."""
    first, step = parse_part(config.part)
    return [u for u in find_units(targets, pending) if u.shards[0][1] % step == first]


def work_of(
    config: ExtractConfig, base: BaseConfig, dataset: DatasetConfig, targets: tuple[Target, ...]
) -> Work:
    """What the processes of a run must know.

    Raises:
        AnnotationError: the dataset's list of checksums cannot be read.
    """
    return Work(
        targets=targets,
        base=base,
        batch_size=config.batch_size,
        format=config.format,
        device=config.device,
        compile=config.compile,
        thumbs=config.thumbs,
        deadline_s=config.deadline_s,
        checksums=load_checksums(dataset.checksums) if dataset.checksums else {},
    )


def _target(
    config: ExtractConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    spec: FeatureSpec,
    videos: Sequence[SourceVideo],
) -> Target:
    store = create_store(store_path(config.features, dataset.name, base.name, spec), spec)
    statuses = read_statuses(store)
    plan = extend_plan(store, videos, config.videos_per_shard, statuses, config.retry_failed)
    return Target(store, spec, plan)


def _execute(config: ExtractConfig, work: Work, units: Sequence[Unit], total: int) -> RunReport:
    share = parse_share(config.max_failures)
    with RunProgress(total) as progress:

        def after_unit() -> None:
            _stop_if_rotten(progress.failed, total, share, work)

        if uses_ray(config):
            from extract.ray_executor import run_ray
            from extract.tower import check_tower

            check_tower(work.base)  # what does not fit is refused here and now, not on a node
            return run_ray(work, units, progress, after_unit, config.workers)
        from extract.serial_executor import run_serial

        return run_serial(work, units, progress, after_unit)


def _weights_digest(base: BaseConfig) -> str:
    """From the files if possible: a run with nothing to do need not load open_clip."""
    if has_tower_files(base):
        return tower_digest(base)
    from extract.tower import load_tower

    return load_tower(base, device="cpu").digest


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


def _stop_if_rotten(failed: Counter[str], total: int, share: float, work: Work) -> None:
    if failed.total() > share * total:
        worst = ", ".join(f"{code} {count}" for code, count in failed.most_common())
        raise RedVillmError(
            "too many videos failed; what is done so far is kept",
            where=work.targets[0].store,
            got=f"{failed.total()} of {total} ({worst})",
            wanted=f"at most {share:.1%}",
            do="look at the messages in the store, or raise max_failures",
        )


def _summarise(
    store: StorePath,
    videos: Sequence[SourceVideo],
    done: int,
    seconds: float,
    report: RunReport | None,
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
        run=report,
    )
    record = {"schema": SCHEMA_VERSION, **asdict(summary), "store": str(store)}
    replace_file(store / "last_run.json", json.dumps(record, indent=2).encode(), "summary")
    return summary
