"""Whole stores from and to Video-ChatGPT's folders of pickles (features/pickles.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.catalog import create_store, read_statuses
from features.config import BaseConfig
from features.copying import Filled, Track, fill_pending
from features.errors import CheckpointError, StoreError
from features.pickles import file_name, find_pickles, join_rows, load_array, save_array, split_rows
from features.places import StorePath
from features.plan import STATUS_MISSING, STATUS_OK, extend_plan, source_video
from features.reader import FeatureStore
from features.spec import IMPORTED, FeatureSpec
from features.tower_files import make_spec, tower_digest
from features.writer import VideoRow


def imported_spec(base: BaseConfig, num_frames: int) -> FeatureSpec:
    """The spec of Video-ChatGPT's features for a base.

    What no pickle can prove is spelled out: tower and decoder are `imported`. The digest is that
    of the base's eyes if their files can be had (a claim of whoever imports), else `imported` too.
    """
    try:
        digest = tower_digest(base)
    except CheckpointError:
        digest = IMPORTED
    return replace(
        make_spec(base, digest, num_frames, "float16"),
        tower=f"{IMPORTED}:video-chatgpt",
        preprocessing="squash-nearest",
        decoder_policy=IMPORTED,
    )


def import_pickles(
    target: StorePath,
    folder: Path,
    base: BaseConfig,
    num_frames: int = 100,
    videos_per_shard: int = 128,
    format: str = "zarr",  # noqa: A002 - the name users know it by
    track: Track = iter,
) -> Filled:
    """Bring a folder of pickles into a store; only what is missing is read.

    A damaged pickle is a failure row `damaged`, tried again once the file has changed.

    Args:
        target: the store to make or to extend.
        folder: `<video id>.pkl` files, each (num_frames + N, D) float16.
        base: whose eyes are said to have made them.
        num_frames: T.
        videos_per_shard: rows of a new shard.
        format: file format of the shards written: `zarr` or `hdf5`.
        track: shows progress.

    Raises:
        FingerprintError: the store has another spec.
        StoreError: a pickle asks for anything but arrays; no pickles; the disk is full.
    """
    files = find_pickles(folder)
    store = create_store(target, imported_spec(base, num_frames))
    videos = [source_video(video_id, path) for video_id, path in files.items()]
    plan = extend_plan(store, videos, videos_per_shard, read_statuses(store))

    def rows_of(shard: int) -> list[VideoRow]:
        planned = plan.shards()[shard]
        return [_read_pickle(row.video_id, files.get(row.video_id), num_frames) for row in planned]

    return fill_pending(store, plan, rows_of, format, track)


def _read_pickle(video_id: str, path: Path | None, num_frames: int) -> VideoRow:
    if path is None:
        return VideoRow(video_id, STATUS_MISSING, "its pickle has gone", decoder=IMPORTED)
    try:
        temporal, spatial = split_rows(load_array(path.read_bytes()), num_frames)
    except StoreError as error:
        raise StoreError(
            "refused to open a pickle", where=path, got=error, do="do not trust where it came from"
        ) from error
    except (OSError, ValueError) as error:
        return VideoRow(video_id, "damaged", str(error), decoder=IMPORTED)
    return VideoRow(video_id, STATUS_OK, temporal=temporal, spatial=spatial, decoder=IMPORTED)


def export_pickles(
    store: StorePath,
    folder: Path,
    track: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> int:
    """Write every video's features as a pickle; returns how many were not there yet.

    Raises:
        StoreError: a file that is another is in the way; features that float16 cannot hold; the
            store is damaged; the folder cannot be written.
    """
    features, written = FeatureStore(store), 0
    names = {video_id: file_name(video_id) for video_id in features.ids}  # refused before any work
    for video_id in track(features.ids):
        found = features[video_id]
        array = join_rows(found.temporal, found.spatial, features.spec.num_frames)
        if not np.isfinite(array).all():
            raise StoreError("a feature is too large for float16", where=f"{store}, {video_id}")
        written += save_array(folder / names[video_id], array)
    return written
