"""What this machine does: `plan --hardware here`.

Matrix products of the LLM's width give the peak. Where the base's weights are here, the stages
themselves tell which share of it they reach (plan_sample.py); otherwise that is assumed. Decoding
is measured by the project's own decoder, on the dataset's videos or on a clip made for it.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console

from extract.decode_child import DecodeChild
from extract.estimate import estimate
from extract.run import list_videos
from extract.video import DecodeRequest, View
from features.config import BaseConfig, DatasetConfig
from features.device import SMALL_MODEL, fastest_call, measured_rate, pick_device
from features.durable import escape_name, replace_json
from features.errors import RedVillmError
from pipelines.demo_data import encode_video
from pipelines.plan_machine import Machine
from pipelines.plan_sample import LARGE, SMALL, Subject, measure_sample

_NETWORK = (10e6, 100e6)


def measure_here(subject: Subject, folder: Path, again: bool, console: Console) -> Machine:
    """This machine, measured, or as it was measured before.

    Args:
        subject: what is planned.
        folder: where what was measured is kept.
        again: measure even if it was before.
        console: told when it was.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    facts = {"host": os.uname().nodename, "cores": os.cpu_count(), "gpu": gpu, **asdict(subject)}
    asked = json.loads(json.dumps(facts, default=str))
    names = escape_name(subject.base.name), escape_name(subject.dataset.name)
    path = folder / f"here-{'-'.join(names)}.json"
    kept = None if again else _read(path, asked)
    if kept is not None:
        console.print(f"measured before: {path}", markup=False)
        return kept
    with (
        tempfile.TemporaryDirectory(prefix="red-villm-plan-") as scratch,
        Console(stderr=True).status("measuring this machine (about a minute)"),
        redirect_stdout(StringIO()),  # what the stages say of the sample
    ):
        machine = _peaks(subject, Path(scratch))
        if subject.shapes.here:
            small = 2 * subject.shapes.llm.step_weights < SMALL_MODEL
            machine = measure_sample(machine, subject, SMALL if small else LARGE, Path(scratch))
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(path, {"asked": asked, "machine": asdict(machine)}, "measured")
    return machine


def _read(path: Path, asked: dict[str, Any]) -> Machine | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["asked"] != asked:
            return None
        fields = record["machine"].items()
        found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields}
        return Machine(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or of another release


def _peaks(subject: Subject, scratch: Path) -> Machine:
    """Peaks of this machine, with shares of them as they usually are."""
    device = pick_device("auto")
    on_gpu = device.type == "cuda"
    dtypes = {"float32", subject.compute_dtype} | ({"bfloat16", "float16"} if on_gpu else set())
    width = max(subject.shapes.hidden, 512)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if on_gpu else 1)  # on a CPU all seconds are a core's
    try:
        rate = measured_rate if on_gpu else _core_rate
        peak = {k: rate(device, getattr(torch, k), width) for k in sorted(dtypes)}
        bandwidth = _bandwidth(device)
    finally:
        torch.set_num_threads(threads)
    (decoded, chosen), disk = _decode_rates(scratch, subject.base), _disk_rate(scratch)
    return Machine(
        name="here",
        device="cuda" if on_gpu else "cpu",
        peak=peak,
        bandwidth=bandwidth,
        extract=(0.5, 0.9),
        train=(0.5, 0.9),
        answer=(0.2, 0.8),
        decode_pixels=(decoded, decoded),
        frame_pixels=(chosen, chosen),
        disk=(disk, disk),
        network=_NETWORK,
        measured=("peak", "bandwidth", "decode_pixels", "frame_pixels", "disk"),
    )


def decode_seconds(base: BaseConfig, dataset: DatasetConfig) -> float:
    """CPU seconds of decoding a video whose files are here, by one of each class of sizes.

    Raises:
        RedVillmError: none of them could be decoded.
    """
    views = (View(base.num_frames, base.preprocessing),)
    videos = list_videos(dataset)
    jobs = [(v, DecodeRequest(v.path, views, base.image_size)) for v in videos]
    told = estimate(jobs, None, 1)
    if not told.usage.images:
        do = "say --videos_count and --video_seconds with a dataset whose videos are elsewhere"
        raise RedVillmError("no video of a sample can be used", where=dataset.videos, do=do)
    return told.usage.decode_cpu_s / len(videos)


def _decode_rates(scratch: Path, base: BaseConfig) -> tuple[float, float]:
    """Pixels decoded, and pixels of chosen frames made into squares, a CPU second each.

    Of 10 s of 360p, a smooth texture that moves. With 10 and with 100 chosen frames nearly all are
    decoded, so that the difference is what 90 frames take.
    """
    coarse = torch.rand(1, 3, 18, 32, generator=torch.Generator().manual_seed(0)) * 255
    texture = F.interpolate(coarse, (360, 640), mode="bicubic").clamp(0, 255)
    still = texture[0].permute(1, 2, 0).byte().numpy()
    frames = np.stack([np.roll(still, (i, 2 * i), (0, 1)) for i in range(300)])
    path, pixels = scratch / "clip.mp4", still[..., 0].size
    encode_video(path, frames, 30)
    with DecodeChild() as child:

        def seconds(count: int) -> float:
            views = (View(count, base.preprocessing),)
            request = DecodeRequest(str(path), views, base.image_size)
            return min(child.decode(request).cpu_seconds for _ in range(3))

        few, many = seconds(10), seconds(100)
    one = max(many - few, 0.1 * many) / 90
    return 285 * pixels / max(few - 10 * one, 0.1 * few), pixels / one


def _core_rate(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """As `measured_rate`, but of the CPU seconds of one thread."""
    x, weight = (torch.randn(rows, width).to(dtype) for rows in (512, width))
    took = []
    with torch.inference_mode():
        for _ in range(5):
            start = time.process_time()
            F.linear(x, weight)
            took.append(time.process_time() - start)
    return 2 * 512 * width**2 / min(took)


def _bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by a copy of 256 MB."""
    x = torch.zeros(1 << 26, device=device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / fastest_call(lambda: y.copy_(x), device, 0.3)


def _disk_rate(folder: Path) -> float:
    """Bytes a second of a file that is written and flushed."""
    data = os.urandom(1 << 26)
    start = time.perf_counter()
    with (folder / "file").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data) / (time.perf_counter() - start)
