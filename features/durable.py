"""Files that are either there whole or not there at all, whatever is pulled out of the wall.

Everything a store trusts is published here: written beside its place, flushed to the disk, and
then linked (first writer wins) or renamed (last writer wins) into place. Nothing takes a lock.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from features.errors import StoreError

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


def publish_new(path: Path, data: bytes, point: str) -> bool:
    """Put a whole new file in place exclusively: of many writers exactly one gets True.

    Raises:
        StoreError: the file system has no hard links.
    """
    beside = _write_beside(path, data, point)
    try:
        os.link(beside, path)
    except FileExistsError:
        # A network file system can lose the answer to a link that worked: then there are two names.
        return os.stat(beside).st_nlink == 2
    except PermissionError as error:
        raise StoreError(
            "cannot link a file into place",
            where=path,
            got=error,
            do="put the store on a file system with hard links, where you may write",
        ) from error
    finally:
        beside.unlink()
    commit_point(f"{point}-linked")
    fsync_path(path.parent)
    commit_point(f"{point}-done")
    return True


def replace_file(path: Path, data: bytes, point: str) -> None:
    """Put a whole file in place of an older one; readers see the old or the new, never a mix."""
    os.replace(_write_beside(path, data, point), path)
    fsync_path(path.parent)
    commit_point(f"{point}-done")


def _write_beside(path: Path, data: bytes, point: str) -> Path:
    beside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with beside.open("xb") as file:
        file.write(data)
        file.flush()
        commit_point(f"{point}-written")
        os.fsync(file.fileno())
    commit_point(f"{point}-synced")
    return beside


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in pieces."""
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
