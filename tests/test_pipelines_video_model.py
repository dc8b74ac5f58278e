"""`pipelines.load` against a real extraction and a real evaluation on the embedded base."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

import pipelines
from eval.folders import read_predictions
from eval.generate import GenerateConfig, generate
from extract.options import ExtractConfig
from extract.run import extract
from features.annotations import QASample, write_qa_pairs
from features.config import BaseConfig, Budget, DatasetConfig, SplitConfig
from features.errors import CheckpointError, ConfigError, FingerprintError, StoreError, VideoError
from features.store import FeatureStore, VideoFeatures
from train.checkpoint import read_projector_config
from train.export import ExportOptions, export
from train.options import TrainConfig
from train.projectors import ProjectorSwitches
from train.run import train
from train.sources import TrainingData
from train.videos import VideoReader

QUESTIONS = ["what colour is the circle", "where is it", "what happens after the circle moves"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base: BaseConfig, clip: Callable[..., Path]):
    """Four clips (one short), extracted and trained on: a few steps in one run, none in another."""
    root = tmp_path_factory.mktemp("world")
    for index, length in enumerate([32, 20, 5, 32]):
        clip(root / "videos" / f"v{index}.mp4", num_frames=length, seed=index)
    samples = [
        QASample(f"v{video}-{number}", f"v{video}", question, "red")
        for video in range(4)
        for number, question in enumerate(QUESTIONS)
    ]
    write_qa_pairs(root / "q.json", root / "a.json", samples)
    split = SplitConfig("qa-pairs", root / "q.json", root / "a.json")
    dataset = DatasetConfig("world", root / "videos", {"train": split, "test": split})
    config = ExtractConfig(root / "features", device="cpu", executor="serial", batch_size=20)
    store = FeatureStore(extract(config, base, dataset).store)
    there = replace(base, budgets={"default": Budget(3e-3, 2, 4), "none": Budget(epochs=0)})
    untuned = TrainConfig("untuned", root / "runs", budget="none", device="cpu")
    data = TrainingData(dataset, store.path)
    plain = train(untuned, there, data)
    switches = ProjectorSwitches(temporal_module="random", spatial_window=2)
    how = TrainConfig(runs=root / "runs", device="cpu", switches=switches)
    run = train(how, there, data)
    return SimpleNamespace(root=root, base=base, dataset=dataset, store=store, run=run, plain=plain)


@pytest.fixture(scope="module")
def model(world: SimpleNamespace) -> pipelines.VideoModel:
    return pipelines.load(world.run, device="cpu")


def test_a_clip_is_seen_as_extract_sees_it(world: SimpleNamespace, model) -> None:
    plain = pipelines.load(world.plain, device="cpu")
    for video_id, frames in (("v0", 8), ("v2", 5)):
        stored = world.store[video_id]
        path = world.dataset.videos / f"{video_id}.mp4"
        whole, pooled = plain.encode(path), model.encode(str(path))
        assert whole.temporal.shape == (frames, 96)  # a short clip has fewer rows
        assert whole.temporal.dtype == whole.spatial.dtype == torch.float32
        assert torch.equal(whole.temporal, pooled.temporal)
        for seen in (whole.temporal, whole.spatial):  # rounded as the store rounds
            assert torch.equal(seen, seen.half().float())
        windows = stored.spatial.astype(np.float64).reshape(2, 2, 2, 2, 96).mean(axis=(1, 3))
        for seen, wanted in (
            (whole.temporal, stored.temporal),
            (whole.spatial, stored.spatial),
            (pooled.spatial, windows.reshape(4, 96)),
        ):
            # 1e-5, and where that falls between two float16 numbers their distance
            np.testing.assert_allclose(seen, wanted, atol=1e-5, rtol=2**-10)


def test_answers_are_those_of_the_evaluation(world: SimpleNamespace, model) -> None:
    how = GenerateConfig(device="cpu", dtype="float32", max_new_tokens=6)
    rows = read_predictions(generate(how, world.base, world.dataset, world.run, world.store))
    wanted = {row["sample_id"]: row["pred"] for row in rows}
    assert len(set(wanted.values())) > 1  # else it would prove little
    for video_id in ("v0", "v1", "v2", "v3"):
        path = world.dataset.videos / f"{video_id}.mp4"
        seen = model.encode(path)
        for number, question in enumerate(QUESTIONS):
            answer = model.answer(seen, question, max_new_tokens=6)
            assert answer == wanted[f"{video_id}-{number}"]
        together = [wanted[f"{video_id}-{number}"] for number in range(3)]
        assert model.answers(path, QUESTIONS, max_new_tokens=6) == together
        assert model.answers(world.store[video_id], QUESTIONS, max_new_tokens=6) == together
    assert model.answers(path, []) == []
    many = model.answers(seen, QUESTIONS * 11, max_new_tokens=6)  # more than one batch
    assert many == together * 11


def test_a_model_of_shuffled_frames_is_given_the_evaluations_order(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    run = shutil.copytree(world.plain / "projectors", tmp_path / "shuffled")
    record = json.loads((run / "config.json").read_text())
    record["switches"]["video"] = "shuffled"
    (run / "config.json").write_text(json.dumps(record))
    seen = pipelines.load(run, device="cpu").encode(world.dataset.videos / "v0.mp4")
    wanted = VideoReader(world.store, ProjectorSwitches(video="shuffled"))["v0"]
    np.testing.assert_allclose(seen.temporal, wanted.temporal, atol=1e-5, rtol=2**-10)
    assert not np.allclose(seen.temporal, world.store["v0"].temporal, atol=1e-3)


def test_run_projectors_and_export_load_alike_also_with_the_base_elsewhere(
    world: SimpleNamespace, model, tmp_path: Path
) -> None:
    target = export(ExportOptions(world.run, tmp_path / "shared"))
    clip = world.dataset.videos / "v0.mp4"
    wanted = model.answer(clip, QUESTIONS[2], max_new_tokens=6)
    moved = shutil.copytree(world.base.checkpoint, tmp_path / "moved" / "mini")
    recipe = tmp_path / "elsewhere.yaml"
    recipe.write_text(
        yaml.safe_dump({"name": "another", "checkpoint": str(moved), "prompt": "paper"})
    )
    for path, base in (
        (world.run / "projectors", None),
        (target, None),
        (str(target), str(moved)),
        (target, str(recipe)),
    ):
        loaded = pipelines.load(path, device="cpu", base=base)
        assert loaded.answer(clip, QUESTIONS[2], max_new_tokens=6) == wanted
        assert loaded.config == model.config
    how = GenerateConfig(device="cpu", max_new_tokens=2)
    rows = read_predictions(generate(how, world.base, world.dataset, target, world.store))
    assert rows[0]["pred"] is not None
    assert (target / "eval" / "world" / "test" / "predictions.jsonl").is_file()


def test_another_base_or_other_eyes_are_refused_naming_both(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    from tiny_bases import read_tensors, with_tensors

    mine = Path(world.base.checkpoint)
    tensors = read_tensors(mine)
    aligner = next(name for name in tensors if "projector.linear_1.bias" in name)
    other = with_tensors(mine, tmp_path / "other", {**tensors, aligner: tensors[aligner] + 1})
    config = pipelines.load(world.run, device="cpu").config
    with pytest.raises(
        FingerprintError, match=rf"base differs.*{config.base_digest[:16]}.*base mini"
    ):
        pipelines.load(world.run, device="cpu", base=str(other))
    eye = next(name for name in tensors if "vision_tower" in name and name.endswith("bias"))
    blind = with_tensors(mine, tmp_path / "blind", {**tensors, eye: tensors[eye] + 1})
    model = pipelines.load(world.run, device="cpu", base=str(blind))
    with pytest.raises(
        FingerprintError, match=r"weights_digest differs.*base mini.*the projectors"
    ):
        model.encode(world.dataset.videos / "v0.mp4")
    # what an older release of the extraction made is not what this one would make
    old = shutil.copytree(world.plain / "projectors", tmp_path / "old")
    spec = replace(config.spec, numerics=1)
    record = replace(read_projector_config(old), spec=spec).to_dict()
    (old / "config.json").write_text(json.dumps(record))
    model = pipelines.load(old, device="cpu")
    with pytest.raises(FingerprintError, match=r"numerics differs.*mini: 2.*the projectors: 1"):
        model.encode(world.dataset.videos / "v0.mp4")


def test_what_cannot_be_used_says_why(world: SimpleNamespace, model, tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught:
        model.answer(tmp_path / "nowhere.mp4", "what")
    assert caught.value.code == "missing"
    whole = (world.dataset.videos / "v0.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError) as caught:
        model.answer(tmp_path / "cut.mp4", "what")
    assert caught.value.code == "truncated"
    wrong = VideoFeatures(np.zeros((8, 7), np.float16), np.zeros((16, 7), np.float16), 8)
    with pytest.raises(StoreError, match=r"another width.*got: 7.*wanted: 96"):
        model.answer(wrong, "what")
    nan = VideoFeatures(np.full((8, 96), np.nan, np.float16), np.zeros((16, 96), np.float16), 8)
    with pytest.raises(StoreError, match="not finite"):
        model.answer(nan, "what")
    with pytest.raises(CheckpointError, match=r"no projectors there.*run, its projectors/"):
        pipelines.load(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"base of these projectors.*gone.*where it lies: base="
    ):
        pipelines.load(world.run, base="/gone/base")
    with pytest.raises(ConfigError, match=r"no such dtype.*fp16"):
        pipelines.load(world.run, device="cpu", dtype="fp16")


def test_importing_pipelines_is_light() -> None:
    program = (
        "import sys, pipelines\n"
        "assert not {'torch', 'numpy', 'av'} & set(sys.modules)\n"
        "assert not hasattr(pipelines, 'lode')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
