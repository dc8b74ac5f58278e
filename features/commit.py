"""Commit markers: a shard exists when, and only when, its marker is in place and valid.

Attempts write their files under names of their own. The marker is written last and linked into
place exclusively, so that of any number of attempts exactly one counts, and it lists the sha256 of
every file that it vouches for. Resuming reads the markers and opens no shard.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from jaxtyping import Shaped

from features.durable import publish_new
from features.errors import StoreError
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
    def decode(cls, data: bytes, where: Path) -> Commit:
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


def publish_commit(store: Path, commit: Commit, plan: Plan) -> Commit:
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
        standing = _read_marker(path, plan, commit.fingerprint)
        if standing is not None:
            return replace(standing, won=standing.attempt == commit.attempt)
    raise StoreError("an invalid marker cannot be moved away", where=path, do="remove the file")


def load_commits(store: Path, plan: Plan, fingerprint: str) -> dict[int, Commit]:
    """All valid commits of planned shards, by shard; an invalid marker is put aside with a warning.

    Raises:
        StoreError: a marker of another schema version.
    """
    commits = {}
    for name in marker_names(store):
        commit = _read_marker(store / "commits" / name, plan, fingerprint)
        if commit is not None:
            commits[commit.shard] = commit
    return commits


def marker_names(store: Path) -> list[str]:
    """Names of the files that claim to be markers, sorted."""
    try:
        names = os.listdir(store / "commits")
    except FileNotFoundError:
        return []
    return sorted(name for name in names if re.fullmatch(r"(\d{6}|[1-9]\d{6,})\.json", name))


def row_sha256(temporal: Shaped[np.ndarray, "T D"], spatial: Shaped[np.ndarray, "N D"]) -> str:
    """sha256 (hex) over one video's bytes in row-major order: temporal, then spatial."""
    digest = hashlib.sha256(np.ascontiguousarray(temporal).data)
    digest.update(np.ascontiguousarray(spatial).data)
    return digest.hexdigest()


def _read_marker(path: Path, plan: Plan, fingerprint: str) -> Commit | None:
    """The valid commit of a planned shard, else None."""
    shard = int(path.stem)
    if shard not in plan.shards():
        return None  # planned by somebody else after we read the plan
    try:
        commit = _check(Commit.decode(path.read_bytes(), path), plan, shard, fingerprint)
    except FileNotFoundError:
        return None  # put aside by somebody else
    except StoreError:
        raise
    except _INVALID as error:
        _quarantine(path, error, plan, fingerprint)
        return None
    return commit


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
