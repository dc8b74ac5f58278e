"""What was asked and what came back, so that nothing is paid for twice.

`ledger.jsonl` only grows. A row `attempt` is there before its request leaves and a row `reply` as
soon as the answer is, so a process that is killed at any moment loses at most what was under way.
Rows go to the operating system at once, not to the disk: they outlive the process, not the power.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from rich.console import Console

from eval.judges.asking import Reply
from features.durable import disk_errors
from features.errors import RedVillmError

LEDGER = "ledger.jsonl"
_REPLY = b'{"row": "reply", '


class Ledger:
    """The replies to one judge, by the key of what was asked.

    Used as a context, it belongs to one process at a time: a second one waits. Without that it can
    only be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self.replies: dict[str, list[Reply]] = {}
        """All that came back to each key, the oldest first, as of the last `read`."""
        self._size = 0
        """Bytes that were read."""
        self._file: int | None = None
        self._attempts: dict[str, str] = {}
        """The id of the last attempt at each key by this process."""

    def __enter__(self) -> Ledger:
        """Take the ledger, read what others appended, and drop a torn last line.

        Raises:
            StoreError: cannot write there.
            RedVillmError: damaged.
        """
        with disk_errors("cannot open a ledger", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            self._lock(self._file)
            self.read()
            os.ftruncate(self._file, self._size)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def read(self) -> None:
        """Read rows that were appended since the last time; a torn last line does not exist.

        Raises:
            RedVillmError: a whole line is no row.
        """
        if not self.path.exists():
            return
        if self.path.stat().st_size < self._size:  # another one: somebody removed the old one
            self._size = 0
            self.replies.clear()
        with self.path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if line.startswith(_REPLY):
                    self._keep(line)
                self._size += len(line)

    def attempt(self, key: str) -> str:
        """Record that a request is about to leave; returns the attempt's id."""
        name = uuid4().hex
        self._attempts[key] = name
        self._append({"row": "attempt", "attempt": name, "key": key, "time": time.time()})
        return name

    def reply(self, key: str, reply: Reply) -> None:
        """Record what came back to the last attempt at a key."""
        attempt = self._attempts.get(key, "")
        row = {"row": "reply", "attempt": attempt, "key": key, "time": time.time()}
        self._append({**row, **asdict(reply)})
        self.replies.setdefault(key, []).append(reply)

    def _append(self, row: dict[str, object]) -> None:
        if self._file is None:
            raise RuntimeError("a ledger is written to inside `with`")
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="surrogatepass")
        with disk_errors("cannot write to a ledger", self.path):
            if os.write(self._file, line) < len(line):
                raise OSError("the disk took a part of a line")
        self._size += len(line)

    def _keep(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            fields = {name: row[name] for name in Reply.__dataclass_fields__}
            self.replies.setdefault(row["key"], []).append(Reply(**fields))
        except (ValueError, KeyError, TypeError) as error:
            where, do = f"{self.path}, byte {self._size}", "remove that line"
            raise RedVillmError("a damaged ledger", where=where, got=error, do=do) from error

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"{self.path}: another process is asking; waiting for it"
            Console(stderr=True).print(text, markup=False)
            fcntl.flock(file, fcntl.LOCK_EX)


class ReadOnlyLedger(Ledger):
    """A ledger of replies that are replayed: it is read, and what is added lives in memory alone.

    A replay asks nobody, so there is nothing to pay for twice and nobody to wait for.
    """

    def __enter__(self) -> ReadOnlyLedger:
        self.read()
        return self

    def _append(self, row: dict[str, object]) -> None:
        pass
