"""What a store says about itself without opening a shard: spec, statuses, index, content digest.

Markers are the truth and index.parquet is their compacted copy, trusted only as long as the
markers are the very files that it was made from.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from upath import UPath

from features.commit import CommitRow, is_marker_name, load_commits
from features.durable import disk_errors, escape_name, publish_new, replace_file
from features.errors import FingerprintError, StoreError
from features.places import (
    StorePath,
    check_conditions,
    list_names,
    list_versions,
    place,
    read_bytes,
)
from features.plan import Plan, load_plan
from features.spec import FeatureSpec, canonical_json, record_digest
from features.tables import encode_table, read_table

log = logging.getLogger(__name__)

INDEX = "index.parquet"
_COLUMNS = {
    "video_id": "string",
    "status": "string",
    "message": "string",
    "decoder": "string",
    "decoder_version": "string",
    "num_frames": "int64",
    "pts": "floats",
    "sha256": "string",
    "shard": "int64",
    "row": "int64",
    "attempt": "string",
    "format": "string",
}


@dataclass(frozen=True)
class IndexRow(CommitRow):
    """A committed row that counts, and where it lies."""

    shard: int = -1
    row: int = -1
    attempt: str = ""
    format: str = ""

    @property
    def stem(self) -> str:
        """Name of the attempt's files, without folder and suffix."""
        return f"{self.shard:06d}-{self.attempt}"


def store_path(root: str | StorePath, dataset: str, base_name: str, spec: FeatureSpec) -> StorePath:
    """Where the store of a dataset under a spec belongs: `root/dataset/base-t100-0a1b2c3d`.

    Raises:
        StoreError: `root` is neither a folder nor an S3 prefix.
    """
    name = f"{escape_name(base_name)}-t{spec.num_frames}-{spec.fingerprint[:8]}"
    return place(root) / escape_name(dataset) / name


def create_store(path: StorePath, spec: FeatureSpec) -> StorePath:
    """Make the store's folders and its spec.json, or check that it has the same spec.

    Raises:
        FingerprintError: the store was made from another spec.
        StoreError: the place cannot be written to, or is no place for exclusive commits.
    """
    file, data = path / "spec.json", json.dumps(spec.to_dict(), indent=2).encode()
    with disk_errors("cannot create the store", path):
        for name in ("plan", "shards", "commits", "thumbs") if isinstance(path, Path) else ():
            (path / name).mkdir(parents=True, exist_ok=True)
        if file.name not in list_names(path):
            if isinstance(path, UPath):
                check_conditions(path)
            publish_new(file, data, "spec")
    there = read_spec(path)
    if there != spec:
        ours, theirs = spec.to_dict(), there.to_dict()
        differing = [key for key in ours if ours[key] != theirs[key] and key != "fingerprint"]
        raise FingerprintError(
            "the store was made from another spec",
            where=path,
            got={key: theirs[key] for key in differing},
            wanted={key: ours[key] for key in differing},
            do="use the same settings, or another folder",
        )
    return path


def read_spec(store: StorePath) -> FeatureSpec:
    """The store's spec.

    Raises:
        StoreError: no store there, or its spec.json is damaged or of another schema version.
    """
    path = store / "spec.json"
    try:
        record = json.loads(read_bytes(path))
        if not isinstance(record, dict):
            raise TypeError("not a JSON object")
        return FeatureSpec.from_dict(record, path)
    except FileNotFoundError as error:
        raise StoreError(
            "no feature store there", where=store, do="run `make extract`, or correct the path"
        ) from error
    except StoreError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise StoreError("cannot read the spec", where=path, got=error) from error


def pending_shards(store: StorePath, plan: Plan) -> list[int]:
    """Shards of the plan without a valid commit, in order; reads each marker once, opens no shard.

    Raises:
        StoreError: no store there, or a marker of another schema version.
    """
    commits = load_commits(store, plan, read_spec(store).fingerprint)
    return sorted(set(plan.shards()) - set(commits))


def read_statuses(store: StorePath) -> dict[str, str]:
    """Status by id of every video whose latest planned row is committed.

    A video that waits for its first or its next attempt is not in it.
    """
    plan = load_plan(store)
    commits = load_commits(store, plan, read_spec(store).fingerprint)
    return {
        video_id: commits[row.shard].rows[row.row].status
        for video_id, row in plan.latest().items()
        if row.shard in commits
    }


def compact_index(store: StorePath) -> StorePath:
    """Write index.parquet from the markers, in place of an older one; returns its path."""
    stamp = _marker_stamp(store)  # before the markers are read: what comes later makes it stale
    rows = read_rows(store)
    facts = {"content_digest": digest_rows(rows.values()), "markers": stamp}
    data = encode_table([vars(row) for row in rows.values()], _COLUMNS, facts)
    replace_file(store / INDEX, data, "index")
    return store / INDEX


def load_index(store: StorePath) -> tuple[dict[str, IndexRow], str]:
    """Rows by id, without time stamps, and the content digest; from the index if it is fresh."""
    try:
        columns = [name for name in _COLUMNS if name != "pts"]
        records, facts = read_table(store / INDEX, columns)
        if facts["markers"] == _marker_stamp(store):
            rows = (IndexRow(**record) for record in records)
            return {row.video_id: row for row in rows}, facts["content_digest"]
    except StoreError as error:  # only a copy: the markers know it all
        if not isinstance(error.__cause__, FileNotFoundError):
            log.warning("ignoring the index: %s", error)
    found = read_rows(store)
    return {k: replace(row, pts=()) for k, row in found.items()}, digest_rows(found.values())


def read_rows(store: StorePath) -> dict[str, IndexRow]:
    """The committed row that counts for each video (the latest part's), from the markers, by id."""
    commits = load_commits(store, load_plan(store), read_spec(store).fingerprint)
    rows = {}
    for _, commit in sorted(commits.items()):  # later parts have higher shard numbers
        for index, row in enumerate(commit.rows):
            rows[row.video_id] = IndexRow(
                **vars(row),
                shard=commit.shard,
                row=index,
                attempt=commit.attempt,
                format=commit.format,
            )
    return dict(sorted(rows.items()))


def content_digest(store: StorePath) -> str:
    """What the store holds: equal for equal videos, frames and bytes, however they are stored."""
    return load_index(store)[1]


def digest_rows(rows: Iterable[CommitRow]) -> str:
    """sha256 (hex) over a JSON line [video_id, status, pts, sha256] a video; rows sorted by id."""
    digest = hashlib.sha256()
    for row in rows:
        line = canonical_json([row.video_id, row.status, list(row.pts), row.sha256])
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _marker_stamp(store: StorePath) -> str:
    """Changes whenever a marker comes, goes or is replaced; reads no marker."""
    with disk_errors("cannot list the commits", store):
        versions = list_versions(store / "commits")
    found = [[name, *versions[name]] for name in sorted(versions) if is_marker_name(name)]
    return record_digest(found)
