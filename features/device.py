"""Where the arithmetic happens: device, dtype and threads behind every `auto`, and their speed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
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


def fastest_call(work: Callable[[], object], device: torch.device, least: float) -> float:
    """Seconds of the fastest call in `least` seconds; the first one only warms up."""
    ends: list[float] = []
    while len(ends) < 2 or ends[-1] - ends[0] < least:
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        ends.append(time.perf_counter())
    return min(after - before for before, after in pairwise(ends))


def measured_rate(
    device: torch.device, dtype: torch.dtype, width: int, seconds: float = 0.2
) -> float:
    """FLOP/s of a matrix product at its best, with the CPU threads set now.

    Args:
        device: where.
        dtype: of both matrices.
        width: the weight is (width, width); the input has as many rows as a step has tokens, about.
        seconds: how long to try.
    """
    rows = 512 if device.type == "cpu" else 8192
    x = torch.randn(rows, width, device=device).to(dtype)
    weight = torch.randn(width, width, device=device).to(dtype)
    with torch.inference_mode():
        fastest = fastest_call(lambda: F.linear(x, weight), device, seconds)
    return 2 * rows * width**2 / fastest


_PEAKS = {
    r"A100.*": 312e12,
    r"H100 80GB HBM3": 989e12,  # SXM
    r"H100 PCIe": 756e12,
    r"H200": 989e12,
    r"L40S": 362e12,
    r"L4": 121e12,
    r"A10": 125e12,
    r"V100-SXM.*": 125e12,  # float16
    r"RTX 4090": 165e12,
    r"RTX 3090": 71e12,
}
"""Dense bfloat16 FLOP/s by the makers' data sheets. A name must match as a whole: relatives of
these cards (laptop versions, NVL, A10G, parts of a card) have other peaks."""


def device_peak(device: torch.device) -> float | None:
    """Peak FLOP/s of the accelerator, or None where it is not known."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """Peak FLOP/s of a card by the name that CUDA gives it, or None."""
    short = re.sub(r"^((NVIDIA|Tesla|GeForce) )*", "", name)
    found = (peak for pattern, peak in _PEAKS.items() if re.fullmatch(pattern, short))
    return None if "MIG" in name else next(found, None)
