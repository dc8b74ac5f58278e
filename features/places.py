"""Where a store lies: a folder, or a prefix in a bucket of any server that speaks S3.

A folder is a `Path`, a prefix universal_pathlib's `UPath`. Code that joins names and reads whole
files need not know which; here is what must. Listings and files always come from the server, and
the keys from the environment, as the AWS command line takes them (AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL and so on).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from upath import UPath

from features.errors import StoreError

StorePath: TypeAlias = Path | UPath

_ONE_PUT = {"chunksize": 5 * 2**30}  # what is larger would go in parts, without the condition
_ONE_GET = {"max_concurrency": 1}  # no question beforehand how large the object is
_AHEAD = 1 << 16  # bytes: the rest of a file's own tables comes with their beginning
_BATCH = 256


def place(text: str | StorePath) -> StorePath:
    """The folder or S3 prefix of that name.

    Raises:
        StoreError: a kind of storage without exclusive creation, no bucket, or no s3fs.
    """
    found = re.fullmatch(r"([A-Za-z][\w+.-]+):/+(.*)", str(text))  # pathlib joins slashes
    if found is None:
        return Path(text)  # type: ignore[arg-type]
    scheme, rest = found[1].lower(), found[2].rstrip("/")
    if scheme != "s3":
        raise StoreError("no store can lie there", where=text, wanted="a folder, or s3://bucket/x")
    if not rest or set(rest) & set("*?[]"):
        raise StoreError("not a bucket and a plain prefix", where=text, wanted="s3://bucket/prefix")
    if find_spec("s3fs") is None:
        raise StoreError("S3 needs another package", where=text, do="pip install -e '.[s3]'")
    return UPath(f"s3://{rest}", use_listings_cache=False)


def _client(path: UPath) -> Any:
    """The client for a path: fsspec makes one for each process, for none outlives a fork."""
    return place(path).fs  # type: ignore[union-attr]


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Let what the S3 client raises of itself (no keys, no connection) pass as an OSError."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp"):
            raise OSError(str(error)) from error
        raise


def list_names(folder: StorePath) -> list[str]:
    """Names in a folder, sorted; none when there is no such folder."""
    if isinstance(folder, UPath):
        return sorted(list_versions(folder))
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def list_versions(folder: StorePath) -> dict[str, tuple[int, int | str]]:
    """By name, the size and what else changes when a file is replaced; reads no file."""
    found: dict[str, tuple[int, int | str]] = {}
    if isinstance(folder, UPath):
        with suppress(FileNotFoundError), as_os_errors():
            for facts in _client(folder).ls(folder.path, detail=True, refresh=True):
                found[facts["name"].rpartition("/")[2]] = (facts["size"], facts.get("ETag", ""))
        return found
    for name in list_names(folder):
        with suppress(FileNotFoundError):  # moved by somebody else
            stat = (folder / name).stat()
            found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def read_bytes(path: StorePath) -> bytes:
    """A whole file; any trouble is an OSError."""
    if isinstance(path, UPath):
        with as_os_errors():
            return bytes(_client(path).cat_file(path.path, **_ONE_GET))
    return path.read_bytes()


def read_each(paths: Sequence[StorePath]) -> Iterator[bytes | None]:
    """Whole files in order, None for one that is not there; remote ones many at a time."""
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        remote = [path for path in batch if isinstance(path, UPath)]
        found = {}
        if remote:
            keys = [path.path for path in remote]
            found = _client(remote[0]).cat(keys, on_error="return", **_ONE_GET)
        for path in batch:
            try:
                with as_os_errors():
                    data = found[path.path] if isinstance(path, UPath) else path.read_bytes()
                    if isinstance(data, Exception):
                        raise data
                yield data
            except FileNotFoundError:
                yield None


def read_range(path: UPath, offset: int, size: int) -> bytes:
    """Bytes from an offset, which counts from the end if negative; any trouble is an OSError."""
    end = None if offset < 0 else offset + size
    with as_os_errors():
        return bytes(_client(path).cat_file(path.path, start=offset, end=end))


def open_file(path: UPath) -> Any:
    """A remote file for random reads: each fetches what was asked for and a little more."""
    with as_os_errors():
        return _client(path).open(path.path, "rb", block_size=_AHEAD, cache_type="readahead")


def version_of(path: UPath) -> str:
    """An object's ETag; any trouble is an OSError."""
    with as_os_errors():
        return str(_client(path).info(path.path)["ETag"])


def put(path: UPath, data: bytes) -> None:
    """Create or replace an object."""
    with as_os_errors():
        _client(path).pipe_file(path.path, data, **_ONE_PUT)


def put_if(path: UPath, data: bytes, **condition: str) -> bool:
    """One PUT that the server refuses unless the condition holds: of many writers one gets True.

    The reply to a PUT that worked can be lost; the client's second try is then refused. So a
    refused writer looks whether the bytes in place are its own.

    Args:
        path: the object.
        data: its bytes.
        condition: `IfNoneMatch="*"` (nothing is there) or `IfMatch=etag` (that version is there).

    Raises:
        OSError: the server cannot be reached or has other objections.
    """
    for pause in (0.1, 0.4, 1.6, None):
        try:
            with as_os_errors():
                _client(path).pipe_file(path.path, data, **_ONE_PUT, **condition)
            return True
        except OSError as error:
            status = _http_status(error)
            if status == 409 and pause:  # met another writer: S3 wants to be asked again
                time.sleep(pause)
                continue
            if status != 412 and (status, *condition) != (404, "IfMatch"):
                raise
            break
    with suppress(FileNotFoundError):
        return read_bytes(path) == data
    return False


def check_conditions(prefix: UPath) -> None:
    """Refuse a server that ignores conditions: late writers would overwrite commits there.

    Raises:
        StoreError: the server accepted a PUT that it had to refuse.
        OSError: the server cannot be reached or has other objections.
    """
    probe = prefix / f"probe-{uuid4().hex}"
    put(probe, b"1")
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0"'}):
        if put_if(probe, b"2", **condition):
            remove(probe)
            raise StoreError(
                "this server knows no conditional writes, so commits would not be safe",
                where=prefix,
                got=f"it ignores {condition}",
                do="extract to a folder or another server",
            )
    remove(probe)


def _http_status(error: OSError) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def upload(folder: Path, target: UPath) -> None:
    """Copy all files of a folder to a prefix, read every byte back and compare.

    Checksums that the server computes would be cheaper to compare, but which there are depends on
    the server, on encryption and on the number of parts; beside the ViT, reading is nothing.

    Raises:
        OSError: cannot write there, or the bytes read back are others.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    keys = [(target / path.relative_to(folder).as_posix()).path for path in files]
    if not files:
        return
    with as_os_errors():
        _client(target).put([str(path) for path in files], keys)
        found = _client(target).cat(keys, **_ONE_GET)
    for path, key in zip(files, keys, strict=True):
        if found[key] != path.read_bytes():
            raise OSError(f"{key} reads back otherwise than it was written")


def remove(path: UPath) -> None:
    """Remove an object or all below a prefix; what cannot be removed stays."""
    with suppress(Exception):
        _client(path).rm(path.path, recursive=True)
