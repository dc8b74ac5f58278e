"""Lines with what was decided on the review page, whether it was imported or not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from features.durable import only_one
from pipelines.stages import say
from pipelines.translate.decisions import Decision, holds, merge
from pipelines.translate.lines import Line, beside, read_lines
from pipelines.translate.review_forms import read_decisions

PATIENCE_S = 60.0
"""How long to wait for another process that writes lines in the same folder."""


@dataclass(frozen=True)
class Reviewed:
    """Lines, and what became of the page's decisions about them."""

    lines: list[Line]
    set_aside: int
    """Decisions about texts that the lines have no more: the file was translated again."""


def log_path(lines: Path) -> Path:
    """Where the page keeps decisions: beside the lines."""
    return beside(lines, "decisions.jsonl")


def alone(path: Path) -> AbstractContextManager[None]:
    """Nobody else brings decisions into lines of this folder meanwhile."""
    return only_one(path.parent, "brings decisions into lines here", PATIENCE_S)


def tell_set_aside(where: object, count: int) -> None:
    """Say how many decisions were not taken, if any; no decision is dropped without a word."""
    if count:
        say(f"{where}: {count:,} decisions about texts of an earlier translation left")


def read_reviewed(path: Path) -> Reviewed:
    """Read lines and take in the page's decisions.

    Raises:
        RedVillmError: not a file of lines, damaged, or decisions that do not fit.
    """
    log = log_path(path)
    return with_log(read_lines(path), log)


def with_log(lines: list[Line], log: Path) -> Reviewed:
    """Lines with the page's decisions, if it has made any.

    Raises:
        RedVillmError: decisions that are unreadable or do not fit.
    """
    if not log.exists():
        return Reviewed(lines, 0)
    decisions, set_aside = read_log(log, lines)
    return Reviewed(merge(lines, decisions).lines, set_aside)


def read_log(log: Path, lines: Sequence[Line]) -> tuple[list[Decision], int]:
    """The page's decisions about the texts that the lines have, and the count of the others.

    Raises:
        RedVillmError: unreadable, or a row is not a decision.
    """
    known = {line.id: line for line in lines}
    every = read_decisions(log, lines)
    held = [one for one in every if one.id not in known or holds(known[one.id], one)]
    return held, len(every) - len(held)
