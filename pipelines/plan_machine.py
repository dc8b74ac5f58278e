"""What a machine can do: its peaks, and how much of them each stage uses.

Rows of data sheets are recipes (pipelines/recipes/hardware); `here` is measured (plan_sample.py).
Whatever is assumed is a range, and so is everything that follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log10
from typing import Literal

Pair = tuple[float, float]
"""(low, high)."""


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

    def over(self, rate: Pair) -> Range:
        """What takes longest at the lowest rate."""
        return Range(self.low / rate[1], self.high / rate[0])


NONE = Range()


def between(range_: Range, unit: str = "") -> str:
    """Two significant digits of a range, three of a number; nothing for nothing."""
    if range_ == NONE:
        return ""
    low, high = (digits(n, 2) for n in (range_.low, range_.high))
    if range_.low == range_.high:
        return digits(range_.low, 3) + unit
    return (low if low == high else f"{low}-{high}") + unit


def size(nbytes: Range | float) -> str:
    """Bytes, both ends in one unit: `150-560 GB`."""
    range_ = nbytes if isinstance(nbytes, Range) else Range.of(nbytes)
    power = min(4, int(log10(max(range_.high, 1.0))) // 3)
    return between(range_ * 1000.0**-power, " " + ("B", "kB", "MB", "GB", "TB")[power])


def digits(number: float, count: int) -> str:
    """No exponents: 1234567 with two digits is 1,200,000, and 0.000123 is 0.00012."""
    rounded = float(f"{number:.{count}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (count - 1) else f"{rounded:.{count}g}"


@dataclass(frozen=True)
class Machine:
    """One accelerator and the cores beside it, or a machine without one."""

    name: str
    device: Literal["cpu", "cuda"]
    """Where the arithmetic happens: `cpu` counts it in CPU-hours."""
    peak: dict[str, float]
    """FLOP/s of matrix products by dtype."""
    bandwidth: float
    """Bytes a second of the memory that holds the LLM."""
    train: Pair
    """Share of the peak that a training step reaches."""
    extract: Pair = (0.4, 0.7)
    """Share of the peak that the ViT reaches."""
    answer: Pair = (0.3, 0.6)
    """Share of peak and bandwidth that answering reaches."""
    decode_pixels: Pair = (250e6, 450e6)
    """Pixels of decoded video a CPU second."""
    frame_pixels: Pair = (40e6, 100e6)
    """Pixels of chosen frames a CPU second, that become RGB and a square of the tower's size."""
    network: Pair = (50e6, 500e6)
    """Bytes a second read."""
    price: float | None = None
    """Of a GPU-hour, in the currency of the judges' recipes."""
    beside: Pair = (25e3, 60e3)
    """Bytes a video in a store beside its features: thumbnails and records."""
    decode_s: float | None = None
    """CPU seconds of decoding one of the dataset's videos, where a sample told."""
    start_s: dict[str, float] = field(default_factory=dict)
    """Seconds of a stage before its first unit, where that was measured."""
    measured: tuple[str, ...] = ()
    """Fields that were measured here; the rest is published or assumed."""

    @property
    def llm_dtype(self) -> str:
        """Of the LLM; on a GPU it answers in float16, whose peak is the same."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def source(self, name: str) -> str:
        """Where a field is from."""
        if name in self.measured:
            return "measured here"
        return "published" if name == "peak" and self.device == "cuda" else "assumed"
