"""Files that are either there whole or not there at all, whatever is pulled out of the wall.

Everything a store trusts is published here: written beside its place, flushed to the disk, and
then linked (first writer wins) or renamed (last writer wins) into place. On S3 it is one PUT, with
a condition where the first writer wins. Nothing in a store takes a lock; `only_one` is for folders
that the processes of one machine work in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from upath import UPath

from features.errors import RedVillmError, StoreError
from features.places import StorePath, as_os_errors, put, put_if, read_bytes

KILL_VARIABLE = "REDVILLM_KILL_AT"
_visits: Counter[str] = Counter()


def commit_point(name: str) -> None:
    """Mark a moment at which a crash must lose nothing; tests make the process die there.

    `REDVILLM_KILL_AT=name` kills this process (SIGKILL) at its first visit, `name:3` at the third.
    """
    wanted, _, count = os.environ.get(KILL_VARIABLE, "").partition(":")
    if wanted == name:
        _visits[name] += 1
        if _visits[name] >= int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def fsync_path(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Flush a file or everything in a folder, and the folder that holds it."""
    for found in (*path.rglob("*"), path, path.parent):
        fsync_path(found)


@contextmanager
def disk_errors(what: str, where: object) -> Iterator[None]:
    """Turn the system's errors (full, read-only, gone) into ours, which say what and where."""
    try:
        with as_os_errors():
            yield
    except OSError as error:
        remote = str(where).startswith("s3://")
        do = "the bucket, the keys' rights, AWS_ENDPOINT_URL" if remote else "space and permissions"
        raise StoreError(what, where=where, got=error, do=f"check {do}") from error


def publish_new(path: StorePath, data: bytes, point: str) -> bool:
    """Put a whole new file in place exclusively: of many writers exactly one gets True.

    Raises:
        StoreError: cannot write there, or the file system has no hard links.
    """
    if isinstance(path, UPath):
        with disk_errors("cannot put a new object in place", path):
            commit_point(f"{point}-written")
            first = put_if(path, data, IfNoneMatch="*")
            commit_point(f"{point}-done")
            return first
    with disk_errors("cannot link a new file into place", path), _beside(path, data, point) as new:
        try:
            os.link(new, path)
        except FileExistsError:
            # A network file system can lose the answer to a link that worked: then there are two.
            return os.stat(new).st_nlink == 2
        commit_point(f"{point}-linked")
        fsync_path(path.parent)
        commit_point(f"{point}-done")
        return True


def replace_file(path: StorePath, data: bytes, point: str) -> None:
    """Put a whole file in place of an older one; readers see the old or the new, never a mix.

    Raises:
        StoreError: cannot write there.
    """
    if isinstance(path, UPath):
        with disk_errors("cannot replace an object", path):
            put(path, data)
        return
    with disk_errors("cannot replace a file", path), _beside(path, data, point) as new:
        os.replace(new, path)
        fsync_path(path.parent)
        commit_point(f"{point}-done")


def replace_json(path: StorePath, record: object, point: str) -> None:
    """`replace_file` with a record as JSON to read; half a character becomes JSON's own escape.

    Raises:
        StoreError: cannot write there.
    """
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    replace_file(path, text.encode(errors="backslashreplace"), point)


@contextmanager
def only_one(folder: Path, does: str, patience_s: float = 0.0) -> Iterator[None]:
    """No other process that asks for the same is inside meanwhile; a killed one leaves nothing.

    Args:
        folder: what is worked in; made if it is not there.
        does: what is done there, for the message: `runs this study`.
        patience_s: how long to wait for whoever is inside.

    Raises:
        RedVillmError: somebody is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with (folder / ".lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    what, do = f"another process {does}", "wait for it, or stop it"
                    raise RedVillmError(what, where=folder, do=do) from error
                time.sleep(0.2)
        yield


@contextmanager
def _beside(path: Path, data: bytes, point: str) -> Iterator[Path]:
    """A flushed temporary file in the same folder, gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            commit_point(f"{point}-written")
            os.fsync(file.fileno())
        commit_point(f"{point}-synced")
        yield new
    finally:
        new.unlink(missing_ok=True)


def file_sha256(path: StorePath) -> str:
    """sha256 (hex) of a file's bytes, read in pieces, or of a remote one's."""
    if isinstance(path, UPath):
        return hashlib.sha256(read_bytes(path)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def escape_name(name: str) -> str:
    """A file name for any text: one path component, at most 200 ASCII characters, one to one.

    Names of plain letters, digits and `_.-~` stay as they are. Separators, blanks and all else
    become %XX, so does the first character of `..`, `.hidden` and Windows' devices; long names end
    in a hash.
    """
    escaped = quote(name, safe="", errors="surrogatepass")
    device = name.partition(".")[0].upper()
    reserved = {"CON", "PRN", "AUX", "NUL"} | {f"{k}{i}" for k in ("COM", "LPT") for i in range(10)}
    if name.startswith(".") or device in reserved:
        escaped = f"%{ord(name[0]):02X}{escaped[1:]}"
    if len(escaped) > 200:
        # "%-" is no escape, so a cut name never equals a name that was not cut.
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        return f"{escaped[:120]}%-{digest}"
    return escaped or "%"
