"""Reading features by video id, from a training loop's workers or to check a whole store."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float
from upath import UPath

from features.catalog import (
    IndexRow,
    content_digest,
    digest_rows,
    load_index,
    read_rows,
    read_spec,
)
from features.commit import load_commits, row_sha256
from features.durable import file_sha256
from features.errors import StoreError
from features.places import StorePath, place, read_bytes
from features.plan import STATUS_OK, load_plan
from features.shard_format import ShardReader, get_format
from features.writer import read_thumbs

_MAX_OPEN = 64


@dataclass(frozen=True)
class VideoFeatures:
    """One video, in the store's dtype."""

    temporal: Float[np.ndarray, "T D"]
    """Valid rows only."""
    spatial: Float[np.ndarray, "N D"]
    num_frames: int


class FeatureStore:
    """The committed features of a store, by video id.

    A snapshot: what is committed after opening is seen by opening again. Give it to DataLoader
    workers freely, forked or spawned: each process opens shards of its own, and pickling leaves
    open ones behind.

    Raises:
        StoreError: no store there, or it is damaged.
    """

    def __init__(self, path: str | StorePath) -> None:
        self.path = place(path)
        self.spec = read_spec(self.path)
        self._rows, self._digest = load_index(self.path)
        self._readers: dict[str, ShardReader] = {}
        self._inherited: list[dict[str, ShardReader]] = []
        self._pid = os.getpid()

    @classmethod
    def open(cls, path: str | StorePath) -> FeatureStore:
        """Open a store for reading; the same as FeatureStore(path)."""
        return cls(path)

    @property
    def content_digest(self) -> str:
        """What this snapshot holds (features.store.content_digest)."""
        return self._digest

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the videos with features, sorted."""
        return tuple(k for k, row in self._rows.items() if row.status == STATUS_OK)

    @property
    def failures(self) -> dict[str, tuple[str, str]]:
        """(code, message) of each video without features, by id."""
        return {
            video_id: (row.status, row.message)
            for video_id, row in self._rows.items()
            if row.status != STATUS_OK
        }

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._rows and self._rows[str(video_id)].status == STATUS_OK

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, video_id: str) -> VideoFeatures:
        """One video's features.

        Raises:
            StoreError: not in the store, failed in extraction, or damaged on disk.
        """
        row = self._row(video_id)
        if row.status != STATUS_OK:
            raise StoreError(
                f"the video failed in extraction ({row.status})",
                where=f"{self.path}, video {video_id}",
                got=row.message or row.status,
            )
        try:
            return self._read(row)
        except Exception as error:  # whatever a library raises about damaged or missing bytes
            raise StoreError(
                "cannot read a video's features: damaged or missing",
                where=f"{self.path}, video {video_id} (shard {row.stem}, row {row.row})",
                got=f"{type(error).__name__}: {error}",
                do="restore the file, or remove the shard's marker in commits/ and extract again",
            ) from error

    def thumbs(self, video_id: str) -> list[bytes]:
        """The video's JPEG thumbnails; none when extraction kept none.

        Raises:
            StoreError: not in the store, or the archive is damaged.
        """
        return next(self.each_thumbs([video_id]))

    def each_thumbs(self, video_ids: Iterable[str]) -> Iterator[list[bytes]]:
        """`thumbs` of one video after the other; an archive is opened once for neighbours.

        Raises:
            StoreError: see `thumbs`.
        """
        for stem, group in groupby(video_ids, lambda video_id: self._row(video_id).stem):
            path, neighbours = self.path / "thumbs" / f"{stem}.zip", list(group)
            try:
                source = BytesIO(read_bytes(path)) if isinstance(path, UPath) else path
                with zipfile.ZipFile(source) as archive:
                    for video_id in neighbours:
                        yield read_thumbs(archive, video_id)
            except FileNotFoundError:
                yield from ([] for _ in neighbours)
            except (OSError, zipfile.BadZipFile) as error:
                raise StoreError("cannot read thumbnails", where=path, got=error) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}, "_inherited": []}

    def _row(self, video_id: str) -> IndexRow:
        if video_id not in self._rows:
            raise StoreError(
                "no such video in the store",
                where=self.path,
                got=video_id,
                do="run `make extract` for this dataset, or correct the id",
            )
        return self._rows[video_id]

    def _read(self, row: IndexRow) -> VideoFeatures:
        temporal, spatial, frames = self._reader(row).read(row.row)
        if frames != row.num_frames or len(temporal) != self.spec.num_frames:
            raise ValueError(f"{frames} of {len(temporal)} frames; committed: {row.num_frames}")
        if {temporal.dtype, spatial.dtype} != {np.dtype(self.spec.store_dtype)}:
            raise ValueError(f"dtypes {temporal.dtype}, {spatial.dtype}")
        temporal = temporal[:frames]
        # A chunk that was never written is NaN throughout, so one column tells.
        if np.isnan(temporal[:, 0]).any() or np.isnan(spatial[:, 0]).any():
            raise ValueError("never written")
        return VideoFeatures(temporal, spatial, frames)

    def _reader(self, row: IndexRow) -> ShardReader:
        if self._pid != os.getpid():
            # Forked: the parent's handles must be neither used nor closed here.
            self._inherited.append(self._readers)
            self._readers, self._pid = {}, os.getpid()
        reader = self._readers.pop(row.stem, None)
        if reader is None:
            form = get_format(row.format)
            reader = form.open(self.path / "shards" / f"{row.stem}{form.suffix}")
        self._readers[row.stem] = reader  # last in the dict: most recently used
        if len(self._readers) > _MAX_OPEN:
            self._readers.pop(next(iter(self._readers))).close()
        return reader


@dataclass(frozen=True)
class StoreCheck:
    """What `verify_store` found."""

    num_videos: int
    """Videos with features."""
    num_failures: int
    """Videos without."""
    content_digest: str
    """Recomputed from the arrays."""
    problems: tuple[str, ...]
    """One line each; none in a sound store."""


def verify_store(
    store: StorePath, track: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> StoreCheck:
    """Read every byte: files against the markers' sha256, arrays against the rows' sha256.

    Args:
        store: the store's folder.
        track: shows progress, once over the shards and once over the videos.

    Raises:
        StoreError: no store there, or its plan or a marker cannot be read.
    """
    features, rows, problems = FeatureStore(store), [], []
    commits = load_commits(store, load_plan(store), features.spec.fingerprint)
    for commit in track(list(commits.values())):
        for name, wanted in commit.files.items():
            try:
                if file_sha256(store / name) != wanted:
                    problems.append(f"{name}: its sha256 is not the committed one")
            except OSError as error:
                problems.append(f"{name}: {error.strerror or error}")
    for video_id, committed in track(list(read_rows(store).items())):
        row = committed
        if row.status == STATUS_OK:
            try:
                found = features[video_id]
                row = replace(row, sha256=row_sha256(found.temporal, found.spatial))
            except StoreError as error:
                row = replace(row, sha256="unreadable")
                problems.append(str(error))
            if row != committed:
                problems.append(f"{video_id}: its arrays are not the committed ones")
        rows.append(row)
    digest = digest_rows(rows)
    if digest != content_digest(store):
        problems.append("the content digest is not the committed one")
    failures = len(features.failures)
    return StoreCheck(len(rows) - failures, failures, digest, tuple(problems))
