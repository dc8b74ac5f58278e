"""Damage as disks, downloads and tools do it, from a seed: the same seed, the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, bytes, np.random.Generator], bytes]


def flip_bits(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Five flipped bits anywhere."""
    damaged = bytearray(data)
    for at in rng.choice(len(data), 5, replace=False):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def truncate(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """The file up to some byte."""
    return data[: int(rng.integers(1, len(data)))]


def swap_header(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The first bytes are those of a file of another container."""
    length = int(rng.integers(4, 65))
    return other[:length] + data[length:]


def zero_bytes(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A run of zeros, as a sector or a download that never arrived."""
    length = int(rng.integers(8, 513))
    at = int(rng.integers(0, len(data) - length))
    return data[:at] + bytes(length) + data[at + length :]


KINDS: dict[str, Damage] = {
    "flips": flip_bits,
    "cut": truncate,
    "header": swap_header,
    "zeros": zero_bytes,
}


def damage(kind: str, seed: int, data: bytes, other: bytes) -> bytes:
    """`data` with one kind of damage; `other` lends its header. Never the same bytes."""
    rng = np.random.default_rng([seed, *kind.encode()])
    while (damaged := KINDS[kind](data, other, rng)) == data:
        pass
    return damaged
