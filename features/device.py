"""Where the arithmetic happens: device, dtype and threads behind every `auto`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from features.errors import ConfigError

SMALL_MODEL = 20_000_000
"""Parameters below which one CPU thread is faster than many."""


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the best there is (cuda, mps, cpu).

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError("no such device", got=name, where=why, do="use auto or cpu") from error


def pick_dtype(name: str, device: torch.device, accelerated: torch.dtype) -> torch.dtype:
    """The dtype of that name; `auto` is float32 on a CPU and `accelerated` elsewhere.

    Raises:
        ConfigError: no such dtype.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else accelerated
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ConfigError("no such dtype", got=name, wanted="auto, float32, bfloat16, float16, ...")
    return found


@contextmanager
def intra_op_threads(model: nn.Module, num_threads: int = 0) -> Iterator[None]:
    """So many CPU threads inside, as before outside; 0: torch's choice, one for a small model.

    Threads that share the matrices of a tiny model mostly wait for each other: measured on two
    busy cores, two threads took four times as long as one.
    """
    before = torch.get_num_threads()
    small = sum(p.numel() for p in model.parameters()) < SMALL_MODEL
    torch.set_num_threads(num_threads or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
