"""Shards as HDF5: one file, one video a chunk, fletcher32 on each chunk.

One file a shard, for tools that read HDF5. Unreadable after a crash in mid-write, which is harmless
here: attempts without a commit marker do not exist. The 1.10 file format has checksums over its
own structure as well.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int32

from features.durable import commit_point
from features.places import StorePath, open_file


class Hdf5Reader:
    """One open file. The store opens it in the process that reads and never shares it."""

    def __init__(self, path: StorePath) -> None:
        # Locks fail on many network file systems, and immutable files need none. Without the chunk
        # cache a reader's memory does not grow with the number of open shards.
        source = path if isinstance(path, Path) else open_file(path)
        self._file = h5py.File(source, "r", locking=False, rdcc_nbytes=0)
        self._temporal, self._spatial = self._file["temporal"], self._file["spatial"]
        self._num_frames = self._file["num_frames"][:]

    def read(self, row: int) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "N D"], int]:
        """See ShardReader."""
        return self._temporal[row], self._spatial[row], int(self._num_frames[row])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Hdf5Format:
    """See ShardFormat."""

    suffix = ".h5"

    def write(
        self,
        path: Path,
        temporal: Float[np.ndarray, "V T D"],
        spatial: Float[np.ndarray, "V N D"],
        num_frames: Int32[np.ndarray, " V"],
    ) -> None:
        """See ShardFormat. Made in memory: HDF5 takes the process down when a disk is full."""
        version = ("v110", "v110")
        with h5py.File(path.name, "w", driver="core", backing_store=False, libver=version) as made:
            _write(made, "temporal", temporal, 1, float("nan"))
            _write(made, "spatial", spatial, 1, float("nan"))
            _write(made, "num_frames", num_frames, len(num_frames), -1)
            made.flush()
            image = memoryview(made.id.get_file_image())
        with path.open("xb") as file:
            file.write(image[: len(image) // 2])
            commit_point("shard-half-written")
            file.write(image[len(image) // 2 :])

    def open(self, path: StorePath) -> Hdf5Reader:
        """See ShardFormat."""
        return Hdf5Reader(path)


def _write(
    file: h5py.File, name: str, data: np.ndarray, videos_per_chunk: int, fill: int | float
) -> None:
    chunks = (videos_per_chunk, *data.shape[1:])
    file.create_dataset(name, data=data, chunks=chunks, fletcher32=True, fillvalue=fill)
