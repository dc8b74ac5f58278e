"""Replies that were recorded before, read again: for tests, and to score them anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from eval.judges.asking import Reply, Request
from features.errors import RedVillmError

_FIELDS = tuple(field.name for field in fields(Reply))


class ReplayAsker:
    """Answers from a file and asks nobody.

    The file is JSONL. A row has the `key` of what was asked and the fields of a `Reply`, of which
    only `text` is needed; rows without a text and an outcome (attempts) are passed over. Of several
    replies to a key the last one counts, as in a ledger that was asked again.

    A key covers the judge's record. So the recipe names a judge's folder of the cache, whose record
    is taken over; a bare file answers under the recipe's own keys.
    """

    def __init__(self, file: Path) -> None:
        """Reads all of it.

        Raises:
            RedVillmError: no such file, or a line is no reply.
        """
        self._file = file
        self._replies: dict[str, Reply] = {}
        try:
            # a torn last line does not exist
            lines = file.read_text(encoding="utf-8", errors="surrogatepass").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RedVillmError("cannot read replies", where=file, got=error) from error
        for number, line in enumerate(lines, start=1):
            if line and (number < len(lines) or line.endswith("}")):
                self._keep(line, f"{file}, line {number}")

    def ask(
        self, requests: Sequence[Request], before: Callable[[str], str]
    ) -> Iterator[tuple[str, Reply]]:
        """Each request's recorded reply."""
        for request in requests:
            before(request.key)
            missing = Reply("api_failure", reason=f"no reply to it is recorded in {self._file}")
            yield request.key, self._replies.get(request.key, missing)

    def _keep(self, line: str, where: str) -> None:
        try:
            row = json.loads(line)
            if row.keys() & {"text", "outcome"}:
                given = {name: row[name] for name in _FIELDS if name in row}
                reply = Reply(**({"outcome": "ok"} | given))
                if reply.outcome == "ok" and not isinstance(reply.text, str):
                    raise ValueError("no text")
                self._replies[row["key"]] = reply
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = '{"key", "text", ...}'
            raise RedVillmError("not a reply", where=where, got=error, wanted=wanted) from error
