"""Commit markers: a shard exists when, and only when, its marker is in place and valid.

Attempts write their files under names of their own. The marker is written last and linked into
place exclusively, so that of any number of attempts exactly one counts, and it lists the sha256 of
every file that it vouches for. Resuming reads the markers and opens no shard.

On S3 "linked exclusively" is a PUT under the condition that nothing is there, and an invalid marker
is replaced under the condition that it is still that one: no moment without either, no two winners.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from jaxtyping import Shaped
from upath import UPath

from features.durable import disk_errors, publish_new
from features.errors import StoreError
from features.places import (
    StorePath,
    list_names,
    put,
    put_if,
    read_bytes,
    read_each,
    version_of,
)
from features.plan import Plan
from features.spec import SCHEMA_VERSION, canonical_json, check_schema

log = logging.getLogger(__name__)

_HEAD = b'{"checksum":"'
_INVALID = (ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class CommitRow:
    """What became of one video."""

    video_id: str
    status: str
    """`ok`, or the code of the failure."""
    message: str = ""
    decoder: str = ""
    decoder_version: str = ""
    num_frames: int = 0
    """T': valid rows of the temporal features."""
    pts: tuple[float, ...] = ()
    """Presentation time of each frame, in seconds."""
    sha256: str = ""
    """Over the bytes of the valid temporal rows, then of the spatial features ("" if failed)."""


@dataclass(frozen=True)
class Commit:
    """One shard's marker."""

    shard: int
    attempt: str
    part_hash: str
    """Hash of the part of the plan that placed these rows."""
    fingerprint: str
    """The spec's."""
    format: str
    """Name of the shard format."""
    files: dict[str, str]
    """sha256 of each file by its path below the store; none when every video failed."""
    rows: tuple[CommitRow, ...]
    won: bool = field(default=True, compare=False)
    """Whether the attempt that asked is this one; not part of the marker."""

    @property
    def stem(self) -> str:
        """The attempt's name, without folder and suffix."""
        return f"{self.shard:06d}-{self.attempt}"

    def encode(self) -> bytes:
        """The marker: JSON whose first key is the sha256 of all that follows it.

        So a reader checks the bytes as they are, and does not have to write them again.
        """
        record = {"schema": SCHEMA_VERSION, **asdict(self)}
        del record["won"]
        body = canonical_json(record).encode()[1:]
        return _HEAD + hashlib.sha256(body).hexdigest().encode() + b'",' + body

    @classmethod
    def decode(cls, data: bytes, where: StorePath) -> Commit:
        """Read `encode`'s form.

        Raises:
            StoreError: written by another schema version.
            ValueError, KeyError, TypeError: not a whole marker.
        """
        digest, body = data[len(_HEAD) : len(_HEAD) + 64], data[len(_HEAD) + 66 :]
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError("its checksum is wrong")
        record = json.loads(b"{" + body)
        check_schema(record, where)
        del record["schema"]
        rows = (CommitRow(**{**row, "pts": tuple(row["pts"])}) for row in record.pop("rows"))
        return cls(**record, rows=tuple(rows))


def publish_commit(store: StorePath, commit: Commit, plan: Plan) -> Commit:
    """Link a marker into place; the first attempt wins.

    Returns:
        The commit that stands: ours, or with `won=False` the one that was there before.

    Raises:
        StoreError: the marker in place has another schema version, or is invalid and stuck.
    """
    path = store / "commits" / f"{commit.shard:06d}.json"
    for _ in range(8):  # an invalid marker in the way is put aside, and we try again
        if publish_new(path, commit.encode(), "marker"):
            return commit
        with disk_errors("cannot read the marker in place", path):
            data = next(read_each([path]))
        standing = _judge(path, data, plan, commit.fingerprint)
        if standing is not None:
            return replace(standing, won=standing.attempt == commit.attempt)
        if isinstance(path, UPath) and _replace_invalid(path, data, commit.encode()):
            return commit
    raise StoreError("an invalid marker cannot be moved away", where=path, do="remove the file")


