"""The same store in another file format: same spec, same plan, same content digest."""

from __future__ import annotations

from features.catalog import content_digest, create_store, digest_rows, read_spec
from features.copying import (
    Filled,
    Track,
    committed_places,
    fill_pending,
    latest_places,
    read_places,
)
from features.durable import publish_new
from features.errors import StoreError
from features.places import StorePath, read_bytes
from features.plan import Plan, load_plan
from features.spec import require_same
from features.writer import VideoRow


def convert(
    source: StorePath,
    target: StorePath,
    format: str,  # noqa: A002 - the name users know it by
    track: Track = iter,
) -> Filled:
    """Copy a store's committed shards, thumbnails included; only what is missing is copied.

    Shards that the source has not done stay pending in the target.

    Args:
        source: the store to read.
        target: the store to make or to bring up to date.
        format: file format of the shards written: `zarr` or `hdf5`.
        track: shows progress.

    Raises:
        FingerprintError: the target has another spec, or in the end another content.
        StoreError: the target has another plan; the source is damaged; the disk is full.
    """
    create_store(target, read_spec(source))
    places = committed_places(source)  # one look: it may grow meanwhile
    digest = digest_rows(place.row for place in latest_places(places).values())
    plan = _copy_plan(source, target)

    def rows_of(shard: int) -> list[VideoRow] | None:
        return read_places(places[shard]) if shard in places else None

    filled = fill_pending(target, plan, rows_of, format, track)
    require_same(
        "content", content_digest(target), digest, ours_is=str(target), theirs_is=str(source)
    )
    return filled


def _copy_plan(source: StorePath, target: StorePath) -> Plan:
    """Append the parts that the target lacks.

    Raises:
        StoreError: a part that it has is not the source's.
    """
    theirs, ours = load_plan(source).part_hashes, load_plan(target).part_hashes
    if any(theirs.get(part) != known for part, known in ours.items()):
        raise StoreError(
            "the target has another plan than the source",
            where=target,
            wanted=source,
            do="convert into another folder, or use `store merge`",
        )
    for part in sorted(set(theirs) - set(ours)):
        name = f"plan/{part:04d}.parquet"
        publish_new(target / name, read_bytes(source / name), "plan")
    return load_plan(target)
