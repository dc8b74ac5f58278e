"""Qwen-VL's tower against a formula written from shared/reference/qwen-vl.md, in float64."""

from __future__ import annotations

import json
import re
import shutil
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import tiny_bases as tiny
import torch
import torch.nn.functional as F
from torch import Tensor

from extract.tower import load_tower
from features.config import BaseConfig
from features.errors import CheckpointError, ConfigError
from features.tower_files import tower_digest

V = "transformer.visual."


def base_of(folder: Path, **facts: object) -> BaseConfig:
    facts = {"layer": -1, "image_size": tiny.IMAGE, "preprocessing": "squash-bicubic", **facts}
    return BaseConfig("qwen", str(folder), **facts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("qwen") / "Qwen-VL"
    return folder, tiny.write_qwen_vl(folder)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def formula(tensors: dict[str, Tensor], images: np.ndarray, interleaved: bool = True) -> Tensor:
    """(B, N, D) by matrix products; `interleaved=False` is the mistake to tell apart."""
    w = {k.removeprefix(V): t.double() for k, t in tensors.items() if k.startswith(V)}
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)
    pixels = (torch.from_numpy(images).double() / 255 - mean) / std  # B S S 3
    b, heads, grid, patch = len(images), tiny.HEADS, tiny.GRID, tiny.PATCH
    cells = pixels.reshape(b, grid, patch, grid, patch, 3).permute(0, 1, 3, 5, 2, 4)
    x = cells.reshape(b, grid * grid, -1) @ w["conv1.weight"].flatten(1).T
    table = tensors[V + "positional_embedding"].float().T
    side = isqrt(table.shape[1])
    table = table.reshape(1, tiny.WIDTH, side, side)
    table = F.interpolate(table, (grid, grid), mode="bicubic", align_corners=False)
    x = x + table[0].flatten(1).T.double()

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * w[name + ".weight"] + w[name + ".bias"]

    x = norm(x, "ln_pre")
    for i in range(tiny.LAYERS):
        at = f"transformer.resblocks.{i}."
        mixed = norm(x, at + "ln_1") @ w[at + "attn.in_proj.weight"].T + w[at + "attn.in_proj.bias"]
        size = tiny.WIDTH // heads
        if interleaved:  # q|k|v inside each head
            by_head = mixed.reshape(b, -1, heads, 3 * size).transpose(1, 2)
            q, k, v = by_head.split(size, dim=-1)
        else:
            q, k, v = mixed.reshape(b, -1, 3, heads, size).permute(2, 0, 3, 1, 4)
        seen = torch.softmax(q @ k.transpose(-1, -2) / size**0.5, dim=-1) @ v
        seen = seen.transpose(1, 2).flatten(2)
        x = x + seen @ w[at + "attn.out_proj.weight"].T + w[at + "attn.out_proj.bias"]
        inner = norm(x, at + "ln_2") @ w[at + "mlp.c_fc.weight"].T + w[at + "mlp.c_fc.bias"]
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        x = x + inner @ w[at + "mlp.c_proj.weight"].T + w[at + "mlp.c_proj.bias"]
    return x


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted).abs().max() / wanted.abs().max())


def test_tokens_equal_the_formula(qwen, images) -> None:
    folder, tensors = qwen
    tower = load_tower(base_of(folder), device="cpu")
    tokens = tower.encode(images)
    assert tokens.shape == (3, 64, tiny.WIDTH) == (3, tower.num_patches, tower.width)
    wanted = formula(tensors, images)
    assert relative(tokens, wanted) <= 1e-4
    assert relative(tokens, formula(tensors, images, interleaved=False)) > 0.1
    assert tower.digest == tower_digest(base_of(folder))
    assert tower_digest(base_of(folder)) == load_tower(base_of(folder), "bfloat16", "cpu").digest


def test_positions_are_needed_and_resized(qwen, images, tmp_path: Path) -> None:
    folder, tensors = qwen
    flat = {**tensors, V + "positional_embedding": torch.zeros(16, tiny.WIDTH)}
    other = load_tower(base_of(tiny.with_tensors(folder, tmp_path / "flat", flat)), device="cpu")
    assert relative(other.encode(images), formula(tensors, images)) > 0.1
    assert relative(other.encode(images), formula(flat, images)) <= 1e-4


