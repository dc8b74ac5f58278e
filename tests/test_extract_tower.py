from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from extract.clip_tower import QuickGELU
from extract.tower import load_tower, normalise
from features.config import BaseConfig
from features.errors import CheckpointError, ConfigError
from features.tower_files import make_spec, tower_digest

VISION = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
LAYOUTS = ["vision_tower.vision_model.", "vision_tower.", "model.vision_tower.vision_model."]


def make_checkpoint(folder: Path, **vision: object) -> LlavaForConditionalGeneration:
    """A tiny LLaVA whose every parameter is random, so that none can be forgotten unnoticed."""
    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{**VISION, **vision}).to_dict(),
        text_config=LlamaConfig(**text, num_attention_heads=4, vocab_size=50).to_dict(),
        image_token_index=40,
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model


def rename(folder: Path, prefix: str) -> None:
    """Give the tower's tensors another published prefix."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    old = "vision_tower."
    renamed = {
        prefix + k.removeprefix(old) if k.startswith(old) else k: tensors[k] for k in tensors
    }
    save_file(renamed, path, metadata={"format": "pt"})


def base_of(folder: Path | str, **facts: object) -> BaseConfig:
    return BaseConfig(**{"name": "tiny", "checkpoint": str(folder), "image_size": 32, **facts})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def reference(model: LlavaForConditionalGeneration, images: np.ndarray) -> torch.Tensor:
    tower = model.model.vision_tower
    pixels = normalise(torch.from_numpy(images))
    with torch.inference_mode():
        return tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_transformers_tower(
    tmp_path: Path, images: np.ndarray, hidden_act: str, layout: str
) -> None:
    model = make_checkpoint(tmp_path, hidden_act=hidden_act, layer_norm_eps=1e-4)
    rename(tmp_path, layout)
    tower = load_tower(base_of(tmp_path), device="cpu")
    tokens = tower.encode(images)
    assert tokens.shape == (5, tower.num_patches, tower.width) == (5, 16, 32)
    assert (tokens - reference(model, images)).abs().max() <= 1e-5
    assert tower.digest == tower_digest(base_of(tmp_path))


def test_the_layout_is_no_part_of_the_digest(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    before = tower_digest(base_of(tmp_path))
    rename(tmp_path, LAYOUTS[0])
    assert tower_digest(base_of(tmp_path)) == before


def test_mini_equals_transformers_tower(mini_dir: Path, images: np.ndarray) -> None:
    if not (mini_dir / "model.safetensors").is_file():
        pytest.skip("assets/mini is not there")
    model = LlavaForConditionalGeneration.from_pretrained(mini_dir).eval()
    size = model.config.vision_config.image_size
    tower = load_tower(base_of(mini_dir, image_size=size), device="cpu")
    assert (tower.encode(images) - reference(model, images)).abs().max() <= 1e-5


def test_normalise_equals_clips() -> None:
    images = torch.arange(48, dtype=torch.uint8).reshape(1, 4, 4, 3)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    wanted = ((images.numpy() / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalise(images).numpy(), wanted, rtol=1e-5)


def test_dtypes_layers_and_threads(tmp_path: Path, images: np.ndarray) -> None:
    make_checkpoint(tmp_path)
    exact = load_tower(base_of(tmp_path), device="cpu").encode(images)
    half = load_tower(base_of(tmp_path), "bfloat16", "cpu").encode(images)
    assert half.dtype == torch.bfloat16
    assert 0 < (half.float() - exact).abs().max() < 0.2
    first = load_tower(base_of(tmp_path, layer=2), device="cpu").encode(images)
    assert torch.equal(first, exact)  # hidden state 2 of 0..3 is the one before the last
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        again = load_tower(base_of(tmp_path), device="cpu").encode(images)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again, exact)


def edit(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(name, None)
    save_file(tensors | ({} if tensor is None else {name: tensor}), path, metadata={"format": "pt"})


def test_refuses_tensors_that_do_not_fit_by_name(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    name = "vision_tower.encoder.layers.1.mlp.fc1.bias"
    edit(tmp_path, name, None)
    with pytest.raises(CheckpointError, match=r"missing \[encoder\.layers\.1\.mlp\.fc1\.bias\]"):
        load_tower(base_of(tmp_path))
    edit(tmp_path, name, torch.zeros(79))
    with pytest.raises(
        CheckpointError, match=r"resblocks\.1\.mlp\.c_fc\.bias \(79,\), wanted \(80"
    ):
        load_tower(base_of(tmp_path))
    edit(tmp_path, name, torch.zeros(80))
    edit(tmp_path, "vision_tower.head.weight", torch.zeros(2))
    with pytest.raises(CheckpointError, match=r"not expected \[head\.weight\]"):
        load_tower(base_of(tmp_path))


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match="another size"):
        load_tower(base_of(tmp_path, image_size=64))
    with pytest.raises(ConfigError, match="no such layer"):
        load_tower(base_of(tmp_path, layer=-4))
    with pytest.raises(ConfigError, match="unknown tower"):
        load_tower(base_of(tmp_path, tower="resnet"))
    with pytest.raises(ConfigError, match="no such device"):
        load_tower(base_of(tmp_path), device="warp")
    with pytest.raises(ConfigError, match="without a tag"):
        load_tower(base_of(tmp_path, tower="open_clip:ViT-B-32"))
    with pytest.raises(CheckpointError, match="open_clip cannot make"):
        load_tower(base_of(tmp_path, tower="open_clip:ViT-B-32:no-such-tag"))
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="relu"):
        load_tower(base_of(tmp_path))


def local_dir(folder: Path, layers: object) -> object:
    vision = {"image_size": 32, "layers": layers, "width": 32, "patch_size": 8, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    torch.manual_seed(1)
    model = open_clip.model.CLIP(**config).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def test_open_clips_own_folders(tmp_path: Path, images: np.ndarray) -> None:
    model = local_dir(tmp_path / "vit", 3)
    tower = load_tower(base_of("-", tower=f"local-dir:{tmp_path / 'vit'}"), device="cpu")
    with torch.inference_mode():
        x = model.visual._embeds(normalise(torch.from_numpy(images)))  # type: ignore[attr-defined]
        for block in model.visual.transformer.resblocks[:-1]:  # type: ignore[attr-defined]
            x = block(x)
    assert torch.equal(tower.encode(images), x[:, 1:])
    local_dir(tmp_path / "resnet", [1, 1, 1, 1])
    with pytest.raises(CheckpointError, match="no plain ViT"):
        load_tower(base_of("-", tower=f"local-dir:{tmp_path / 'resnet'}"))


def test_spec_names_what_was_asked(tmp_path: Path) -> None:
    base = base_of(tmp_path, num_frames=8)
    spec = make_spec(base, "0" * 64)
    assert (spec.num_frames, spec.image_size, spec.weights_digest) == (8, 32, "0" * 64)
    assert make_spec(base, "0" * 64, num_frames=16).fingerprint != spec.fingerprint
    with pytest.raises(CheckpointError, match="only known to the extraction"):
        tower_digest(base_of(tmp_path, tower="open_clip:ViT-B-32:openai"))


def test_our_activation_is_open_clips_to_the_bit() -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 4
    for dtype in (torch.float32, torch.bfloat16):
        theirs = open_clip.transformer.QuickGELU()(x.to(dtype))
        assert torch.equal(QuickGELU()(x.to(dtype)), theirs)
