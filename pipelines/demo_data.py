"""The demo world as a dataset: real H.264 files and annotations in the real sets' file formats.

Training questions are written as VideoInstruct-100K has them, validation and test questions as
ActivityNet-QA has them, so that the demo takes the very path a real dataset takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from features.annotations import QASample, write_qa_pairs, write_videoinstruct
from features.spec import canonical_json
from pipelines import world, world_text

SPLITS = ("train", "val", "test")
WORLD_DIGEST = hashlib.sha256(
    b"".join(Path(str(module.__file__)).read_bytes() for module in (world, world_text))
).hexdigest()
"""Of the code that decides what is rendered: another world gives other videos, with other ids."""


@dataclass(frozen=True)
class DemoDataConfig:
    """What is rendered; every field is part of the manifest."""

    train_videos: int = 1000
    """Training videos."""
    val_videos: int = 150
    """Validation videos: for every choice."""
    test_videos: int = 300
    """Test videos: scored once."""
    questions: int = 2
    """Temporal questions a video, and as many spatial ones."""
    size: int = 64
    """Side of a frame, in pixels."""
    fps: int = 8
    """Frames a second of the written files."""
    seed: int = 2024
    """Seed of the worlds; train, val and test draw from streams of their own."""
    test_seed: int | None = None
    """Seed of the test videos alone, where they are to be others than the demo's."""

    def seed_of(self, split: str) -> int:
        """Whose stream a split draws from."""
        return self.seed if split != "test" or self.test_seed is None else self.test_seed


def write_demo(root: Path, config: DemoDataConfig) -> bool:
    """Render videos and write annotations below `root`; False when they were there already.

    The manifest is written last, so its existence means completion; videos that a killed run
    finished are kept.
    """
    manifest = root / "manifest.json"
    content = canonical_json({"world": WORLD_DIGEST, **_said(config)})
    if manifest.is_file() and manifest.read_text(encoding="utf-8") == content:
        return False
    manifest.unlink(missing_ok=True)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        samples = list(_render_split(root / "videos", split, config))
        if split == "train":
            write_videoinstruct(root / "train.json", samples)
        elif samples:
            write_qa_pairs(root / f"{split}_q.json", root / f"{split}_a.json", samples, "v_")
    manifest.write_text(content, encoding="utf-8")
    return True


def _said(config: DemoDataConfig) -> dict[str, Any]:
    """What was decided; a new setting that nobody uses leaves a manifest as it was."""
    return {name: value for name, value in asdict(config).items() if value is not None}


def _render_split(folder: Path, split: str, config: DemoDataConfig) -> Iterator[QASample]:
    """Write one split's videos and yield its questions."""
    count = getattr(config, f"{split}_videos")
    quiet = not Console().is_terminal
    for index in track(range(count), f"render {split}", transient=True, disable=quiet):
        rng = np.random.default_rng([config.seed_of(split), SPLITS.index(split), index])
        video_id = demo_video_id(split, index, config)
        story = world.sample_story(rng)
        path = folder / f"{video_id}.mp4"
        if not path.is_file():
            encode_video(path, world.render(story, size=config.size), config.fps)
        for number, qa in enumerate(world.qa(story, rng, config.questions, config.questions)):
            sample_id = f"{video_id}_{number}"
            yield QASample(sample_id, video_id, qa.question, qa.answer, type=qa.type)


def demo_video_id(split: str, index: int, config: DemoDataConfig) -> str:
    """An id of the form the real sets have: `v_` and 11 characters, unique by split and world."""
    text = json.dumps([WORLD_DIGEST, config.seed_of(split), config.size, config.fps, split, index])
    return "v_" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()[:11]


def encode_video(path: Path, frames: UInt8[np.ndarray, "T H W 3"], fps: int) -> None:
    """Write frames as an H.264 mp4; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # one thread: the same bytes on every machine with this libx264
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
