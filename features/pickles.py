"""Video-ChatGPT's feature files: a pickle a video, (T + N, D) float16, temporal rows first.

A pickle can run any code. These are read without any: the few names that a pickled array needs
stand for classes of this module, so that not even numpy is called by the file, and every other
name is refused.
"""

from __future__ import annotations

import pickle
import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float, Float16

from features.durable import escape_name, replace_file
from features.errors import StoreError

SUFFIX = ".pkl"


class _Dtype:
    """Stands for numpy.dtype: remembers the name and the byte order."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands for numpy.ndarray and its `_reconstruct`: remembers shape, dtype and bytes."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state[1:]


class _FromBuffer(_Array):
    """Stands for numpy's `_frombuffer`, as protocol 5 spells an array."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.state = shape, dtype, order == "F", data


class _Encoded(bytes):
    """Stands for `_codecs.encode`, as protocols 0 to 2 spell bytes."""

    def __new__(cls, text: str, encoding: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise TypeError("bytes have no state")


_ADMITTED: dict[tuple[str, str], type[Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
    **{(f"numpy.{c}.multiarray", "_reconstruct"): _Array for c in ("core", "_core")},
    **{(f"numpy.{c}.numeric", "_frombuffer"): _FromBuffer for c in ("core", "_core")},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Any]:
        """The stand-in of an admitted name.

        Raises:
            StoreError: any other name.
        """
        if (module, name) not in _ADMITTED:
            raise StoreError("it asks for more than an array", got=f"{module}.{name}")
        return _ADMITTED[module, name]


def load_array(data: bytes) -> Float16[np.ndarray, ...]:
    """The one float16 array in a pickle of any protocol, by numpy 1 or 2.

    Raises:
        StoreError: the pickle asks for anything else; the name is in the message.
        ValueError: damaged, or no float16 array.
    """
    try:
        # One flipped bit can ask for a memo of 2^31 places; too long a text ends in an error here.
        for code, number, _ in pickletools.genops(data):
            if code.name in ("PUT", "LONG_BINPUT") and int(number or 0) > len(data):
                raise ValueError(f"memo {number}")
        # latin1: how Python 2 wrote an array's bytes
        shape, dtype, fortran, raw = _ArrayUnpickler(BytesIO(data), encoding="latin1").load().state
        if dtype.name != "f2" or dtype.order not in ("<", ">"):
            raise ValueError(f"dtype {dtype.order}{dtype.name}, not float16")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        numbers = np.frombuffer(raw, f"{dtype.order}f2").astype(np.float16)
        return numbers.reshape(shape, order="F" if fortran else "C")
    except StoreError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ValueError(f"no pickled array: {type(error).__name__}: {error}") from error


def split_rows(
    array: Float16[np.ndarray, ...], num_frames: int
) -> tuple[Float[np.ndarray, "T D"], Float[np.ndarray, "N D"]]:
    """Temporal rows without the zeros that pad them to `num_frames`, and spatial rows.

    Raises:
        ValueError: not (num_frames + N, D), or no frame at all.
    """
    if array.ndim != 2 or len(array) <= num_frames:
        raise ValueError(f"shape {array.shape}, not ({num_frames} + N, D)")
    temporal, spatial = array[:num_frames], array[num_frames:]
    filled = np.flatnonzero(temporal.any(axis=1))
    if not len(filled):
        raise ValueError("all temporal rows are zero")
    return temporal[: filled[-1] + 1], spatial


def join_rows(
    temporal: Float[np.ndarray, "T D"], spatial: Float[np.ndarray, "N D"], num_frames: int
) -> Float16[np.ndarray, "rows D"]:
    """The inverse of `split_rows`; what float16 cannot hold becomes infinite."""
    padding = np.zeros((num_frames - len(temporal), temporal.shape[1]), np.float16)
    with np.errstate(over="ignore"):
        return np.concatenate([temporal, padding, spatial]).astype(np.float16)


def save_array(path: Path, array: Float16[np.ndarray, "rows D"]) -> bool:
    """Write a pickle of protocol 4 atomically; False when the same array is there already.

    Raises:
        StoreError: another file is in its place, or the folder cannot be written.
    """
    if path.exists():
        try:
            there = load_array(path.read_bytes())
        except ValueError:
            there = np.zeros(0, np.float16)
        if there.shape == array.shape and there.tobytes() == array.tobytes():
            return False
        do = "move it away, or export into another folder"
        raise StoreError("another file is in its place", where=path, do=do)
    replace_file(path, pickle.dumps(array, protocol=4), "export")
    return True


def file_name(video_id: str) -> str:
    """Name of a video's file: the id, and what no file name can hold as %XX.

    Raises:
        StoreError: the name would be cut, so that the id could not be had back from it.
    """
    name = escape_name(video_id)
    if unquote(name) != video_id:
        raise StoreError("an id too long for a file name", got=video_id[:80])
    return name + SUFFIX


def find_pickles(folder: Path) -> dict[str, Path]:
    """The pickles of a folder by video id: the file's name, with %XX read back if we wrote it.

    Raises:
        StoreError: there is none, or two stand for one id.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        read = unquote(path.stem)
        video_id = read if escape_name(read) == path.stem else path.stem
        if video_id in found:
            raise StoreError("two files for one video id", where=path, got=found[video_id])
        found[video_id] = path
    if not found:
        raise StoreError("no pickles there", where=folder, wanted=f"<video id>{SUFFIX}")
    return found
