"""Committed rows of one store into pending shards of another: nothing is decoded again.

Shards are filled one at a time, so memory holds one shard however large the stores are, and a
killed copy goes on where it was: what is committed is not pending.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from io import BytesIO

from features.catalog import compact_index, pending_shards, read_spec
from features.commit import Commit, CommitRow, load_commits, row_sha256
from features.errors import StoreError
from features.places import StorePath, read_bytes
from features.plan import STATUS_OK, Plan, PlanRow, load_plan
from features.shard_format import get_format
from features.writer import VideoRow, read_thumbs, write_shard

Track = Callable[[Sequence[int]], Iterable[int]]
"""Shows progress over shard numbers, as rich.progress.track does; `iter` shows none."""


@dataclass(frozen=True)
class Place:
    """Where a committed row lies."""

    store: StorePath
    commit: Commit
    planned: PlanRow

    @property
    def row(self) -> CommitRow:
        """The row as it was committed."""
        return self.commit.rows[self.planned.row]

    @property
    def ok(self) -> bool:
        """Whether it has features."""
        return self.row.status == STATUS_OK


@dataclass(frozen=True)
class Filled:
    """What `fill_pending` did."""

    shards: int
    """Shards written."""
    videos: int
    """Their rows, failures included."""
    left: int
    """Shards that are still pending."""


def committed_places(store: StorePath) -> dict[int, list[Place]]:
    """Every committed row, superseded ones too, by shard in the plan's order.

    Raises:
        StoreError: no store there, or its plan or a marker cannot be read.
    """
    plan = load_plan(store)
    commits = load_commits(store, plan, read_spec(store).fingerprint)
    return {
        shard: [Place(store, commits[shard], row) for row in rows]
        for shard, rows in sorted(plan.shards().items())
        if shard in commits
    }


def latest_places(shards: Mapping[int, Sequence[Place]]) -> dict[str, Place]:
    """The row that counts for each video, that of the latest shard; sorted by id."""
    found = {place.row.video_id: place for places in shards.values() for place in places}
    return dict(sorted(found.items()))


def fill_pending(
    store: StorePath,
    plan: Plan,
    rows_of: Callable[[int], Sequence[VideoRow] | None],
    format: str,  # noqa: A002 - the name users know it by
    track: Track,
) -> Filled:
    """Write every pending shard whose rows can be had, then the index.

    Args:
        store: the store's folder.
        plan: its plan.
        rows_of: the rows of a shard by its number, or None to leave it pending.
        format: `zarr` or `hdf5`.
        track: shows progress.

    Raises:
        StoreError: the store cannot be written; what is committed stays.
    """
    spec, pending, shards, videos = read_spec(store), pending_shards(store, plan), 0, 0
    for shard in track(pending):
        rows = rows_of(shard)
        if rows is not None:
            write_shard(store, spec, plan, shard, rows, format)
            shards, videos = shards + 1, videos + len(rows)
    compact_index(store)
    return Filled(shards, videos, len(pending) - shards)


def read_places(places: Sequence[Place]) -> list[VideoRow]:
    """The rows with their features and thumbnails, in the same order, each checked by its sha256.

    Raises:
        StoreError: a shard or an archive of thumbnails is damaged or gone.
    """
    attempts: dict[tuple[StorePath, str], list[Place]] = {}
    for place in places:
        attempts.setdefault((place.store, place.commit.stem), []).append(place)
    found = {row.video_id: row for group in attempts.values() for row in _read_attempt(group)}
    return [found[place.row.video_id] for place in places]


def _read_attempt(places: Sequence[Place]) -> Iterator[VideoRow]:
    """Rows of one attempt, whose files are opened once."""
    store, commit = places[0].store, places[0].commit
    form, thumbs = get_format(commit.format), store / "thumbs" / f"{commit.stem}.zip"
    try:
        with ExitStack() as stack:
            archive = reader = None
            if any(place.ok for place in places):
                path = store / "shards" / f"{commit.stem}{form.suffix}"
                reader = stack.enter_context(closing(form.open(path)))
            with suppress(FileNotFoundError):
                archive = stack.enter_context(zipfile.ZipFile(BytesIO(read_bytes(thumbs))))
            for place in places:
                row, temporal, spatial = place.row, None, None
                if reader is not None and place.ok:
                    padded, spatial, frames = reader.read(place.planned.row)
                    temporal = padded[:frames]
                    if row_sha256(temporal, spatial) != row.sha256:
                        raise ValueError(f"the arrays of {row.video_id} are not the committed ones")
                yield VideoRow(
                    video_id=row.video_id,
                    status=row.status,
                    message=row.message,
                    temporal=temporal,
                    spatial=spatial,
                    pts=row.pts,
                    decoder=row.decoder,
                    decoder_version=row.decoder_version,
                    thumbs=tuple(read_thumbs(archive, row.video_id)) if archive else (),
                )
    except Exception as error:  # formats report damage as they please
        raise StoreError(
            "cannot copy a shard: damaged or missing",
            where=f"{store}, shard {commit.stem}",
            got=f"{type(error).__name__}: {error}",
            do="see what `store verify` says of it",
        ) from error
