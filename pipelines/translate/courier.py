"""Requests are made by a process of their own, which outlives a command that is killed.

A request that is under way is paid for whoever waits for its reply. The courier therefore sends no
more when its command is gone, waits for what is under way, and writes it to the ledger; the lock
of the ledger is its own, so the next command waits for it and then reads what came.

Lines of JSON go both ways: a translator and a list of texts to the courier; from it `ready` once
the ledger is its own, a reply at a time (already in the ledger), and `done` or an error.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from eval.judges.asking import Reply
from eval.judges.ledger import Ledger
from features.durable import disk_errors
from features.errors import RedVillmError
from pipelines.translate.engines import Ask, make_engine
from pipelines.translate.options import Translator, TranslatorConfig

LOG = "courier.log"
"""In the ledger's folder: what the courier's libraries had to say."""
_PATIENCE_S = 5.0
"""Seconds until it is said that an earlier courier is waited for."""


class Courier:
    """The command's end: started on entering, let go on leaving, whatever is under way."""

    def __init__(
        self, translator: Translator, folder: Path, max_characters: int | None = None
    ) -> None:
        self._translator, self._folder, self._most = translator, folder, max_characters
        self.sent = 0
        """Characters that left, each as often as it did."""
        self.repeated = 0
        """Of these, of attempts after the first: they may have been billed twice."""

    def __enter__(self) -> Courier:
        """Start the process.

        Raises:
            StoreError: cannot write into the folder.
        """
        log = self._folder / LOG
        with disk_errors("cannot write", log):
            self._folder.mkdir(parents=True, exist_ok=True)
            errors = log.open("wb")
        with errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.translate.courier"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the command
            )
        self._send([asdict(self._translator), str(self._folder), self._most])
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()

    def wait_until_ready(self, say: Callable[[str], None]) -> None:
        """Wait until the ledger is the courier's: nobody else adds to it then.

        Args:
            say: called with a text if that takes long.

        Raises:
            RedVillmError: the courier cannot begin.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            say("waiting for requests of an earlier command that are under way")
        self._receive()

    def ask(self, asks: Sequence[Ask]) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of each text as it comes, already in the ledger.

        Raises:
            RedVillmError: what ended all asking.
        """
        self._send([astuple(ask) for ask in asks])
        while "key" in (told := self._receive()):
            yield told["key"], Reply(**told["reply"])

    def _send(self, record: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it has to say of its end is still to be read
            self._process.stdin.write(_line(record))
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            do = f"read {LOG} there, and run again; nothing that came back is lost"
            raise RedVillmError("the courier died", where=self._folder, do=do)
        told: dict[str, Any] = json.loads(line)
        self.sent, self.repeated = told["characters"]
        if "error" in told:
            raise RedVillmError(told["error"])
        return told


class _GoneError(Exception):
    """The command is gone, so nothing more is to be sent."""


class _EnoughError(Exception):
    """As many characters were sent as may be, repeated attempts included."""


class _Bill:
    """Characters that left."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._sizes: dict[str, int] = {}
        self._seen: set[str] = set()
        self.sent, self.repeated = 0, 0

    def expect(self, asks: Sequence[Ask]) -> None:
        """What may leave."""
        self._sizes |= {ask.key: len(ask.source) for ask in asks}

    def add(self, keys: Sequence[str]) -> None:
        """A request is about to leave; one beyond the cap does not."""
        size = sum(self._sizes[key] for key in keys)
        if self._most is not None and self.sent + size > self._most:
            raise _EnoughError
        self.sent += size
        self.repeated += sum(self._sizes[key] for key in self._seen & set(keys))
        self._seen |= set(keys)


def main() -> None:
    """The courier's end."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print is for the log

    bill = _Bill(None)

    def say(**told: object) -> None:
        with suppress(BrokenPipeError):
            os.write(out, _line({**told, "characters": (bill.sent, bill.repeated)}))

    try:
        record, folder, most = json.loads(sys.stdin.buffer.readline())
        record["config"] = TranslatorConfig(**record["config"])
        bill = _Bill(most)
        _serve(Translator(**record), Path(folder), bill, say)
        say(done=True)
    except _EnoughError:
        say(done=True)
    except _GoneError:
        pass
    except RedVillmError as error:
        say(error=str(error))
    except Exception as error:
        traceback.print_exc()
        say(error=f"{type(error).__name__}: {error}")


def _serve(translator: Translator, folder: Path, bill: _Bill, say: Callable[..., None]) -> None:
    with Ledger(folder) as ledger:
        say(ready=True)
        line = sys.stdin.buffer.readline()
        if not line:
            raise _GoneError
        engine = make_engine(translator)
        asks = [Ask(*row) for row in json.loads(line)]
        bill.expect(asks)

        def before(keys: Sequence[str]) -> list[str]:
            # Nothing is sent after the list, so what can be read is the end: the command is gone.
            if select.select([0], [], [], 0)[0]:
                raise _GoneError
            bill.add(keys)
            return [ledger.attempt(key) for key in keys]

        for key, reply in engine.ask(asks, before):
            ledger.reply(key, reply)
            say(key=key, reply=asdict(reply))


def _line(record: object) -> bytes:
    return json.dumps(record).encode() + b"\n"


if __name__ == "__main__":
    main()