def load_commits(store: StorePath, plan: Plan, fingerprint: str) -> dict[int, Commit]:
    """All valid commits of planned shards, by shard; an invalid marker is put aside with a warning.

    On S3 it stays until its shard is made again.

    Raises:
        StoreError: a marker of another schema version.
    """
    commits = {}
    with disk_errors("cannot read the commits", store):
        paths = [store / "commits" / name for name in marker_names(store)]
        # What is not in the plan was planned by somebody else after we read it.
        paths = [path for path in paths if int(path.stem) in plan.shards()]
        for path, data in zip(paths, read_each(paths), strict=True):
            commit = _judge(path, data, plan, fingerprint)
            if commit is not None:
                commits[commit.shard] = commit
    return commits


def marker_names(store: StorePath) -> list[str]:
    """Names of the files that claim to be markers, sorted."""
    return [name for name in list_names(store / "commits") if is_marker_name(name)]


def is_marker_name(name: str) -> bool:
    """Whether a file in `commits/` claims to be a marker."""
    return re.fullmatch(r"(\d{6}|[1-9]\d{6,})\.json", name) is not None


def row_sha256(temporal: Shaped[np.ndarray, "T D"], spatial: Shaped[np.ndarray, "N D"]) -> str:
    """sha256 (hex) over one video's bytes in row-major order: temporal, then spatial."""
    digest = hashlib.sha256(np.ascontiguousarray(temporal).data)
    digest.update(np.ascontiguousarray(spatial).data)
    return digest.hexdigest()


def _judge(path: StorePath, data: bytes | None, plan: Plan, fingerprint: str) -> Commit | None:
    """The commit that a planned shard's marker holds if it is valid, else None."""
    if data is None:
        return None  # put aside by somebody else
    try:
        return _check(Commit.decode(data, path), plan, int(path.stem), fingerprint)
    except StoreError:
        raise
    except _INVALID as error:
        if isinstance(path, Path):
            _quarantine(path, error, plan, fingerprint)
        else:
            log.warning("invalid commit marker %s (%s): shard undone", path, error)
        return None


def _check(commit: Commit, plan: Plan, shard: int, fingerprint: str) -> Commit:
    if commit.shard != shard:
        raise ValueError(f"it is the marker of shard {commit.shard}")
    if commit.fingerprint != fingerprint:
        raise ValueError(f"it belongs to another spec ({commit.fingerprint[:8]})")
    planned = [row.video_id for row in plan.shards()[shard]]
    same = commit.part_hash == plan.shard_hash(shard)
    if not same or planned != [row.video_id for row in commit.rows]:
        raise ValueError("it belongs to another plan")
    return commit


def _replace_invalid(path: UPath, invalid: bytes | None, data: bytes) -> bool:
    """Put a marker in place of an invalid one that is kept aside; False if that is another now."""
    with disk_errors("cannot replace an invalid marker", path), suppress(FileNotFoundError):
        version = version_of(path)
        if invalid is None or read_bytes(path) != invalid:  # what has this version or came later
            return False
        put(path.parent / "quarantine" / f"{path.stem}-{uuid4().hex}.json", invalid)
        return put_if(path, data, IfMatch=version)
    return False


def _quarantine(path: Path, why: Exception, plan: Plan, fingerprint: str) -> None:
    """Move an invalid marker aside, so that its shard can be made again."""
    aside = path.parent / "quarantine" / f"{path.stem}-{uuid4().hex}.json"
    log.warning("invalid commit marker %s (%s): moved to quarantine/, shard undone", path, why)
    try:
        aside.parent.mkdir(exist_ok=True)
        os.rename(path, aside)
        # Somebody may have put a valid marker there since we read it: then it goes back.
        _check(Commit.decode(aside.read_bytes(), aside), plan, int(path.stem), fingerprint)
        os.link(aside, path)
    except _INVALID:
        return  # as expected
    except OSError as error:  # moved by somebody else, or a store that may only be read
        log.warning("could not move %s: %s", path, error)
