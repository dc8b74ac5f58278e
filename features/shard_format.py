"""What a shard's file format must do, and which formats there are.

A format knows arrays and paths, nothing of plans, commits or videos: the two of them share one
contract suite, and a third is one module and one line here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int32

from features.errors import StoreError
from features.hdf5_format import Hdf5Format
from features.places import StorePath
from features.zarr_format import ZarrFormat


@runtime_checkable
class ShardReader(Protocol):
    """One open shard. Not to be shared with a forked process."""

    def read(self, row: int) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "N D"], int]:
        """One video's rows (padding included) and how many temporal rows are valid.

        Raises any exception when the bytes are damaged or gone; rows never written are NaN or -1.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


@runtime_checkable
class ShardFormat(Protocol):
    """A way to keep V videos' arrays in one file or folder."""

    suffix: str

    def write(
        self,
        path: Path,
        temporal: Float[np.ndarray, "V T D"],
        spatial: Float[np.ndarray, "V N D"],
        num_frames: Int32[np.ndarray, " V"],
    ) -> None:
        """Write a new file or folder; refuses one that exists. Flushing to disk is the caller's."""
        ...

    def open(self, path: StorePath) -> ShardReader:
        """Open a shard for reading single videos."""
        ...


FORMATS: dict[str, ShardFormat] = {"zarr": ZarrFormat(), "hdf5": Hdf5Format()}


def get_format(name: str) -> ShardFormat:
    """The format of that name.

    Raises:
        StoreError: there is none.
    """
    if name not in FORMATS:
        raise StoreError("unknown shard format", got=name, wanted=sorted(FORMATS))
    return FORMATS[name]
