"""Who says that an answer is right, and how that is recorded.

A verdict always carries the judge's name and version, because scores of different judges cannot be
compared. The judge here is offline and exact: normalised string match, with token F1 beside it. It
is not GPT and is never called so. A failure is an outcome of its own and never a score.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from features.durable import replace_file
from features.errors import RedVillmError

Outcome = Literal["ok", "lost", "parse_failure", "api_failure", "refused"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_TOKENS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
"""Words; each Chinese character is a token of its own, since nothing separates them."""


@dataclass(frozen=True)
class Verdict:
    """What a judge said about one answer."""

    sample_id: str
    outcome: Outcome
    """`ok`, or why there is no score."""
    correct: bool | None
    """None unless the outcome is `ok`."""
    f1: float | None
    """Token F1 in 0..1; None unless the outcome is `ok`."""
    judge: str
    """Name and version of the judge."""


@runtime_checkable
class Judge(Protocol):
    """Anything that turns predictions into verdicts, one for each, in the same order."""

    name: str
    """Name and version; two judges that could disagree have different names."""

    def __call__(self, predictions: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """Judge rows of predictions.jsonl; a row without a prediction gets the outcome `lost`."""
        ...


class OfflineJudge:
    """Normalised exact match decides; token F1 is reported beside it."""

    name = "offline-em-f1/1"

    def __call__(self, predictions: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """Judge every row that has a prediction."""
        return [self._one(row) for row in predictions]

    def _one(self, row: Mapping[str, Any]) -> Verdict:
        if row["pred"] is None:
            return Verdict(row["sample_id"], "lost", None, None, self.name)
        pred, answer = normalise(row["pred"]), normalise(row["answer"])
        return Verdict(row["sample_id"], "ok", pred == answer, token_f1(pred, answer), self.name)


def normalise(text: str) -> str:
    """NFKC, lower case, without punctuation and articles, single blanks.

    An answer that is nothing but an article ("A", as an option) or punctuation stays as it is.
    """
    lowered = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    plain = "".join(c for c in lowered if not unicodedata.category(c).startswith("P"))
    without_articles = " ".join(_ARTICLES.sub(" ", plain).split())
    return without_articles or plain.strip() or lowered


def token_f1(pred: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the tokens, counted with multiplicity, in 0..1."""
    ours, theirs = Counter(_TOKENS.findall(pred)), Counter(_TOKENS.findall(answer))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts.jsonl at once: it appears whole or not at all."""
    lines = (json.dumps(asdict(verdict), ensure_ascii=False) + "\n" for verdict in verdicts)
    replace_file(path, "".join(lines).encode(), "verdicts")


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
    except (OSError, json.JSONDecodeError) as error:
        do = "judge the predictions again"
        raise RedVillmError("cannot read verdicts", where=path, got=error, do=do) from error
    return verdicts
