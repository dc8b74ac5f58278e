"""A world as a dataset: real H.264 files and annotations in the real sets' file formats.

Training questions are written as VideoInstruct-100K has them, validation and test questions as
ActivityNet-QA or (the stories world) the generative benchmark has them, so that a world takes the
very path a real dataset takes. The demo world is asked about in Chinese, too, in the folder `zh`:
row by row the same questions, from one pass over the same random streams.
"""

from __future__ import annotations

import base64
import copy
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

from features.annotations import QASample, write_qa_pairs, write_vcgbench, write_videoinstruct
from features.spec import canonical_json
from pipelines import world
from pipelines.worlds import CHINESE, DEMO, WORLDS, World, WorldName

SPLITS = ("train", "val", "test")
ENCODING = {"crf": "12", "preset": "veryfast", "threads": "1", "x264-params": "asm=0"}
"""How x264 is called for the same bytes on every machine with this library: on one thread, and
without its assembler, which looks at memory that nobody wrote (one video in twenty changed)."""


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
    """Temporal questions a video, and as many spatial ones (of the stories world's tests: pairs of
    wordings); its captions are asked once each."""
    size: int = 64
    """Side of a frame, in pixels."""
    fps: int = 8
    """Frames a second of the written files."""
    seed: int = 2024
    """Seed of the worlds; train, val and test draw from streams of their own."""
    test_seed: int | None = None
    """Seed of the test videos alone, where they are to be others than the demo's."""
    world: WorldName = "demo"
    """What the videos are drawn from."""

    def seed_of(self, split: str) -> int:
        """Whose stream a split draws from."""
        return self.seed if split != "test" or self.test_seed is None else self.test_seed


def write_demo(root: Path, config: DemoDataConfig) -> bool:
    """Render videos and write annotations below `root`; False when they were there already.

    Each language's manifest is written last, so its existence means completion; videos that a
    killed run finished are kept, and so is a language that is complete.
    """
    due = {}
    for name, of in _tongues(config).items():
        content = canonical_json({**_said(config), "world": of.digest, "encoding": ENCODING})
        manifest = root / name / "manifest.json"
        if not manifest.is_file() or manifest.read_text(encoding="utf-8") != content:
            manifest.unlink(missing_ok=True)
            due[name] = manifest, content
    if not due:
        return False
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        told = _render_split(root / "videos", split, config)
        for name in due:
            _write_split(root / name, split, told[name], config)
    for manifest, content in due.values():
        manifest.write_text(content, encoding="utf-8")
    return True


def _tongues(config: DemoDataConfig) -> dict[str, World]:
    """The languages that a world is asked about in, by the folder of their annotations."""
    of = WORLDS[config.world]
    return {"": of, "zh": CHINESE} if of is DEMO else {"": of}


def _write_split(root: Path, split: str, samples: list[QASample], config: DemoDataConfig) -> None:
    """Write one split's annotations in one language."""
    root.mkdir(exist_ok=True)
    if split == "train":
        write_videoinstruct(root / "train.json", samples)
    elif WORLDS[config.world].exam is not None:
        _write_exam(root, split, samples)
    elif samples:
        write_qa_pairs(root / f"{split}_q.json", root / f"{split}_a.json", samples, "v_")


def _said(config: DemoDataConfig) -> dict[str, Any]:
    """What was decided; a new setting that nobody uses leaves a manifest as it was."""
    return {name: value for name, value in asdict(config).items() if value is not None}


def _write_exam(root: Path, split: str, samples: list[QASample]) -> None:
    """Write the generative benchmark's three files, those of validation with a name of their own.

    A sample's type is the file that it belongs to.
    """
    for part in sorted({sample.type for sample in samples}):
        name = f"{part}_qa.json" if split == "test" else f"{split}_{part}_qa.json"
        write_vcgbench(root / name, [sample for sample in samples if sample.type == part])


def _render_split(folder: Path, split: str, config: DemoDataConfig) -> dict[str, list[QASample]]:
    """Write one split's videos; returns its questions in each language."""
    tongues = _tongues(config)
    told: dict[str, list[QASample]] = {name: [] for name in tongues}
    count = getattr(config, f"{split}_videos")
    quiet = not Console().is_terminal
    for index in track(range(count), f"render {split}", transient=True, disable=quiet):
        rng = np.random.default_rng([config.seed_of(split), SPLITS.index(split), index])
        video_id = demo_video_id(split, index, config)
        story = WORLDS[config.world].sample_story(rng)
        path = folder / f"{video_id}.mp4"
        if not path.is_file():
            encode_video(path, world.render(story, size=config.size), config.fps)
        for name, of in tongues.items():
            told[name] += _ask(of, story, copy.deepcopy(rng), video_id, split, config.questions)
    return told


def _ask(
    of: World, story: world.Story, rng: np.random.Generator, video_id: str, split: str, count: int
) -> Iterator[QASample]:
    """Yield the questions about one video."""
    if split != "train" and of.exam is not None:
        asks = of.exam(story, rng, count)
    else:
        short = of.qa(story, rng, count, count)
        asks = [(qa.type, qa, None) for qa in short + of.captions(story, rng, True)]
    for number, (kind, qa, second) in enumerate(asks):
        yield QASample(f"{video_id}_{number}", video_id, qa.question, qa.answer, kind, second)


def demo_video_id(split: str, index: int, config: DemoDataConfig) -> str:
    """An id of the form the real sets have: `v_` and 11 characters, unique by what the file is."""
    seed, digest = config.seed_of(split), WORLDS[config.world].digest
    text = json.dumps([digest, ENCODING, seed, config.size, config.fps, split, index])
    return "v_" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()[:11]


def encode_video(path: Path, frames: UInt8[np.ndarray, "T H W 3"], fps: int) -> None:
    """Write frames as an H.264 mp4; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = dict(ENCODING)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)
