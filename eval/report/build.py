"""Stub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NamedRun:
    """One row of the tables."""

    name: str
    seeds: tuple[Path, ...]
    """The run folder of each seed."""


@dataclass(frozen=True)
class Part:
    """What runs were evaluated on."""

    dataset: str
    split: str
