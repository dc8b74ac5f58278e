"""What every judge is given, gives back, and says of itself.

A verdict belongs to a sample and an aspect. A failure is an outcome of its own and never a score:
whoever averages takes the verdicts that are `ok`, and prints how many were not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from features.config import Aspect
from features.durable import escape_name, replace_file
from features.errors import RedVillmError
from features.spec import record_digest

Outcome = Literal["ok", "lost", "parse_failure", "api_failure", "refused", "not_asked"]
"""`lost`: there was no answer to judge; `not_asked`: the token budget ended before it."""
JUDGE = "judge.json"
"""File with a judge's record, beside its verdicts and beside its replies."""
BEST = 5.0
"""Scores are in 0..5, as in Video-ChatGPT's scripts."""


@dataclass(frozen=True)
class JudgeItem:
    """One answer, and the aspect of it that is judged."""

    sample_id: str
    aspect: Aspect
    question: str
    answer: str
    """The reference."""
    pred: str
    question2: str | None = None
    """The other wording, for `consistency` alone."""
    pred2: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a judge said about one aspect of one answer."""

    sample_id: str
    aspect: Aspect
    outcome: Outcome
    correct: bool | None = None
    """`qa` alone, and only where the outcome is `ok`."""
    score: float | None = None
    """In 0..5; only where the outcome is `ok`."""
    reply: str | None = None
    """The judge's own words, as they came."""
    reason: str = ""
    """Why there is no score, or the video's code for `lost`."""
    prompt_tokens: int = 0
    """As the judge counted them; 0 where it does not. What came out of the cache counts as then."""
    completion_tokens: int = 0


@dataclass(frozen=True)
class JudgeRecord:
    """Everything about a judge that can change its verdicts; two that differ are two judges."""

    kind: Literal["offline", "endpoint", "local", "replay"]
    name: str
    """How it is called in tables: `offline-em-f1-2`, or the model (a local one with its digest)."""
    endpoint: str = ""
    """Host, port and path that were asked; never a key."""
    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int = 0
    structured: bool = False
    """Whether a JSON schema was demanded of the endpoint."""
    language: Literal["en", "zh"] = "en"
    """Of the rubric."""
    rubric: str = ""
    """sha256 of all its templates."""

    @property
    def digest(self) -> str:
        """sha256 of all fields."""
        return record_digest(asdict(self))

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return f"{escape_name(self.name)}-{self.digest[:8]}"

    @property
    def label(self) -> str:
        """Name for column heads: with the rubric, and the language where it is not English."""
        rubric = [f"rubric {self.rubric[:8]}"] if self.rubric else []
        told = rubric + ([] if self.language == "en" else [self.language])
        return f"{self.name} ({', '.join(told)})" if told else self.name


@dataclass(frozen=True)
class Cost:
    """What judging takes."""

    requests: int = 0
    """That must be sent."""
    cached: int = 0
    """That were answered before and cost nothing again."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Before: an upper estimate; after: as counted by the endpoint."""
    price: float | None = None
    """In the currency of the recipe's prices; None without prices."""


@runtime_checkable
class Judge(Protocol):
    """Anything that turns answers into verdicts."""

    record: JudgeRecord

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """One verdict for each item, in the same order. Blocks until all are there."""
        ...

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """What `__call__` would take; nothing is sent."""
        ...


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts.jsonl at once: it appears whole or not at all.

    Half a character in a reply, which UTF-8 cannot say, is written as JSON's own escape.
    """
    lines = (json.dumps(asdict(verdict), ensure_ascii=False) + "\n" for verdict in verdicts)
    replace_file(path, "".join(lines).encode(errors="backslashreplace"), "verdicts")


def read_verdicts(path: Path) -> list[Verdict]:
    """Read verdicts.jsonl.

    Raises:
        RedVillmError: missing, or a row is not a verdict.
    """
    names = {field.name for field in fields(Verdict)}
    verdicts = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                if not isinstance(row, dict) or set(row) != names:
                    got = f"line {number}: {line[:80]!r}"
                    raise RedVillmError("not a verdict", where=path, got=got, wanted=sorted(names))
                verdicts.append(Verdict(**row))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        do = "judge the predictions again"
        raise RedVillmError("cannot read verdicts", where=path, got=error, do=do) from error
    return verdicts
