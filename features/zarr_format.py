"""Shards as Zarr v3: one sharded file an array, one video a chunk, crc32c on each chunk.

Lossless compression of float16 features gains 8 % at best, so there is none. Zarr reads a chunk
that was never written as the fill value: hence NaN, and -1 for counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float, Int32
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import FsspecStore

from features.durable import commit_point
from features.places import StorePath


class ZarrReader:
    """One open group; zarr opens the files at each read, so there is no handle to leak."""

    def __init__(self, path: StorePath) -> None:
        where: Any = (
            path
            if isinstance(path, Path)
            else FsspecStore.from_url(
                str(path), {"use_listings_cache": False, "max_concurrency": 1}, read_only=True
            )
        )
        group = zarr.open_group(where, mode="r", zarr_format=3)
        # zarr types a group's member as array or group, and what it reads as anything.
        self._temporal: Any = group["temporal"]
        self._spatial: Any = group["spatial"]
        num_frames: Any = group["num_frames"]
        self._num_frames = num_frames[:]

    def read(self, row: int) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "N D"], int]:
        """See ShardReader: two byte ranges (index and chunk) of each array's file."""
        return self._temporal[row], self._spatial[row], int(self._num_frames[row])

    def close(self) -> None:
        """Nothing is open."""


class ZarrFormat:
    """See ShardFormat."""

    suffix = ".zarr"

    def write(
        self,
        path: Path,
        temporal: Float[np.ndarray, "V T D"],
        spatial: Float[np.ndarray, "V N D"],
        num_frames: Int32[np.ndarray, " V"],
    ) -> None:
        """See ShardFormat."""
        group = zarr.open_group(path, mode="w-", zarr_format=3)
        _write(group, "temporal", temporal, 1, float("nan"))
        commit_point("shard-half-written")
        _write(group, "spatial", spatial, 1, float("nan"))
        _write(group, "num_frames", num_frames, len(num_frames), -1)

    def open(self, path: StorePath) -> ZarrReader:
        """See ShardFormat."""
        return ZarrReader(path)


def _write(
    group: zarr.Group, name: str, data: np.ndarray, videos_per_chunk: int, fill: int | float
) -> None:
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=(videos_per_chunk, *data.shape[1:]),
        shards=data.shape,
        filters=None,
        serializer=BytesCodec(endian="little"),
        compressors=[Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": True},
    )
    array[...] = data
