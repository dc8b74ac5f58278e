"""Where the time of a run goes: what decoding and encoding cost, and who waited for whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["encode_s", "commit_s"]
_RATE_BATCHES = 8


@dataclass(frozen=True)
class Usage:
    """What some part of a run has used; sums over videos and towers."""

    images: int = 0
    """Images encoded."""
    decode_cpu_s: float = 0.0
    """CPU seconds of the decoders."""
    encode_s: float = 0.0
    """Seconds in which a tower encoded or pooled."""
    commit_s: float = 0.0
    """Seconds in which a tower's owner wrote shards."""
    wait_s: float = 0.0
    """Seconds in which a tower waited for frames."""
    rate: float = 0.0
    """Images a second of the fastest full batch: what one tower could do alone."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.images + other.images,
            self.decode_cpu_s + other.decode_cpu_s,
            self.encode_s + other.encode_s,
            self.commit_s + other.commit_s,
            self.wait_s + other.wait_s,
            max(self.rate, other.rate),
        )


class Meter:
    """One tower's clock: whatever is in no phase was spent waiting for frames."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._since = time.perf_counter()
        self._rates = 0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count the time inside as this, and the time since the last phase as waiting."""
        start = time.perf_counter()
        waited = start - self._since
        try:
            yield
        finally:
            self._since = time.perf_counter()
            self._usage = replace(
                self._usage + Usage(wait_s=waited),
                **{name: getattr(self._usage, name) + self._since - start},
            )

    def add(self, usage: Usage) -> None:
        """Count something."""
        self._usage += usage

    def wants_rate(self) -> bool:
        """Whether the next full batch should be timed to its end: a few are, at the start."""
        self._rates += 1
        return self._rates <= _RATE_BATCHES

    def take(self) -> Usage:
        """What was counted since the last call."""
        usage, self._usage = self._usage, Usage()
        return usage


@dataclass(frozen=True)
class RunReport:
    """How near a run came to what its hardware can do."""

    seconds: float
    """Wall clock of decoding, encoding and committing."""
    images: int
    """Images encoded."""
    towers: int
    """Towers at work."""
    decoders: int
    """Decoding processes."""
    decode_cpu_s: float
    """CPU seconds of decoding."""
    encode_s: float
    """Seconds of encoding, over all towers."""
    commit_s: float
    """Seconds of writing shards."""
    wait_s: float
    """Seconds in which towers waited for frames."""
    images_per_s_alone: float
    """What one tower does when frames are there, by its fastest batch."""
    floor_s: float
    """Decoding alone and encoding alone at these rates: their sum where both need the same cores,
    the longer one where the tower has a device of its own."""
    over_floor: float
    """seconds / floor_s."""

    def __str__(self) -> str:
        wall = max(self.seconds, 1e-9)
        tower, decode = self.encode_s / wall / self.towers, self.decode_cpu_s / wall / self.decoders
        slower = "the ViT waited for frames" if self.wait_s > 0.2 * wall else "the ViT set the pace"
        return (
            f"{wall:.1f} s, {self.over_floor:.2f} x the floor of {self.floor_s:.1f} s; "
            f"{slower}: {self.towers} ViT busy {tower:.0%}, waiting {self.wait_s:.1f} s, "
            f"writing {self.commit_s:.1f} s; {self.decoders} decoders busy {decode:.0%}"
        )


def run_report(
    usage: Usage, seconds: float, towers: int, decoders: int, same_cores: bool
) -> RunReport:
    """The report of a run.

    Args:
        usage: all that was used.
        seconds: wall clock.
        towers: towers at work.
        decoders: decoding processes, at most one a core.
        same_cores: whether towers and decoders share the cores.
    """
    encode = usage.images / usage.rate / towers if usage.rate else usage.encode_s / towers
    decode = usage.decode_cpu_s / decoders
    floor = encode + decode if same_cores else max(encode, decode)
    return RunReport(
        seconds=round(seconds, 3),
        images=usage.images,
        towers=towers,
        decoders=decoders,
        decode_cpu_s=round(usage.decode_cpu_s, 3),
        encode_s=round(usage.encode_s, 3),
        commit_s=round(usage.commit_s, 3),
        wait_s=round(usage.wait_s, 3),
        images_per_s_alone=round(usage.rate, 2),
        floor_s=round(floor, 3),
        over_floor=round(seconds / floor, 3) if floor else 0.0,
    )