def test_a_table_of_the_right_size_is_taken_as_it_is(qwen, images, tmp_path: Path) -> None:
    folder, tensors = qwen
    table = torch.randn(64, tiny.WIDTH)
    same = {**tensors, V + "positional_embedding": table}
    same_folder = tiny.with_tensors(folder, tmp_path / "same", same)
    tokens = load_tower(base_of(same_folder), device="cpu").encode(images)
    assert relative(tokens, formula(same, images)) <= 1e-4


def test_the_language_may_be_absent_and_does_not_matter(qwen, images, tmp_path: Path) -> None:
    folder, tensors = qwen
    eyes = {k: t for k, t in tensors.items() if k.startswith(V)}
    alone = base_of(tiny.with_tensors(folder, tmp_path / "eyes", eyes))
    assert tower_digest(alone) == tower_digest(base_of(folder))
    got = load_tower(alone, device="cpu").encode(images)
    assert torch.equal(got, load_tower(base_of(folder), device="cpu").encode(images))
    # the alignment module is no part of the eyes
    other = {**tensors, V + "proj": tensors[V + "proj"] + 1}
    assert tower_digest(
        base_of(tiny.with_tensors(folder, tmp_path / "proj", other))
    ) == tower_digest(alone)
    name = V + "ln_pre.bias"
    other = {**tensors, name: tensors[name] + 1}
    assert tower_digest(base_of(tiny.with_tensors(folder, tmp_path / "ln", other))) != tower_digest(
        alone
    )


BLOCK = "transformer.resblocks.1."


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (BLOCK + "attn.in_proj.bias", None, "missing.*" + BLOCK + "attn.in_proj[._]bias"),
        (BLOCK + "mlp.c_fc.weight", None, "missing.*" + BLOCK + "mlp.c_fc.weight"),
        ("positional_embedding", None, "positional_embedding"),
        ("conv1.bias", torch.ones(40), "superfluous.*conv1.bias"),
        ("class_embedding", torch.ones(40), "superfluous.*class_embedding"),
        ("ln_pre.weight", torch.ones(39), r"ln_pre.weight \(39,\), wanted \(40,\)"),
        ("positional_embedding", torch.ones(16, 39), r"positional_embedding \(16, 39\)"),
        (BLOCK + "mlp.c_fc.bias", torch.ones(99), r"mlp.c_fc.bias \(99,\), wanted \(100,\)"),
        # divisible by heads x 3, and not
        (BLOCK + "attn.in_proj.weight", torch.ones(114, 40), r"attn.in_proj.*\(114, 40\)"),
        (BLOCK + "attn.in_proj.weight", torch.ones(119, 40), r"attn.in_proj.*\(119, 40\)"),
        ("positional_embedding", torch.ones(15, 40), "positional_embedding"),  # no square
    ],
)
def test_wrong_tensors_are_refused_by_name(qwen, tmp_path: Path, name, tensor, words) -> None:
    folder, tensors = qwen
    edited = {k: t for k, t in tensors.items() if k != V + name}
    if tensor is not None:
        edited[V + name] = tensor
    base = base_of(tiny.with_tensors(folder, tmp_path / "edited", edited))
    with pytest.raises(CheckpointError, match=words):
        load_tower(base, device="cpu").encode(np.zeros((1, 64, 64, 3), np.uint8))


def test_a_truncated_file_and_a_wrong_config_are_refused(qwen, tmp_path: Path) -> None:
    folder, _ = qwen
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    file = torn / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=re.escape(file.name)):
        load_tower(base_of(torn), device="cpu")
    with pytest.raises(ConfigError, match="one layer to take"):
        load_tower(base_of(folder, layer=-2), device="cpu")
    with pytest.raises(ConfigError, match="another size"):
        load_tower(base_of(folder, image_size=32), device="cpu")
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    config = json.loads((folder / "config.json").read_text())
    del config["visual"]["mlp_ratio"]
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="mlp_ratio"):
        load_tower(base_of(wrong), device="cpu")
    del config["visual"]  # Qwen-7B without eyes
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="QWenLMHeadModel"):
        load_tower(base_of(wrong), device="cpu")
