"""Feature stores, as the other stages see them: one import for making, writing and reading.

    create_store → extend_plan → write_shard (any order, any process) → compact_index
    FeatureStore(path)[video_id] → temporal (T', D), spatial (N, D)

plan.py says what belongs where, commit.py what exists, catalog.py what the folder says about
itself, writer.py and reader.py do the work, *_format.py know the files of one shard.
"""

from __future__ import annotations

from features.catalog import (
    compact_index,
    content_digest,
    create_store,
    pending_shards,
    read_spec,
    read_statuses,
    store_path,
)
from features.commit import Commit, CommitRow
from features.plan import STATUS_MISSING, STATUS_OK
from features.reader import FeatureStore, StoreCheck, VideoFeatures, verify_store
from features.writer import VideoRow, write_shard

__all__ = [
    "STATUS_MISSING",
    "STATUS_OK",
    "Commit",
    "CommitRow",
    "FeatureStore",
    "StoreCheck",
    "VideoFeatures",
    "VideoRow",
    "compact_index",
    "content_digest",
    "create_store",
    "pending_shards",
    "read_spec",
    "read_statuses",
    "store_path",
    "verify_store",
    "write_shard",
]
