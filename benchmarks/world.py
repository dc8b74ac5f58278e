"""What is measured on: seeded clips, GIFs and a ViT with random weights, made once and kept.

The clips pan over textures of natural statistics (1/f), with things that move across, film grain
and a cut every few seconds, so that they compress and decode much as filmed video does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from features.config import BaseConfig, DatasetConfig

FPS = 25
_CANVAS = 1536
_CUT_EVERY = 8 * FPS


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    name: str
    seconds: tuple[int, ...]
    """Length of each clip."""
    gifs: int
    size: tuple[int, int] = (640, 360)
    """Width and height of the clips."""
    num_frames: int = 100
    specs: tuple[int, ...] = (50, 75, 100, 150, 200)
    """T of each spec that is extracted in one pass."""
    vision: tuple[tuple[str, int], ...] = ()
    """What the tower's config has otherwise than ViT-B/32."""
    tiny_clips: tuple[int, int] = (200, 2000)
    """For the growth of memory."""
    videos: int = 2000
    """In the stores that are read."""
    reads: int = 400


_SMALL = (
    ("image_size", 64),
    ("hidden_size", 32),
    ("intermediate_size", 64),
    ("num_attention_heads", 2),
)
SCALES = {
    scale.name: scale
    for scale in (
        Scale("full", tuple(range(10, 121, 10)), 6),
        Scale("quick", (2, 6, 10), 2, tiny_clips=(50, 150), videos=256, reads=200),
        Scale(
            "tiny",
            (1, 2),
            1,
            size=(96, 64),
            num_frames=8,
            specs=(4, 8),
            vision=(*_SMALL, ("num_hidden_layers", 3)),
            tiny_clips=(8, 16),
            videos=64,
            reads=20,
        ),
    )
}


def make_clips(root: Path, scale: Scale) -> DatasetConfig:
    """The clips and GIFs of a scale."""
    folder = root / f"clips-{scale.name}"
    if not folder.exists():
        with new_folder(folder) as new:
            for index, seconds in enumerate(scale.seconds):
                write_clip(new / f"clip-{seconds:03d}s.mp4", seconds * FPS, scale.size, index)
            for index in range(scale.gifs):
                _write_gif(new / f"gif-{index}.gif", 20 + 10 * index, seed=100 + index)
    return DatasetConfig("bench", folder)


def make_tiny_clips(root: Path, count: int) -> DatasetConfig:
    """`count` names of 8 clips of 8 frames of 64x64."""
    folder = root / f"tiny-{count}"
    if not folder.exists():
        with new_folder(folder) as new:
            for index in range(8):
                write_clip(new / f"{index:05d}.mp4", 8, (64, 64), index)
            for index in range(8, count):
                os.link(new / f"{index % 8:05d}.mp4", new / f"{index:05d}.mp4")
    return DatasetConfig("tiny", folder)


def make_base(root: Path, scale: Scale, tiny: bool = False) -> BaseConfig:
    """A base whose eyes are a seeded random ViT-B/32 (or a tiny ViT), in CLIP's own layout."""
    name = "tiny" if tiny else scale.name
    vision: Any = dict(SCALES["tiny"].vision if tiny else scale.vision)
    config: Any = CLIPVisionConfig(**vision)
    folder = root / f"vit-{name}"
    if not folder.exists():
        with new_folder(folder) as new:
            torch.manual_seed(0)
            tensors = CLIPVisionModel(config).state_dict()
            config.save_pretrained(new)
            named = {f"vision_model.{name}": tensor for name, tensor in tensors.items()}
            save_file(named, new / "model.safetensors", {"format": "pt"})
    return BaseConfig(
        name="bench",
        checkpoint="",
        tower=f"clip:{folder.resolve()}",
        image_size=config.image_size,
        preprocessing="squash-nearest",
        num_frames=8 if tiny else scale.num_frames,
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that exists under its name only when it is whole."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    new.mkdir(parents=True)
    try:
        yield new
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new)
        raise


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A folder on the disk of what is measured on, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write_clip(path: Path, num_frames: int, size: tuple[int, int], seed: int) -> None:
    """H.264 with x264's defaults: B-frames, up to 250 frames between key frames."""
    width, height = size
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in _frames(num_frames, height, width, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))


def _write_gif(path: Path, num_frames: int, seed: int) -> None:
    first, *rest = (Image.fromarray(frame) for frame in _frames(num_frames, 240, 320, seed))
    first.save(path, save_all=True, append_images=rest, duration=100, loop=0)


def _frames(count: int, height: int, width: int, seed: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    rng = np.random.default_rng(seed)
    canvas = _texture(rng)
    grain = rng.normal(0, 3, (2 * height, 2 * width, 1)).astype(np.int16)
    room = np.array([_CANVAS - height, _CANVAS - width])
    things = [(canvas[::-1], int(height * part)) for part in (0.45, 0.3, 0.2)]
    for index in range(count):
        if index % _CUT_EVERY == 0:
            start = rng.uniform(0.3, 0.7, 2) * room
            drift = rng.uniform(-1.5, 1.5, 2)
            at = rng.uniform(0, 0.6, (len(things), 2)) * (height, width)
            speed = rng.uniform(-4, 4, (len(things), 2))
        time = index % _CUT_EVERY
        top, left = np.clip(start + drift * time, 0, room).astype(int)
        image = canvas[top : top + height, left : left + width].astype(np.int16)
        for (texture, side), place, step in zip(things, at, speed, strict=True):
            limit = np.array([height - side, width - side])
            y, x = np.abs((place + step * time + limit) % (2 * limit) - limit).astype(int)
            image[y : y + side, x : x + side] = texture[:side, :side]
        dy, dx = rng.integers(0, height), rng.integers(0, width)
        image += grain[dy : dy + height, dx : dx + width]
        yield np.clip(image, 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator) -> UInt8[np.ndarray, "C C 3"]:
    """Noise whose amplitude falls with frequency, as in photographs."""
    y, x = np.meshgrid(np.fft.fftfreq(_CANVAS), np.fft.rfftfreq(_CANVAS), indexing="ij")
    fall = 1 / np.maximum(np.hypot(y, x), 1 / _CANVAS) ** 1.2
    layers = [
        np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_CANVAS, _CANVAS))) * fall)
        for _ in range(3)
    ]
    image = np.stack(layers, axis=-1)
    scaled: np.ndarray = (128 + 55 * image / image.std()).clip(0, 255)
    return scaled.astype(np.uint8)
