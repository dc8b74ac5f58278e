"""A small store with questions, and trainings on it that can be killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zygote

from features.annotations import QASample, write_videoinstruct
from features.config import BaseConfig, Budget, DatasetConfig, SplitConfig
from features.plan import SourceVideo, extend_plan
from features.recipes import load_recipe
from features.store import VideoRow, create_store, write_shard
from features.tower_files import make_spec, tower_digest
from train.options import TrainConfig
from train.projectors import ProjectorSwitches
from train.run import train
from train.sources import TrainingData

T, N, D = 8, 16, 96
SPEC = make_spec(
    load_recipe("bases", "mini", BaseConfig),
    tower_digest(load_recipe("bases", "mini", BaseConfig)),
    T,
)
QA = [("what colour is the circle", "red"), ("what happens after it moves", "nothing")]


def tiny_base(mini: Path | str) -> BaseConfig:
    budgets = {"default": Budget(1e-3, 2, 8), "none": Budget(epochs=0)}
    return BaseConfig("mini", str(mini), image_size=32, num_frames=T, budgets=budgets)


def make_data(folder: Path, name: str = "demo", seed: int = 0) -> TrainingData:
    """20 videos (one failed, one short), 2 questions each and one about an unknown video."""
    store = create_store(folder / "store", SPEC)
    ids = [f"v_{i:02d}" for i in range(20)]
    plan = extend_plan(store, [SourceVideo(i, f"{i}.mp4", 1, "d") for i in ids], 16, {})
    rng = np.random.default_rng(seed)
    for shard, rows in plan.shards().items():
        made = []
        for row in rows:
            frames = 3 if row.video_id == "v_01" else T
            temporal = rng.standard_normal((frames, D), dtype=np.float32)
            spatial = rng.standard_normal((N, D), dtype=np.float32)
            made.append(VideoRow(row.video_id, "ok", "", temporal, spatial))
        if shard == 0:
            made[0] = VideoRow("v_00", "timeout", "too slow")
        write_shard(store, SPEC, plan, shard, made)
    return TrainingData(dataset_of(folder, name, ids), store)


def dataset_of(folder: Path, name: str, ids: list[str]) -> DatasetConfig:
    samples = [QASample("", i, q, a) for i in [*ids, "v_99"] for q, a in QA]
    write_videoinstruct(folder / "train.json", samples)
    write_videoinstruct(folder / "val.json", samples[2:12])
    return config_of(folder, name)


def config_of(folder: Path, name: str) -> DatasetConfig:
    splits = {s: SplitConfig("videoinstruct", folder / f"{s}.json") for s in ("train", "val")}
    return DatasetConfig(name, folder, splits)


def run(order: dict[str, Any]) -> None:
    """One training in a fork; the order holds paths and TrainConfig's fields."""
    folder = Path(order["data"])
    # the files are there: processes of one training read them at the same time
    data = TrainingData(config_of(folder, "demo"), folder / "store")
    options = order["train"] | {"runs": Path(order["train"]["runs"])}
    options["switches"] = ProjectorSwitches(**options.get("switches", {}))
    train(TrainConfig(**options), tiny_base(order["mini"]), data)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # as a command, which several processes repeat
        torch.set_num_threads(1)
        run(json.loads(sys.argv[1]))
    else:
        zygote.serve(run)
