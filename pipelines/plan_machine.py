"""What a machine can do: its peaks, and how much of them each stage uses.

Rows of data sheets are recipes (pipelines/recipes/hardware); `here` is measured (plan_measure.py).
Whatever is assumed is a range, and so is everything that follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Range:
    """From low to high; both are the same where something was measured or counted."""

    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, value: float) -> Range:
        """One number."""
        return cls(value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, times: float) -> Range:
        return Range(self.low * times, self.high * times)

    def over(self, rate: tuple[float, float]) -> Range:
        """What takes longest at the lowest rate."""
        return Range(self.low / rate[1], self.high / rate[0])

    @property
    def middle(self) -> float:
        """Halfway."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class Machine:
    """One accelerator and the cores beside it, or a machine without one. Pairs are (low, high)."""

    name: str
    device: Literal["cpu", "cuda"]
    """Where the arithmetic happens: `cpu` counts it in CPU-hours."""
    peak: dict[str, float]
    """FLOP/s of matrix products by dtype."""
    bandwidth: float
    """Bytes a second of the memory that holds the LLM."""
    extract: tuple[float, float]
    """Share of the peak that the ViT reaches."""
    train: tuple[float, float]
    """Share of the peak that a training step reaches."""
    answer: tuple[float, float]
    """Share of peak and bandwidth that answering reaches."""
    decode_pixels: tuple[float, float]
    """Pixels of decoded video a CPU second."""
    disk: tuple[float, float]
    """Bytes a second written."""
    network: tuple[float, float]
    """Bytes a second read."""
    price: float | None = None
    """Of a GPU-hour, in the currency of the judges' recipes."""
    beside: tuple[float, float] = (25e3, 60e3)
    """Bytes a video in a store beside its features: thumbnails and records."""
    decode_s: float | None = None
    """CPU seconds of decoding one video of the dataset, where that was measured."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Seconds of a stage before its first unit, where that was measured."""
    measured: tuple[str, ...] = ()
    """Fields that were measured here; the rest is published or assumed."""

    def source(self, name: str) -> str:
        """Where a field is from."""
        if name in self.measured:
            return "measured here"
        published = name in ("peak", "bandwidth") and self.device == "cuda"
        return "published" if published else "assumed"
