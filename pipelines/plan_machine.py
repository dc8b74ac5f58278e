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

    def __mul__(self, times: float | int) -> Range:
        return Range(self.low * times, self.high * times)

    def over(self, rate: tuple[float, float]) -> Range:
        """What takes longest at the lowest rate."""
        return Range(self.low / rate[1], self.high / rate[0])

    @property
    def middle(self) -> float:
        """Halfway."""
        return (self.low + self.high) / 2


def between(range_: Range, unit: str = "") -> str:
    """Two significant digits of a range, three of a number; nothing for nothing."""
    if range_ == Range():
        return ""
    low, high = (digits(n, 2) for n in (range_.low, range_.high))
    told = digits(range_.low, 3) if range_.low == range_.high else f"{low}-{high}"
    return told + unit


def digits(number: float, count: int) -> str:
    """No exponents: 1234567 with two digits is 1,200,000, and 0.000123 is 0.00012."""
    rounded = float(f"{number:.{count}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (count - 1) else f"{rounded:.{count}g}"


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
    frame_pixels: tuple[float, float]
    """Pixels of chosen frames a CPU second, that become RGB and a square of the tower's size."""
    disk: tuple[float, float]
    """Bytes a second written."""
    network: tuple[float, float]
    """Bytes a second read."""
    price: float | None = None
    """Of a GPU-hour, in the currency of the judges' recipes."""
    beside: tuple[float, float] = (25e3, 60e3)
    """Bytes a video in a store beside its features: thumbnails and records."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Seconds of a stage before its first unit, where that was measured."""
    measured: tuple[str, ...] = ()
    """Fields that were measured here; the rest is published or assumed."""

    @property
    def train_dtype(self) -> str:
        """Of the LLM in training, as `auto` has it."""
        return "float32" if self.device == "cpu" else "bfloat16"

    @property
    def answer_dtype(self) -> str:
        """Of the LLM that answers, as `auto` has it."""
        return "float32" if self.device == "cpu" else "float16"

    @property
    def answer_itemsize(self) -> int:
        """Bytes of one of its weights."""
        return 4 if self.device == "cpu" else 2

    def source(self, name: str) -> str:
        """Where a field is from."""
        if name in self.measured:
            return "measured here"
        published = name in ("peak", "bandwidth") and self.device == "cuda"
        return "published" if published else "assumed"
