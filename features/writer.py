"""Writing one shard, from rows in memory to the commit that makes it exist.

Order is everything: write under a name of its own, flush to the disk, read back and compare,
hash, and only then the marker. A crash anywhere leaves garbage, never half a shard. For a store on
S3 all this happens in a temporary folder, which is uploaded and read back before the marker.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
from jaxtyping import Float
from upath import UPath

from features.catalog import create_store
from features.commit import Commit, CommitRow, publish_commit, row_sha256
from features.durable import commit_point, disk_errors, escape_name, file_sha256, fsync_tree
from features.errors import StoreError
from features.places import StorePath, remove, upload
from features.plan import STATUS_OK, Plan
from features.shard_format import ShardFormat, get_format
from features.spec import FeatureSpec

_MAX_MESSAGE = 500
# Temporal (T', D) and spatial (N, D); T' differs from video to video.
_Arrays = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]


@dataclass(frozen=True)
class VideoRow:
    """What extraction made of one video."""

    video_id: str
    status: str
    """`ok`, or the code of the failure (VideoError)."""
    message: str = ""
    """The failure in one line."""
    temporal: Float[np.ndarray, "T D"] | None = None
    """One row for each frame that there is, at most the spec's T; None on failure."""
    spatial: Float[np.ndarray, "N D"] | None = None
    """None on failure."""
    pts: tuple[float, ...] = ()
    """Presentation time of each frame in seconds, or nothing."""
    decoder: str = ""
    decoder_version: str = ""
    thumbs: tuple[bytes, ...] = ()
    """JPEG files, outside the content digest."""


def write_shard(
    store: StorePath,
    spec: FeatureSpec,
    plan: Plan,
    shard: int,
    rows: Sequence[VideoRow],
    format: str = "zarr",  # noqa: A002 - the name users know it by
) -> Commit:
    """Write and commit one whole shard.

    A valid row with a number that is not finite (also after the cast to the store's dtype), or a
    time stamp that is not, becomes a failure row `non-finite`.

    Args:
        store: the store's folder, made by `create_store`.
        spec: the store's spec.
        plan: the plan that the shard belongs to.
        shard: its number.
        rows: one for each planned row, in the plan's order.
        format: `zarr` or `hdf5`.

    Returns:
        The commit that stands; its `won` is False when another attempt had been there first.

    Raises:
        StoreError: rows that are not the planned ones or have the wrong shape, or a disk that is
            full, read-only or does not give back what was written.
        FingerprintError: the store has another spec.
    """
    create_store(store, spec)
    _check_rows(plan, shard, rows)
    form = get_format(format)
    settled = [_settle(row, spec) for row in rows]
    commit = Commit(
        shard=shard,
        attempt=uuid4().hex[:16],
        part_hash=plan.shard_hash(shard),
        fingerprint=spec.fingerprint,
        format=format,
        files={},
        rows=tuple(row for row, _ in settled),
    )
    names = f"shards/{commit.stem}{form.suffix}", f"thumbs/{commit.stem}.zip"
    try:
        with disk_errors("cannot write the shard", f"{store}, shard {shard}"), _staged(store) as at:
            arrays = [arrays for _, arrays in settled]
            files = _write_arrays(form, at / names[0], arrays, spec)
            files += _write_thumbs(at / names[1], rows)
            hashes = {file.relative_to(at).as_posix(): file_sha256(file) for file in files}
    except BaseException:
        _discard(store, names)  # a full disk needs the space
        raise
    commit_point("shard-ready")
    standing = publish_commit(store, replace(commit, files=hashes), plan)
    if not standing.won:
        _discard(store, names)
    return standing


@contextmanager
def _staged(store: StorePath) -> Iterator[Path]:
    """The store's folder, or for a remote one a folder that is uploaded if all went well."""
    if isinstance(store, Path):
        yield store
        return
    with TemporaryDirectory(prefix="red-villm-shard-") as folder:
        for name in ("shards", "thumbs"):
            Path(folder, name).mkdir()
        yield Path(folder)
        upload(Path(folder), store)
        commit_point("shard-uploaded")


def _discard(store: StorePath, names: Sequence[str]) -> None:
    """Remove what no marker vouches for; what cannot be removed is garbage that does no harm."""
    for name in names:
        path = store / name
        if isinstance(path, UPath):
            remove(path)
            continue
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()


def _check_rows(plan: Plan, shard: int, rows: Sequence[VideoRow]) -> None:
    planned = [row.video_id for row in plan.shards().get(shard, ())]
    given = [row.video_id for row in rows]
    if not planned or planned != given:
        raise StoreError(
            "rows are not the planned ones", where=f"shard {shard}", got=given, wanted=planned
        )


