from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from features.config import BaseConfig
from features.durable import file_sha256
from features.errors import CheckpointError, FingerprintError, StoreError
from features.spec import FeatureSpec
from train.checkpoint import (
    ProjectorConfig,
    load_projectors,
    read_projector_config,
    save_projectors,
)
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector

SPEC = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 8)


@pytest.fixture(scope="module")
def base(mini_dir: Path) -> ImageLLM:
    return load_image_llm(BaseConfig("mini", str(mini_dir)))


def saved(folder: Path, base: ImageLLM, switches: ProjectorSwitches) -> VideoProjector:
    projector = VideoProjector(base.aligner, base.hidden_size, switches, seed=3)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter += torch.randn_like(parameter)
    recipe = BaseConfig("mini", "assets/mini", prompt="paper", stop=("</s>",))
    facts = (base.digest, SPEC, "c" * 64, "demo", "q" * 64, switches)
    config = ProjectorConfig(recipe, *facts, seed=3, steps=10)
    save_projectors(folder, projector, config)
    digest = file_sha256(folder / "projectors.safetensors")
    assert read_projector_config(folder) == replace(config, sha256=digest)
    return projector


@pytest.mark.parametrize(
    "switches",
    [
        ProjectorSwitches(),
        ProjectorSwitches(temporal_module="shared"),
        ProjectorSwitches("temporal_features", "random", spatial_window=2),
        ProjectorSwitches(extra_mlp="both"),
        ProjectorSwitches(trained="temporal", video="shuffled"),
    ],
)
def test_round_trip_holds_every_tensor_once(tmp_path: Path, base, switches) -> None:
    projector = saved(tmp_path, base, switches)
    loaded = load_projectors(tmp_path, base, SPEC)
    assert loaded.switches == switches
    state, again = projector.state_dict(), loaded.state_dict()
    assert list(state) == list(again)
    assert all(torch.equal(state[k], again[k]) for k in state)
    tensors = load_file(tmp_path / "projectors.safetensors")
    assert sum(t.numel() for t in tensors.values()) == sum(
        p.numel() for p in projector.parameters()
    )
    assert (loaded.temporal is loaded.alignment) == (switches.temporal_module == "shared")


def test_another_base_or_spec_is_refused_naming_both_sides(tmp_path: Path, base) -> None:
    saved(tmp_path, base, ProjectorSwitches())
    other = replace(SPEC, num_frames=16)
    with pytest.raises(FingerprintError, match="feature fingerprint differs") as caught:
        load_projectors(tmp_path, base, other)
    assert SPEC.fingerprint[:16] in str(caught.value)
    assert other.fingerprint[:16] in str(caught.value)
    with pytest.raises(FingerprintError, match=r"base differs.*base mini.*base b2"):
        load_projectors(tmp_path, replace(base, digest="d" * 64, name="b2"), SPEC)


def test_damaged_checkpoints_are_refused(tmp_path: Path, base) -> None:
    with pytest.raises(CheckpointError):
        load_projectors(tmp_path, base, SPEC)
    saved(tmp_path, base, ProjectorSwitches())
    path = tmp_path / "projectors.safetensors"
    tensors = load_file(path)
    name = "temporal.linear_1.bias"
    save_file({k: v for k, v in tensors.items() if k != name}, path)
    with pytest.raises(CheckpointError, match=name):
        load_projectors(tmp_path, base, SPEC)
    save_file({**tensors, name: torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=name):
        load_projectors(tmp_path, base, SPEC)
    save_file({**tensors, name: tensors[name] + 1}, path)
    with pytest.raises(CheckpointError, match=r"another file.*projectors\.safetensors.*sha256"):
        load_projectors(tmp_path, base, SPEC)
    path.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_projectors(tmp_path, base, SPEC)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "schema": 99}))
    with pytest.raises(StoreError, match="schema"):
        load_projectors(tmp_path, base, SPEC)
    del config["seed"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"missing fields.*\['seed'\].*train"):
        load_projectors(tmp_path, base, SPEC)
    (tmp_path / "config.json").write_text(json.dumps({**config, "seed": 3, "base": "mini"}))
    with pytest.raises(CheckpointError, match="not a projector config"):
        load_projectors(tmp_path, base, SPEC)


def test_projectors_from_before_a_switch_have_its_default(tmp_path: Path, base) -> None:
    saved(tmp_path, base, ProjectorSwitches("spatial_features"))
    record = json.loads((tmp_path / "config.json").read_text())
    for name in ("video", "trained"):
        del record["switches"][name]
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert load_projectors(tmp_path, base, SPEC).switches == ProjectorSwitches("spatial_features")
