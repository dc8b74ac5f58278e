"""Numbers as they are printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DASH = "\N{EN DASH}"
"""Stands where there is no number."""


def interval(
    mean: float | None, low: float | None, high: float | None, digits: int, between: str = ", "
) -> str:
    """A number with its 95 % interval, as far as they are there."""
    if mean is None:
        return DASH
    if low is None or high is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}{between}{high:.{digits}f}]"


def accuracy(score: Mapping[str, Any], between: str = ", ") -> str:
    """Percent."""
    return interval(score["accuracy"], score["low"], score["high"], 1, between)


def mean_score(score: Mapping[str, Any], between: str = ", ") -> str:
    """0 to 5."""
    return interval(score["score"], score["score_low"], score["score_high"], 2, between)


def number(value: float | None, digits: int) -> str:
    """A number alone."""
    return DASH if value is None else f"{value:.{digits}f}"


def seeds(row: Mapping[str, Any]) -> str:
    """How many seeds a row is made of, and of how many if some are missing."""
    few = row["seeds"] < row["of_seeds"]
    return f"{row['seeds']} of {row['of_seeds']}" if few else str(row["seeds"])


def translated(table: Mapping[str, Any]) -> str:
    """Behind the name of a benchmark, what of it was translated and which way."""
    return f" - {table['translations']}" if table["translations"] else ""


def table_types(table: Mapping[str, Any]) -> list[str]:
    """A table's columns: each type, and all unless one type is all there is."""
    types = sorted({kind for row in table["rows"] for kind in row["types"]} - {"all"})
    whole = all(row["covers_all"] for row in table["rows"])
    return types if len(types) == 1 and whole else [*types, "all"]


def withheld_types(row: Mapping[str, Any]) -> list[str]:
    """Types of a row that has numbers, and theirs were withheld; with what was judged of them."""
    return [
        f"{kind} ({score['judged']} of {score['asked']} judged)"
        for kind, score in row["types"].items()
        if not row["refused"] and score["accuracy"] is None and score["score"] is None
    ]