def _settle(row: VideoRow, spec: FeatureSpec) -> tuple[CommitRow, _Arrays | None]:
    """The row as it is committed, and its arrays in the store's dtype if they are fit to keep."""
    failure = CommitRow(
        video_id=row.video_id,
        status=row.status,
        message=row.message.encode(errors="replace").decode()[:_MAX_MESSAGE],
        decoder=row.decoder,
        decoder_version=row.decoder_version,
    )
    if row.status != STATUS_OK:
        return failure, None
    if row.temporal is None or row.spatial is None:
        raise StoreError("an ok row without features", where=row.video_id)
    frames, width = row.temporal.shape
    if not 1 <= frames <= spec.num_frames or len(row.pts) not in (0, frames):
        raise StoreError(
            "wrong number of frames",
            where=row.video_id,
            got=f"{frames} temporal rows, {len(row.pts)} time stamps",
            wanted=f"1 to {spec.num_frames}, one time stamp each",
        )
    if row.spatial.shape[1] != width:
        got = (row.temporal.shape, row.spatial.shape)
        raise StoreError("temporal and spatial widths differ", where=row.video_id, got=got)
    with np.errstate(over="ignore", invalid="ignore"):  # found by the next line
        arrays = row.temporal.astype(spec.store_dtype), row.spatial.astype(spec.store_dtype)
    if not all(np.isfinite(numbers).all() for numbers in (*arrays, row.pts)):
        message = f"a feature or time stamp is not finite in {spec.store_dtype}"
        return replace(failure, status="non-finite", message=message), None
    pts, digest = tuple(float(t) for t in row.pts), row_sha256(*arrays)
    return replace(failure, num_frames=frames, pts=pts, sha256=digest), arrays


def _write_arrays(
    form: ShardFormat, path: Path, videos: Sequence[_Arrays | None], spec: FeatureSpec
) -> list[Path]:
    """Write, flush to the disk, read back and compare; returns the files.

    Rows of failures and of padding are NaN. A shard of failures alone has no files.
    """
    if not any(videos):
        return []
    shapes = {(t.shape[1], s.shape) for t, s in filter(None, videos)}
    if len(shapes) > 1:
        raise StoreError("videos of one shard differ in shape", where=path, got=sorted(shapes))
    width, spatial_shape = shapes.pop()
    temporal = np.full((len(videos), spec.num_frames, width), np.nan, spec.store_dtype)
    spatial = np.full((len(videos), *spatial_shape), np.nan, spec.store_dtype)
    num_frames = np.zeros(len(videos), np.int32)
    for row, arrays in enumerate(videos):
        if arrays is not None:
            num_frames[row] = len(arrays[0])
            temporal[row, : len(arrays[0])], spatial[row] = arrays
    form.write(path, temporal, spatial, num_frames)
    commit_point("shard-written")
    fsync_tree(path)
    commit_point("shard-synced")
    _read_back(form, path, temporal, spatial, num_frames)
    commit_point("shard-verified")
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def _read_back(
    form: ShardFormat, path: Path, temporal: np.ndarray, spatial: np.ndarray, frames: np.ndarray
) -> None:
    try:
        reader = form.open(path)
        for row, num_frames in enumerate(frames):
            found = reader.read(row)
            wanted = temporal[row].tobytes(), spatial[row].tobytes(), num_frames
            if (found[0].tobytes(), found[1].tobytes(), found[2]) != wanted:
                raise OSError(f"{path.name} row {row} reads back otherwise than it was written")
        reader.close()
    except (RuntimeError, ValueError) as error:  # a checksum, as zarr and h5py report it
        raise OSError(f"{path.name} does not read back: {error}") from error


def _write_thumbs(path: Path, rows: Sequence[VideoRow]) -> list[Path]:
    if not any(row.thumbs for row in rows):
        return []
    with zipfile.ZipFile(path, "x") as archive:
        for row in rows:
            for index, image in enumerate(row.thumbs):
                archive.writestr(thumb_name(row.video_id, index), image)
    fsync_tree(path)
    commit_point("thumbs-written")
    return [path]


def thumb_name(video_id: str, index: int) -> str:
    """Name of a thumbnail in its archive: safe to unpack whatever the id."""
    return f"{escape_name(video_id)}/{index}.jpg"


def read_thumbs(archive: zipfile.ZipFile, video_id: str) -> list[bytes]:
    """A video's thumbnails in an archive, in order."""
    names = set(archive.namelist())
    wanted = (thumb_name(video_id, index) for index in count())
    return [archive.read(name) for name in takewhile(names.__contains__, wanted)]
