"""What people decide about lines, and how it is brought into the file of lines.

A decision holds for the texts that were shown: a source or a translation by the machine that
differs from ours is refused. Nobody's word is overruled by accident: a second, different decision
counts only where it is the same person's and later, or where it names the one that it takes the
place of. The rest is a conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from features.errors import RedVillmError, few
from pipelines.translate.lines import Line

Verdict = Literal["accepted", "edited", "rejected", "machine"]
"""`machine` takes a decision back."""
VERDICTS = get_args(Verdict)
DECIDED = ("accepted", "edited", "rejected")


@dataclass(frozen=True)
class Decision:
    """One person's word about one line."""

    id: str
    """Of the line."""
    source: str
    """The text whose translation was looked at."""
    target: str | None
    """The translation that they want; of no account when it is rejected or taken back."""
    status: Verdict
    reviewer: str
    reviewed: str
    """When, as `timestamp` gives it."""
    where: str
    """File and row, for errors."""
    replaces: str = ""
    """When the decision was made that this one takes the place of."""
    machine: str | None = None
    """What the machine said when it was made, empty: nothing; None where the file does not say."""


@dataclass(frozen=True)
class Merged:
    """Lines after decisions."""

    lines: list[Line]
    changed: int
    """Lines that are not as they were."""
    decided: int
    """Lines that decisions were about."""


def timestamp(when: datetime | None = None) -> str:
    """ISO 8601 in UTC with microseconds, so that texts compare as times do; now unless given."""
    return (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")


def machine_text(line: Line) -> str | None:
    """What the machine said, whatever a person made of it."""
    return line.machine if line.status == "edited" else line.target


def undecided(line: Line) -> Line:
    """The line before any person saw it."""
    text = machine_text(line)
    status: Literal["failed", "machine"] = "failed" if text is None else "machine"
    return replace(line, target=text, status=status, machine=None, reviewer="", reviewed="")


def merge(lines: Sequence[Line], decisions: Iterable[Decision]) -> Merged:
    """All decisions on their lines, in the order of the file; a second time changes nothing.

    Raises:
        RedVillmError: an unknown id, another source text, a conflict, or a decision that cannot be;
            names the row. Nothing is written here, so nothing is changed then.
    """
    by_line: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_line[decision.id].append(decision)
    new: dict[str, Line] = {}
    refused: list[RedVillmError] = []
    for line in lines:
        if line.id in by_line:
            new[line.id] = line
            try:
                new[line.id] = _settle(line, by_line[line.id])
            except RedVillmError as error:
                refused.append(error)
    if unknown := [name for name in by_line if name not in new]:
        first = by_line[unknown[0]][0]
        wanted = "a line of this file"
        raise RedVillmError("no such line", where=first.where, got=first.id, wanted=wanted)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        what = f"decisions about {len(refused):,} lines cannot be taken"
        raise RedVillmError(what, got=few([f"[{error}]" for error in refused]))
    merged = [new.get(line.id, line) for line in lines]
    changed = sum(ours != old for ours, old in zip(merged, lines, strict=True))
    return Merged(merged, changed, len(new))


def _settle(line: Line, decisions: Sequence[Decision]) -> Line:
    """Decisions one after the other; those up to the one that the line has already are past."""
    seen = [
        at
        for at, decision in enumerate(decisions, start=1)
        if (decision.reviewer, decision.reviewed) == (line.reviewer, line.reviewed)
        and decide(line, decision) == line
    ]
    due = decisions[max(seen, default=0) :]
    for decision in due if seen else _last_words(due):
        if decision.status == "machine" and decision.replaces not in ("", line.reviewed):
            continue  # what it takes back is not there any more
        line = _take(line, decision)
    return line


def _last_words(decisions: Sequence[Decision]) -> list[Decision]:
    """Those that no later one of the same file takes the place of: the others were for it alone."""
    replaced: set[str] = set()
    last = []
    for decision in reversed(decisions):
        if decision.reviewed not in replaced:
            last.append(decision)
        replaced.add(decision.replaces)
    return last[::-1]


def _take(line: Line, decision: Decision) -> Line:
    new = decide(line, decision)
    if decision.replaces == line.reviewed:
        return new  # it knew of the one before, or there was none
    if (new.status, new.target) == (line.status, line.target):
        return line  # the same word again; whose came first stays
    if line.status not in DECIDED:
        return new
    if decision.reviewer == line.reviewer and decision.reviewed != line.reviewed:
        return new if decision.reviewed > line.reviewed else line
    raise RedVillmError(
        "a decision that conflicts with another",
        where=f"{decision.where}, line {line.id}",
        got=f"{decision.status} by {decision.reviewer}: {decision.target!r}",
        wanted=f"{line.status} by {line.reviewer} at {line.reviewed}: {line.target!r}",
        do="let the two agree, and take the row out or change it",
    )


def holds(line: Line, decision: Decision) -> bool:
    """Whether a decision is about the texts that the line has."""
    said = decision.machine in (None, machine_text(line) or "")
    return said and decision.source == line.source


def decide(line: Line, decision: Decision) -> Line:
    """The line as a decision leaves it.

    An edit that changes nothing is an acceptance; the machine's own text stays in `machine`.

    Raises:
        RedVillmError: another source or translation, nothing to accept, or no text.
    """
    where = f"{decision.where}, line {line.id}"
    if decision.source != line.source:
        what = "a decision about another source text"
        raise RedVillmError(what, where=where, got=decision.source[:80], wanted=line.source[:80])
    first = undecided(line)
    if not holds(line, decision):
        what, do = "a decision about another translation", "export again, and decide on this one"
        got, wanted = (decision.machine or "")[:80], (first.target or "")[:80]
        raise RedVillmError(what, where=where, got=repr(got), wanted=repr(wanted), do=do)
    if decision.status == "machine":
        return first
    first = replace(first, reviewer=decision.reviewer, reviewed=decision.reviewed)
    if not decision.reviewer:
        what, do = "a decision of nobody", "name the reviewer in the row, or with --reviewer"
        raise RedVillmError(what, where=where, do=do)
    if decision.status == "rejected":
        return replace(first, status="rejected")
    if not (decision.target or "").strip():
        do = "reject the line, or give it a text"
        raise RedVillmError(f"{decision.status}, but without a text", where=where, do=do)
    if decision.target == first.target:
        return replace(first, status="accepted")
    if decision.status == "accepted":
        what, do = "accepted, but not what the machine said", "call it edited"
        got, wanted = (decision.target or "")[:80], (first.target or "")[:80]
        raise RedVillmError(what, where=where, got=got, wanted=wanted, do=do)
    return replace(first, target=decision.target, machine=first.target, status="edited")
