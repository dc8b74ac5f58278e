"""A review that is under way: lines in memory, every decision on the disk before it is answered."""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from features.errors import RedVillmError
from pipelines.translate.checks import Flag
from pipelines.translate.decisions import (
    DECIDED,
    VERDICTS,
    Decision,
    decide,
    machine_text,
    merge,
    timestamp,
)
from pipelines.translate.lines import Line
from pipelines.translate.review_log import read_log

SLICE = 50
"""Lines that the page gets at a time."""


class StaleError(RedVillmError):
    """The line was decided elsewhere since it was shown."""


class Session:
    """Lines with the decisions of earlier sessions; only one process has the file of decisions.

    Args:
        lines: all of a file, without the page's decisions.
        flags: of what the machine said.
        log: the file of decisions.
        reviewer: who reviews; empty: the page asks.

    Raises:
        RedVillmError: another process has it, or it does not fit the lines.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        flags: Mapping[str, Sequence[Flag]],
        log: Path,
        reviewer: str,
    ) -> None:
        self._log = log.open("a+b", buffering=0)
        try:
            past, self.set_aside = self._past(lines, log)
            self.lines = merge(lines, past).lines
        except RedVillmError:
            self.close()
            raise
        self.flags = flags
        self.named = bool(reviewer)
        self.reviewer = reviewer or (past[-1].reviewer if past else "")
        self._last = past[-1].id if past else ""
        self._were: set[Line] = set()  # what was replaced, and can come back
        self._at = {line.id: at for at, line in enumerate(self.lines)}
        self.review_beside(())
        self._decided = {at for at, line in enumerate(self.lines) if line.status in DECIDED}
        self._lock = Lock()

    def review_beside(self, sample: Collection[str]) -> None:
        """What is to be reviewed is the lines with flags, and those with these ids."""
        wanted = {*self.flags, *sample}
        self._to_review = [at for at, line in enumerate(self.lines) if line.id in wanted]

    def close(self) -> None:
        """Let another process have the file of decisions."""
        self._log.close()

    def part(
        self, to_review: bool, at: int | None = None, near: int = 0, due: int = 0
    ) -> dict[str, Any]:
        """The slice with a line, as the page takes it.

        Args:
            to_review: only lines with flags and those of the sample.
            at: which of those, from 0; None: the first from `near` on.
            near: position among all lines.
            due: 1 for the first from there on that nobody has decided, or else before.
        """
        shown = self._to_review if to_review else range(len(self.lines))
        at = bisect_left(shown, near) if at is None else at
        at = max(0, min(at, len(shown) - 1))
        if due:
            behind = (*range(at, len(shown)), *range(at))
            at = next((k for k in behind if shown[k] not in self._decided), at)
        first = at // SLICE * SLICE
        told = [self._told(index) for index in shown[first : first + SLICE]]
        return {"at": at, "first": first, "lines": told, "progress": self._progress()}

    def start(self) -> int:
        """The first undecided line to review after the last decision, else the first of all."""
        due = [at for at in self._to_review if at not in self._decided]
        past = self._at.get(self._last, -1)
        return next((at for at in due if at > past), due[0] if due else 0)

    def decide(self, asked: object) -> dict[str, Any]:
        """Take a decision and return the line as it is then.

        Args:
            asked: `id`, `status`, `target`, `reviewer`, and as `seen` when the decision was made
                that the page showed (empty: none); `restores`, when it is an earlier one that comes
                back: when that was made.

        Raises:
            StaleError: there is another one by now.
            RedVillmError: not a decision, or one that cannot be.
        """
        needed = ("id", "status", "reviewer", "seen", "target")
        known = asked if isinstance(asked, dict) else {}
        texts: dict[str, Any] = {name: known.get(name) for name in needed}
        texts["restores"] = known.get("restores", "")
        if not all(isinstance(text, str) for text in texts.values()):
            raise RedVillmError("not a decision", wanted=f"texts {', '.join(needed)}")
        if texts["id"] not in self._at or texts["status"] not in VERDICTS:
            raise RedVillmError("no such line or status", got=f"{texts['id']} {texts['status']}")
        with self._lock:
            at = self._at[texts["id"]]
            line = self.lines[at]
            if texts["seen"] != line.reviewed:
                raise StaleError(f"{line.reviewer or 'somebody'} decided otherwise meanwhile")
            decision = Decision(
                id=line.id,
                source=line.source,
                target=texts["target"],
                status=texts["status"],
                reviewer=texts["reviewer"].strip(),
                reviewed=texts["restores"] or timestamp(),
                where="the page",
                replaces=line.reviewed,
                machine=machine_text(line) or "",
            )
            new = decide(line, decision)
            if texts["restores"] and new not in self._were:
                raise RedVillmError("no decision that was undone", got=f"{new.id} {new.status}")
            self._append(decision)
            self._were.add(line)
            self._last = line.id
            self.lines[at] = new
            (self._decided.add if new.status in DECIDED else self._decided.discard)(at)
            return self.told(line.id)

    def told(self, name: str) -> dict[str, Any]:
        """A line as it is now, and how far the review is."""
        return {"line": self._told(self._at[name]), "progress": self._progress()}

    def _past(self, lines: Sequence[Line], log: Path) -> tuple[list[Decision], int]:
        """Decisions of earlier sessions; the file is ours from now on."""
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            do = "use its page, or stop it"
            raise RedVillmError("another process reviews this", where=log, do=do) from error
        self._log.seek(0)
        self._log.truncate(self._log.read().rfind(b"\n") + 1)  # without the line that a kill tore
        return read_log(log, lines)

    def _told(self, at: int) -> dict[str, Any]:
        line = self.lines[at]
        flags = [asdict(flag) for flag in self.flags.get(line.id, ())]
        return {**asdict(line), "index": at, "flags": flags}

    def _progress(self) -> dict[str, dict[str, int]]:
        """How many lines are decided, of those to review and of all."""
        due = self._decided.intersection(self._to_review)
        return {
            "review": {"decided": len(due), "total": len(self._to_review)},
            "all": {"decided": len(self._decided), "total": len(self.lines)},
        }

    def _append(self, decision: Decision) -> None:
        row = {name: value for name, value in asdict(decision).items() if name != "where"}
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
        size = self._log.seek(0, os.SEEK_END)
        try:
            if self._log.write(data) < len(data):
                raise OSError("written in part")
            os.fsync(self._log.fileno())
        except OSError as error:
            self._log.truncate(size)
            what = "cannot keep the decision"
            raise RedVillmError(what, where=self._log.name, got=error) from error
