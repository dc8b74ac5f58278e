from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eval.judges.options import JudgeConfig
from features.checkpoint_files import (
    CheckpointFiles,
    read_json,
    resolve_checkpoint,
    tensors_digest,
    weight_files,
)
from features.config import BaseConfig, DatasetConfig
from features.errors import CheckpointError, ConfigError
from features.recipes import RECIPES, load_recipe, read_recipe
from pipelines.experiment import Experiment
from pipelines.plan_machine import Machine
from pipelines.study.recipe import StudyConfig
from pipelines.translate.options import TranslatorConfig


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    kinds = {"bases": BaseConfig, "datasets": DatasetConfig, "experiments": Experiment}
    kinds |= {"judges": JudgeConfig, "studies": StudyConfig, "hardware": Machine}
    kinds |= {"translators": TranslatorConfig}
    recipe = load_recipe(path.parent.name, path.stem, kinds[path.parent.name])
    if not isinstance(recipe, JudgeConfig | TranslatorConfig):  # which have a model and no name
        named = recipe.experiment if isinstance(recipe, Experiment) else recipe.name
        assert named == path.stem
    assert path.read_text().startswith("# "), "a recipe opens with what it is"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_frams": 3}, ["num_frams", "did you mean num_frames?"]),
        ({"num_frames": "many"}, ["num_frames", "many"]),
        ({"budgets": {"default": {"learning_rate": 1}}}, ["learning_rate", "budgets.default"]),
        ({"preprocessing": "stretch"}, ["preprocessing", "stretch"]),
    ],
)
def test_a_wrong_key_or_value_is_named(change: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("bases", "mini", BaseConfig, change)
    for word in [*words, "mini.yaml"]:
        assert word in str(caught.value)


def test_an_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean mini"):
        load_recipe("bases", "minni", BaseConfig)


def test_environment_variables_are_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.yaml").write_text("name: d\nvideos: ${CLIPS}/x\n")
    monkeypatch.setenv("CLIPS", "/mnt/clips")
    recipe = load_recipe("datasets", str(tmp_path / "d.yaml"), DatasetConfig)
    assert recipe.videos == Path("/mnt/clips/x")


@pytest.mark.parametrize("text", ["- a list\n", "a: [1\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        read_recipe(tmp_path / "bad.yaml")


def sharded(folder: Path) -> dict[str, torch.Tensor]:
    tensors = {f"vision.{i}": torch.randn(3, i + 1) for i in range(3)} | {"llm.0": torch.ones(2)}
    halves = dict(list(tensors.items())[:2]), dict(list(tensors.items())[2:])
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name)
    index = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text("{}")
    return tensors


def test_tensors_are_read_over_shards(tmp_path: Path) -> None:
    tensors = sharded(tmp_path)
    files = CheckpointFiles(tmp_path)
    assert set(files) == set(tensors)
    assert all(torch.equal(files[k], tensors[k]) for k in tensors)
    assert files.shape("vision.2") == (3, 3)


def test_published_bin_files_are_read_without_unpickling_code(tmp_path: Path) -> None:
    torch.save({"a.x": torch.arange(4.0)}, tmp_path / "pytorch_model.bin")
    files = CheckpointFiles(tmp_path)
    assert torch.equal(files["a.x"], torch.arange(4.0))
    assert files.shape("a.x") == (4,)
    torch.save({"a.x": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="Weights only load failed"):
        CheckpointFiles(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_file_and_a_tensor_in_two_files_are_refused(tmp_path: Path, name: str) -> None:
    write = save_file if name.endswith("safetensors") else torch.save
    write({"a": torch.randn(5000)}, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:9000])
    with pytest.raises(CheckpointError, match=rf"cannot read weights.*{name}"):
        CheckpointFiles(tmp_path)
    (tmp_path / name).write_bytes(whole)
    second = tmp_path / f"second{Path(name).suffix}"
    second.write_bytes(whole)
    index = {"weight_map": {"a": name, "b": second.name}}
    (tmp_path / f"{name}.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="a tensor in two files"):
        CheckpointFiles(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        weight_files(tmp_path)
    with pytest.raises(CheckpointError, match="no weights"):
        weight_files(tmp_path / "elsewhere")


def test_digest_tells_name_dtype_shape_and_bytes_apart() -> None:
    tensor = torch.arange(6, dtype=torch.float32)
    variants = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.view(2, 3)},
        {"a": tensor.view(torch.int32)},
        {"a": tensor + 1},
    ]
    assert len({tensors_digest(variant) for variant in variants}) == len(variants)
    strided = torch.arange(12, dtype=torch.float32).view(6, 2)[:, 0] / 2
    assert tensors_digest({"a": strided}) == tensors_digest({"a": tensor})
    assert tensors_digest({"a": tensor.bfloat16(), "b": torch.tensor(1.0)})


def test_where_a_checkpoint_is_looked_for(tmp_path: Path) -> None:
    assert resolve_checkpoint("assets/mini") == Path("assets/mini")
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        resolve_checkpoint(str(tmp_path))
    with pytest.raises(CheckpointError, match="hub"):
        resolve_checkpoint("nobody/no-such-model")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        read_json(tmp_path / "config.json")
