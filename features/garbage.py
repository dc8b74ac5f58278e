"""What lies in a store without a marker that vouches for it: remains of kills and late attempts."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass

from features.catalog import read_rows, read_spec
from features.commit import Commit, load_commits, marker_names
from features.durable import disk_errors
from features.places import StorePath, list_names
from features.plan import load_plan

_ATTEMPT = re.compile(r"(\d{6,})-[0-9a-f]+\.(zarr|h5|zip)")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp|probe-[0-9a-f]{32}")
_QUARANTINED = re.compile(r"(\d{6,})-[0-9a-f]{32}\.json")


@dataclass(frozen=True)
class Garbage:
    """A file or folder that no reader looks at."""

    path: StorePath
    why: str
    """`uncommitted attempt`, `temporary` or `quarantined marker`."""
    num_bytes: int
    hours: float
    """Since anything in it changed last."""


def find_garbage(store: StorePath) -> list[Garbage]:
    """Everything of ours that no marker vouches for; young finds may be attempts under way.

    A shard whose only marker is in quarantine, or belongs to a part of the plan that is not
    there, is not garbage: with the marker mended or the part restored it would count again.

    Raises:
        StoreError: no store there, or its plan or a marker cannot be read.
    """
    fingerprint = read_spec(store).fingerprint
    # Markers are read after the files are listed: what is committed in between is vouched for.
    attempts = [
        *_matching(store / "shards", _ATTEMPT),
        *_matching(store / "thumbs", _ATTEMPT),
    ]
    commits = load_commits(store, load_plan(store), fingerprint)
    quarantined = _matching(store / "commits" / "quarantine", _QUARANTINED)
    vouched = {commit.stem for commit in commits.values()}
    claimed = {_shard(name) for name in (*marker_names(store), *(p.name for p in quarantined))}
    spared = claimed - set(commits)
    found = [
        (path, "uncommitted attempt")
        for path in attempts
        if path.stem not in vouched and _shard(path.name) not in spared
    ]
    found += [(p, "quarantined marker") for p in quarantined if _shard(p.name) not in spared]
    for folder in (store, store / "plan", store / "commits"):
        found += [(path, "temporary") for path in _matching(folder, _TEMPORARY)]
    return [Garbage(path, why, *_weigh(path)) for path, why in found]


def superseded_commits(store: StorePath) -> list[Commit]:
    """Commits with files, all of whose rows a later shard replaced.

    Their markers vouch for the files and the plan asks for the markers, so they are kept:
    without them the shards would be extracted again, and verifying would miss the files.
    """
    counting = {row.shard for row in read_rows(store).values()}
    commits = load_commits(store, load_plan(store), read_spec(store).fingerprint)
    return [c for shard, c in sorted(commits.items()) if c.files and shard not in counting]


def remove_garbage(found: Iterable[Garbage]) -> None:
    """Remove files and folders.

    Raises:
        StoreError: one cannot be removed.
    """
    for garbage in found:
        with disk_errors("cannot remove", garbage.path):
            # A name sorts before the names below it: what is in a folder goes first.
            for path in sorted((garbage.path, *garbage.path.rglob("*")), reverse=True):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)


def disk_usage(path: StorePath) -> int:
    """Bytes of all files below a folder; those that come and go meanwhile count for nothing."""
    return sum(_weigh(found)[0] for found in path.iterdir())


def _matching(folder: StorePath, pattern: re.Pattern[str]) -> list[StorePath]:
    return [folder / name for name in list_names(folder) if pattern.fullmatch(name)]


def _shard(name: str) -> int:
    return int(re.split(r"[-.]", name)[0])


def _weigh(path: StorePath) -> tuple[int, float]:
    """Bytes of a file or a folder, and hours since its latest change."""
    now, num_bytes, changed = time.time(), 0, 0.0
    try:
        for found in (path, *path.rglob("*")):
            facts = found.stat()
            num_bytes += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
            changed = max(changed, facts.st_mtime)
    except FileNotFoundError:
        changed = now  # somebody is at work there
    return num_bytes, (now - changed) / 3600
