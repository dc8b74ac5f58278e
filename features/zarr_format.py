"""Shards as Zarr v3: one sharded file an array, one video a chunk, crc32c on each chunk.

Lossless compression of float16 features gains 8 % at best, so there is none. Zarr reads a chunk
that was never written as the fill value: hence NaN, and -1 for counts.

zarr takes nine times as long as numpy.load for a video (threads, and the shard's index anew each
time), TensorStore three times, and it aborts a forked DataLoader worker. Shards never change, so
here the index is read once, and a read is one byte range and its checksum: as fast as numpy.load.
A shard that is laid out otherwise is left to zarr.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Float, Int32
from upath import UPath
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import FsspecStore

from features.durable import commit_point
from features.places import StorePath, read_range

_UNWRITTEN = 2**64 - 1


class ShardFile:
    """The one shard of an array as `_write` lays it out, by row.

    Args:
        array: for shape, dtype and fill value.
        path: the shard's file; opened at each read, so there is no handle to leak.

    Raises:
        ValueError: the shard's index is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, array: Any, path: StorePath) -> None:
        self._path, self._shape, self._fill = path, array.shape[1:], array.fill_value
        self._dtype = array.dtype.newbyteorder("<")
        size = 16 * array.shape[0] + 4
        end = 0 if isinstance(path, UPath) else path.stat().st_size
        index = self._read(end - size, size)
        self._index = index.view("<u8").reshape(-1, 2).tolist()

    def __getitem__(self, row: int) -> np.ndarray:
        offset, size = self._index[row]
        if offset == _UNWRITTEN:
            return np.full(self._shape, self._fill, self._dtype)
        chunk: np.ndarray = self._read(offset, size).view(self._dtype).reshape(self._shape)
        return chunk

    def _read(self, offset: int, size: int) -> np.ndarray:
        """A byte range without the crc32c at its end."""
        if isinstance(self._path, UPath):
            data = np.frombuffer(bytearray(read_range(self._path, offset, size)), np.uint8)
        else:
            data = np.fromfile(self._path, np.uint8, size, offset=offset)
        checksum = int.from_bytes(data[-4:].tobytes(), "little")
        if data.size != size or google_crc32c.value(data[:-4]) != checksum:
            raise ValueError(f"wrong checksum of {size} bytes at {offset} of {self._path}")
        return data[:-4]


class ZarrReader:
    """One open shard; the files are opened at each read, so there is no handle to leak."""

    def __init__(self, path: StorePath) -> None:
        options = {"use_listings_cache": False, "max_concurrency": 1}
        remote = isinstance(path, UPath)
        where: Any = FsspecStore.from_url(str(path), options, read_only=True) if remote else path
        group = zarr.open_group(where, mode="r", zarr_format=3)
        self._temporal = _by_row(group["temporal"], path / "temporal")
        self._spatial = _by_row(group["spatial"], path / "spatial")
        # zarr types a group's member as array or group, and what it reads as anything.
        num_frames: Any = group["num_frames"]
        self._num_frames = num_frames[:]

    def read(self, row: int) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "N D"], int]:
        """See ShardReader."""
        return self._temporal[row], self._spatial[row], int(self._num_frames[row])

    def close(self) -> None:
        """Nothing is open."""


def _by_row(array: Any, folder: StorePath) -> Any:
    """What gives an array's rows soonest: itself, when its layout is not `_write`'s."""
    layout = ShardingCodec(
        chunk_shape=(1, *array.shape[1:]), codecs=[BytesCodec(endian="little"), Crc32cCodec()]
    )
    if array.shards != array.shape or array.metadata.codecs != (layout,):
        return array
    return ShardFile(array, folder / array.metadata.encode_chunk_key((0,) * array.ndim))


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
