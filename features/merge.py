"""Partial runs become one store: runs on several disks, or plans over different videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.catalog import create_store, read_spec, read_statuses
from features.copying import (
    Filled,
    Place,
    Track,
    committed_places,
    fill_pending,
    latest_places,
    read_places,
)
from features.errors import StoreError
from features.places import StorePath
from features.plan import SourceVideo, extend_plan
from features.spec import require_same
from features.writer import VideoRow


def merge(
    target: StorePath,
    sources: Sequence[StorePath],
    format: str = "zarr",  # noqa: A002 - the name users know it by
    track: Track = iter,
) -> Filled:
    """Bring every video of the sources into the target, in new shards behind its own.

    A video with features beats one that failed; between failures the target's stands, then that
    of the source named first. Shards that the target planned and never did are filled when the
    sources have all of their videos.

    Args:
        target: the store to make or to extend.
        sources: stores of the same spec; they stay as they are.
        format: file format of the shards written: `zarr` or `hdf5`.
        track: shows progress.

    Raises:
        FingerprintError: the stores were made from different specs.
        StoreError: two stores have different features of one video; a source is damaged; the
            disk is full.
    """
    spec = read_spec(sources[0])
    for other in sources[1:]:
        require_same(
            "fingerprint",
            spec.fingerprint,
            read_spec(other).fingerprint,
            ours_is=str(sources[0]),
            theirs_is=str(other),
        )
    create_store(target, spec)
    there = [latest_places(committed_places(source)) for source in sources]
    wanted = _choose(latest_places(committed_places(target)), there)
    sizes = (len(place.commit.rows) for places in there for place in places.values())
    per_shard = max(sizes, default=1)
    planned = [place.planned for place in wanted.values()]
    videos = [SourceVideo(row.video_id, row.path, row.size, row.digest) for row in planned]
    plan = extend_plan(target, videos, per_shard, read_statuses(target), retry_failed=True)

    def rows_of(shard: int) -> list[VideoRow] | None:
        places = [wanted.get(row.video_id) for row in plan.shards()[shard]]
        found = [place for place in places if place is not None]
        return read_places(found) if len(found) == len(places) else None

    return fill_pending(target, plan, rows_of, format, track)


def _choose(known: Mapping[str, Place], offers: Sequence[Mapping[str, Place]]) -> dict[str, Place]:
    """What the target lacks, by id.

    Raises:
        StoreError: features of one video that differ.
    """
    best = dict(known)
    for offer in offers:
        for video_id, place in offer.items():
            standing = best.setdefault(video_id, place)
            if standing.ok and place.ok and standing.row.sha256 != place.row.sha256:
                raise StoreError(
                    "two stores have different features of one video",
                    where=f"video {video_id}",
                    got=[f"{p.store}: {p.row.sha256[:12]}" for p in (standing, place)],
                    do="merge without one of them; their files, hardware or locks differ",
                )
            if place.ok and not standing.ok:
                best[video_id] = place
    return {video_id: place for video_id, place in best.items() if known.get(video_id) != place}
