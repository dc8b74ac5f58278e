"""A small world to evaluate in: the embedded base, made-up features, questions, untrained runs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from features.annotations import QASample, write_qa_pairs
from features.config import BaseConfig
from features.plan import extend_plan, source_video
from features.spec import FeatureSpec
from features.store import FeatureStore, VideoRow, create_store, store_path, write_shard
from train.checkpoint import ProjectorConfig, save_projectors
from train.image_llm import load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector

SPEC = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 8)
WORDS = ["what", "is", "the", "first", "colour", "red", "circle", "where", "moves", "last"]
FAILED = "v05"


@dataclass(frozen=True)
class TinyEval:
    """Where it lies."""

    root: Path
    store: FeatureStore
    recipe: Path
    """Of the dataset `tiny`, with the splits val and test, and `pairs`, judged for consistency."""

    @property
    def features(self) -> str:
        return str(self.root / "features")

    @property
    def runs(self) -> Path:
        return self.root / "runs" / "tiny"


def make_tiny_eval(root: Path, questions: int = 24) -> TinyEval:
    """Six videos, the last of which failed, and questions about them; runs come by `save_run`."""
    path = create_store(store_path(str(root / "features"), "tiny", "mini", SPEC), SPEC)
    ids = [f"v{i:02d}" for i in range(6)]
    plan = extend_plan(path, [source_video(i, None) for i in ids], 6, {})
    rng = np.random.default_rng(0)
    rows = [
        VideoRow(
            video_id,
            "ok",
            temporal=rng.normal(size=(8 - number % 3, 96)).astype(np.float32),
            spatial=rng.normal(size=(16, 96)).astype(np.float32),
        )
        for number, video_id in enumerate(ids[:-1])
    ]
    write_shard(path, SPEC, plan, 0, [*rows, VideoRow(FAILED, "truncated", "the file ends early")])
    words = random.Random(0)
    splits = {}
    for split in ("val", "test"):
        samples = [
            QASample(
                f"{split}{number:03d}",
                ids[number % 6],
                " ".join(words.choices(WORDS, k=words.randrange(3, 9))),
                "red",
                words.choice(["temporal", "spatial"]),
            )
            for number in range(questions)
        ]
        files = {name: root / f"{split}_{name[0]}.json" for name in ("questions", "answers")}
        write_qa_pairs(files["questions"], files["answers"], samples)
        splits[split] = {"format": "qa-pairs", **{k: str(v) for k, v in files.items()}}
    pairs = [
        {"Q1": "what moves", "Q2": "which one moves", "A": "red circle", "video_name": name}
        for name in ids
    ]
    (root / "pairs.json").write_text(json.dumps(pairs))
    splits["pairs"] = {
        "format": "consistency",
        "questions": str(root / "pairs.json"),
        "aspects": ["consistency"],
    }
    recipe = root / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({"name": "tiny", "videos": str(root), "splits": splits}))
    return TinyEval(root, FeatureStore(path), recipe)


RANDOM = ProjectorSwitches(temporal_module="random")


def save_run(
    run: Path,
    base: BaseConfig,
    store: FeatureStore,
    seed: int = 0,
    switches: ProjectorSwitches = RANDOM,
) -> Path:
    """Projectors of random weights, as if trained."""
    llm = load_image_llm(base)
    projector = VideoProjector(llm.aligner, llm.hidden_size, switches, seed)
    chain = (llm.digest, SPEC, store.content_digest, "tiny", "q" * 64)
    facts = ProjectorConfig(base, *chain, switches, seed, steps=0)
    save_projectors(run / "projectors", projector, facts)
    return run
