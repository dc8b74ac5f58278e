"""Real video files of any container, codec, pixel format, timing and rotation, for the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

MILLISECOND = Fraction(1, 1000)
QUIET = {
    # With mbtree the same pictures give other bytes every time.
    "libx264": {"crf": "18", "threads": "1", "x264-params": "no-mbtree=1"},
    "libx265": {"crf": "20", "x265-params": "pools=1:log-level=none"},
    "libsvtav1": {"crf": "20", "preset": "12", "svtav1-params": "lp=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "400k"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "400k"},
    "mpeg4": {"b": "800k"},
    "mjpeg": {"qmin": "2", "qmax": "4"},
}


@dataclass(frozen=True)
class Made:
    """How to make one file; `name` ends as its container is called."""

    name: str
    codec: str
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    count: int = 24
    times_ms: Sequence[int] | None = None
    angle: int = 0
    options: dict[str, str] = field(default_factory=dict)
    mux: dict[str, str] = field(default_factory=dict)

    def seconds(self) -> list[float]:
        """When each frame is shown, counted from the first."""
        times = self.times_ms or [40 * i for i in range(self.count)]
        return [(time - times[0]) / 1000 for time in times]

    def pictures(self) -> np.ndarray:
        return pictures(self.count, *self.size)

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        flags = {"fflags": "+bitexact", **self.mux}
        with same_priority(), av.open(str(path), "w", options=flags) as container:
            stream = container.add_stream(self.codec, rate=25)
            stream.width, stream.height = self.size
            stream.pix_fmt = self.pix_fmt
            stream.options = {**QUIET.get(self.codec, {}), **self.options}
            if self.angle:
                stream.set_display_rotation(self.angle)
            if self.times_ms:
                stream.codec_context.time_base = MILLISECOND
            for number, picture in enumerate(self.pictures()):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if self.times_ms:
                    frame.pts, frame.time_base = self.times_ms[number], MILLISECOND
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path


@contextmanager
def same_priority() -> Iterator[None]:
    """Run on at the priority from before.

    Where SVT-AV1 is root's, it makes the thread that opens it a real-time thread of the highest
    priority and leaves it so. All that is started from there inherits it: a browser then takes
    whole cores, for which the kernel waits in vain.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def pictures(count: int, width: int, height: int) -> np.ndarray:
    """(count, height, width, 3) uint8: a smooth scene that drifts, grain, and a red block."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (8, 8, 3), dtype=np.uint8)
    side = 2 * max(width, height) + 2 * count
    scene = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), int)
    frames = []
    for number in range(count):
        frame = scene[number : number + height, 2 * number : 2 * number + width].copy()
        frame += rng.integers(-3, 4, frame.shape)
        left, top = width * number // (2 * count), height // 8
        frame[top : top + height // 4, left : left + width // 4] = (230, 20, 30)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return np.stack(frames)


def write_gif(
    path: Path, images: Sequence[Image.Image], durations: Sequence[int], **how: object
) -> Path:
    """An animated GIF as Pillow makes it: frames that only hold what changed."""
    facts = {"save_all": True, "append_images": images[1:], "duration": list(durations), **how}
    images[0].save(path, **facts)  # type: ignore[arg-type]
    return path


def all_frames(path: Path) -> tuple[np.ndarray, list[float | None]]:
    """Every frame as stored, and its time, by a plain sequential decode."""
    with av.open(str(path)) as container:
        found = list(container.decode(video=0))
    return np.stack([f.to_ndarray(format="rgb24") for f in found]), [f.time for f in found]
