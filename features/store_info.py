"""A store at a glance."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from features.catalog import content_digest, read_rows, read_spec, read_statuses
from features.commit import load_commits
from features.errors import StoreError
from features.garbage import disk_usage, find_garbage, superseded_commits
from features.places import StorePath
from features.plan import STATUS_OK, load_plan
from features.reader import FeatureStore


@dataclass(frozen=True)
class StoreInfo:
    """What a store is and what it holds."""

    store: str
    spec: dict[str, Any]
    """All fields, with schema version and fingerprint."""
    patches: int | None
    """N; None when no video can be read."""
    width: int | None
    """D; None when no video can be read."""
    content_digest: str
    ok: int
    """Videos with features."""
    failed: dict[str, int]
    """Videos without, by failure code."""
    waiting: int
    """Planned videos that are not done."""
    shards: dict[str, int]
    """Committed shards by format, and those `waiting`."""
    parts: int
    """Parts of the plan."""
    decoders: dict[str, int]
    """Videos by decoder and its version."""
    num_bytes: int
    """On disk, garbage included."""
    garbage_bytes: int
    """What no marker vouches for; some of it may be under way."""
    superseded_shards: int
    """Shards with files, all of whose rows a later shard replaced."""


def shard_formats(store: StorePath) -> dict[str, int]:
    """Committed shards by file format."""
    commits = load_commits(store, load_plan(store), read_spec(store).fingerprint)
    return dict(Counter(commit.format for commit in commits.values()))


def store_info(store: StorePath) -> StoreInfo:
    """Look at markers, plan and one video.

    Raises:
        StoreError: no store there, or it is damaged.
    """
    features, plan = FeatureStore(store), load_plan(store)
    statuses = read_statuses(store)
    failed = Counter(status for status in statuses.values() if status != STATUS_OK)
    shards = shard_formats(store)
    rows = [row for row in read_rows(store).values() if row.status == STATUS_OK]
    decoders = (f"{row.decoder} {row.decoder_version}".strip() for row in rows)
    patches = width = None
    with suppress(StoreError):  # damage is verify's to tell
        for video_id in features.ids[:1]:
            patches, width = features[video_id].spatial.shape
    return StoreInfo(
        store=str(store),
        spec=features.spec.to_dict(),
        patches=patches,
        width=width,
        content_digest=content_digest(store),
        ok=len(statuses) - failed.total(),
        failed=dict(sorted(failed.items())),
        waiting=len(plan.latest()) - len(statuses),
        shards={**shards, "waiting": len(plan.shards()) - sum(shards.values())},
        parts=len(plan.part_hashes),
        decoders=dict(Counter(decoders)),
        num_bytes=disk_usage(store),
        garbage_bytes=sum(garbage.num_bytes for garbage in find_garbage(store)),
        superseded_shards=len(superseded_commits(store)),
    )
