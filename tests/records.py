"""Verdicts in a word, and records of numbers compared."""

from __future__ import annotations

from typing import Any

import pytest

from eval.judges.base import Outcome, Verdict
from features.config import Aspect


def ok(sample_id: str, correct: bool | None, score: float = 3, aspect: Aspect = "qa") -> Verdict:
    return Verdict(sample_id, aspect, "ok", correct, float(score))


def failed(sample_id: str, outcome: Outcome) -> Verdict:
    return Verdict(sample_id, "qa", outcome, reason="as it is")


def same(found: Any, wanted: Any) -> bool:
    """Equal dataclasses of one kind; their floats up to rounding."""
    near = {k: pytest.approx(v) if isinstance(v, float) else v for k, v in vars(wanted).items()}
    return type(found) is type(wanted) and vars(found) == near
