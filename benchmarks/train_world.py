"""What training is measured on: a made-up base, features and questions, made once and kept.

The base has LLaVA's layout, files and prompt, with a Llama of random weights; the questions have
the lengths of VideoInstruct-100K's. Nothing of it means anything, but the arithmetic is a real
base's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.world import new_folder
from features.annotations import QASample, write_videoinstruct
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.plan import SourceVideo, extend_plan
from features.store import FeatureStore, VideoRow, compact_index, create_store, write_shard
from features.tower_files import make_spec, tower_digest
from pipelines.rehearse_checkpoint import Rehearsal, write_checkpoint

QUESTIONS = 7
"""About each video, as VideoInstruct-100K has them."""


@dataclass(frozen=True)
class TrainScale:
    """How much is measured."""

    name: str
    llm: tuple[int, int, int, int] = (768, 2688, 12, 12)
    """H, the MLP's width, layers and heads: 102.6 million parameters without the vocabulary."""
    vocabulary: int = 32_000
    large_vocabulary: int = 152_000
    """For memory."""
    width: int = 1024
    """D."""
    image_size: int = 224
    """In patches of 14: N = 256."""
    num_frames: int = 100
    """T."""
    videos: int = 48
    batch_size: int = 32
    """Questions an optimizer step."""
    rows: int = 8
    """Questions that the plain loop passes through the LLM at once."""
    steps: int = 4
    """Ours, in each repeat."""
    plain_steps: int = 1
    """The plain loop's, in each repeat."""
    parity_steps: int = 20
    parity_batch: int = 4
    """Questions an optimizer step where losses are compared: 20 plain steps take minutes."""
    demo_videos: tuple[int, int, int] = (1000, 150, 300)
    """The demo's training, validation and test videos."""


SCALES = {
    scale.name: scale
    for scale in (
        TrainScale("full"),
        TrainScale("quick", videos=12, batch_size=16, steps=2, parity_steps=3),
        TrainScale(
            "tiny",
            llm=(64, 96, 2, 4),
            vocabulary=500,
            large_vocabulary=1000,
            width=32,
            image_size=56,
            num_frames=8,
            videos=12,
            batch_size=16,
            steps=3,
            demo_videos=(16, 2, 2),
        ),
    )
}


@dataclass(frozen=True)
class TrainWorld:
    """A base with features and questions."""

    base: BaseConfig
    dataset: DatasetConfig
    store: Path


def make_world(
    root: Path, scale: TrainScale, large_vocabulary: bool = False, videos: int | None = None
) -> TrainWorld:
    """The base, the store, and questions about its first `videos` (all unless given)."""
    base = _make_base(root, scale, large_vocabulary)
    store, count = _make_store(root, scale, base), videos or scale.videos
    questions = root / f"questions-{scale.name}-{count}.json"
    write_videoinstruct(questions, _samples(scale, FeatureStore(store).ids[:count]))
    splits = {"train": SplitConfig("videoinstruct", questions)}
    return TrainWorld(base, DatasetConfig("bench", root, splits), store)


def _make_base(root: Path, scale: TrainScale, large_vocabulary: bool) -> BaseConfig:
    vocabulary = scale.large_vocabulary if large_vocabulary else scale.vocabulary
    folder = root / f"llava-{scale.name}-{vocabulary}"
    if not folder.exists():
        with new_folder(folder) as new:
            write_checkpoint(Rehearsal({}, _config(scale, vocabulary)), new)
    return BaseConfig(
        "bench",
        str(folder.resolve()),
        image_size=scale.image_size,
        num_frames=scale.num_frames,
    )


def _config(scale: TrainScale, vocabulary: int) -> dict[str, Any]:
    """LLaVA-1.5's config.json with other numbers; its eyes are never opened and have two layers."""
    config = Rehearsal.read("llava-1.5-7b").config
    hidden, inner, layers, heads = scale.llm
    text = {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": vocabulary,
    }
    eyes = {
        "hidden_size": scale.width,
        "image_size": scale.image_size,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    tokens = {"image_token_index": vocabulary - 2, "pad_token_id": vocabulary - 1}
    parts = {"text_config": text, "vision_config": eyes}
    return config | tokens | {name: config[name] | part for name, part in parts.items()}


def _make_store(root: Path, scale: TrainScale, base: BaseConfig) -> Path:
    """Random features in float16; the eyes of both vocabularies are the same."""
    folder = root / f"features-{scale.name}-{scale.videos}"
    if folder.exists():
        return folder
    spec = make_spec(base, tower_digest(base))
    rows, patches = spec.num_frames, (scale.image_size // 14) ** 2
    with new_folder(folder) as new:
        create_store(new, spec)
        sources = [SourceVideo(f"v_{i:05d}", f"{i}.mp4", 1, "d") for i in range(scale.videos)]
        plan = extend_plan(new, sources, 16, {})
        for shard, planned in plan.shards().items():
            made = []
            for row in planned:
                rng = np.random.default_rng(int(row.video_id[2:]))
                x = rng.standard_normal((rows + patches, scale.width), dtype=np.float32)
                made.append(VideoRow(row.video_id, "ok", "", x[:rows], x[rows:]))
            write_shard(new, spec, plan, shard, made)
        compact_index(new)
    return folder


def _samples(scale: TrainScale, ids: Sequence[str]) -> list[QASample]:
    """Questions of 10 to 20 words, answers of 30 to 120 with a mean of 65; a word is a token."""
    samples = []
    for video_id in ids:
        rng = np.random.default_rng(int(video_id[2:]))
        for _ in range(QUESTIONS):
            asked = int(rng.integers(10, 21))
            told = int(np.clip(rng.lognormal(np.log(61), 0.35), 30, 120))
            # Words of the rehearsal's tokenizer; the first few are its special ones.
            words = [f"w{i}" for i in rng.integers(10, scale.vocabulary - 2, asked + told)]
            question, answer = " ".join(words[:asked]), " ".join(words[asked:])
            samples.append(QASample("", video_id, question, answer))
    return samples
