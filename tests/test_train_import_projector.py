"""Video-ChatGPT's checkpoints in front of tiny LLaVAs of the original layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bases as tiny
import torch
from safetensors.torch import save_file
from torch import Tensor

import pipelines
from features.catalog import create_store
from features.config import BaseConfig
from features.errors import CheckpointError, FingerprintError
from features.tower_files import make_spec, tower_digest
from pipelines.__main__ import main
from train.checkpoint import load_projectors, read_projector_config
from train.image_llm import load_image_llm
from train.import_projector import ImportOptions, import_projector

D, H = tiny.CLIP_WIDTH, tiny.LLAVA_HIDDEN


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseConfig]:
    root = tmp_path_factory.mktemp("bases")
    tiny.write_clip(root / "clip")
    for kind in ("linear", "mlp"):
        tiny.write_llava(root / kind, kind, root / "clip")
    return {
        kind: BaseConfig(kind, str(root / kind), image_size=32, preprocessing="squash-nearest")
        for kind in ("linear", "mlp")
    }


def linear(scale: float = 1.0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(H, D, generator=g) * scale, torch.randn(H, generator=g) * scale
    return {"mm_projector.weight": weight.half(), "mm_projector.bias": bias.half()}


def mlp() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(6)
    shapes = {"0.weight": (H, D), "0.bias": (H,), "2.weight": (H, H), "2.bias": (H,)}
    return {f"mm_projector.{k}": torch.randn(*s, generator=g) for k, s in shapes.items()}


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", ["model.", "", "module.model.", "base_model.model.model."])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_tokens_are_those_of_the_plain_linear_layer(
    tmp_path: Path, bases: dict[str, BaseConfig], prefix: str, suffix: str
) -> None:
    tensors = linear()
    file = tmp_path / f"mm_projector{suffix}"
    if suffix == ".bin":
        torch.save(prefixed(prefix, tensors), file)
    else:
        save_file(prefixed(prefix, tensors), file)
    options = ImportOptions(file, tmp_path / "target", "linear")
    assert import_projector(options, bases["linear"]) == {}

    base, config = bases["linear"], read_projector_config(tmp_path / "target")
    spec = make_spec(base, tower_digest(base), 100)
    assert config.spec == spec
    assert (config.store_digest, config.steps, config.base.name) == ("imported", None, "linear")
    projector = load_projectors(tmp_path / "target", load_image_llm(base), spec)
    g = torch.Generator().manual_seed(1)
    temporal, spatial = torch.randn(1, 5, D, generator=g), torch.randn(1, 16, D, generator=g)
    tokens, valid = projector(
        temporal, torch.ones(1, 5, dtype=torch.bool), spatial, torch.ones(1, 16, dtype=torch.bool)
    )
    assert valid.all()
    weight, bias = (tensors[f"mm_projector.{name}"].double() for name in ("weight", "bias"))
    wanted = torch.cat([temporal, spatial], dim=1).double() @ weight.T + bias
    torch.testing.assert_close(tokens.detach().double(), wanted, rtol=1e-5, atol=1e-5)


def test_llava_1_5s_two_layers(tmp_path: Path, bases: dict[str, BaseConfig]) -> None:
    tensors = mlp()
    torch.save(prefixed("model.", tensors), tmp_path / "p.bin")
    import_projector(ImportOptions(tmp_path / "p.bin", tmp_path / "t", "mlp"), bases["mlp"])
    config = read_projector_config(tmp_path / "t")
    projector = load_projectors(tmp_path / "t", load_image_llm(bases["mlp"]), config.spec)
    x = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(1))
    weights = {name.removeprefix("mm_projector."): t.double() for name, t in tensors.items()}
    inner = x.double() @ weights["0.weight"].T + weights["0.bias"]
    bent = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    wanted = bent @ weights["2.weight"].T + weights["2.bias"]
    for module in (projector.alignment, projector.temporal):
        assert module is not None
        tokens = module(x, torch.ones(2, 3, dtype=torch.bool))[0]
        torch.testing.assert_close(tokens.detach().double(), wanted, rtol=1e-4, atol=1e-4)


def test_imported_projectors_answer_and_what_is_not_used_is_named(
    tmp_path: Path,
    bases: dict[str, BaseConfig],
    clip: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = {"embed_tokens.weight": torch.zeros(3, H)}
    torch.save(prefixed("model.", linear(0.1) | table), tmp_path / "p.bin")
    recipe, base = tmp_path / "linear.yaml", bases["linear"]
    recipe.write_text(
        f"name: linear\ncheckpoint: {base.checkpoint}\nimage_size: 32\nprompt: paper\n"
        "preprocessing: squash-nearest\n"
    )
    target = tmp_path / "target"
    args = ["import-projector", str(tmp_path / "p.bin"), str(target), "--base", str(recipe)]
    assert main(args) == 0
    said = capsys.readouterr().out
    assert "not used: model.embed_tokens.weight (embeddings of <vid_patch>" in said
    assert "Imported from `p.bin`, sha256 `" in (target / "README.md").read_text()
    model = pipelines.load(target, device="cpu")
    video = model.encode(clip(tmp_path / "c.mp4", num_frames=12))
    assert video.temporal.shape == (12, D)  # of T = 100
    assert isinstance(model.answer(video, "what", max_new_tokens=3), str)
    assert main(args) == 0  # again, the same


def test_a_store_tells_which_features_they_are_for(
    tmp_path: Path, bases: dict[str, BaseConfig]
) -> None:
    base = bases["linear"]
    spec = make_spec(base, tower_digest(base), 8, "float16")
    torch.save(linear(), tmp_path / "p.bin")
    for name, wanted in (("own", spec), ("other", replace(spec, layer=-1))):
        create_store(tmp_path / name, wanted)
    file, target = tmp_path / "p.bin", tmp_path / "target"
    import_projector(ImportOptions(file, target, "linear", str(tmp_path / "own")), base)
    assert read_projector_config(target).spec == spec
    with pytest.raises(FingerprintError, match="layer differs"):
        import_projector(ImportOptions(file, target, "linear", str(tmp_path / "other")), base)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (linear() | {"model.layers.0.mlp.up_proj.weight": torch.ones(2)}, "model.layers.0.mlp"),
        (linear() | {"vision_resampler.query": torch.ones(2)}, "vision_resampler.query"),
        (linear() | {"model.mm_projector.bias": torch.ones(H)}, "model.mm_projector.bias"),
        ({"embed_tokens.weight": torch.ones(3, H)}, "no mm_projector"),
        (mlp(), r"does not fit.*of linear.*linear_1\.bias.*name the base"),
        ({"mm_projector.weight": torch.ones(H, D)}, r"linear\.bias': 'missing'"),
        ({**linear(), "mm_projector.bias": torch.ones(H + 1)}, rf"linear\.bias': \({H + 1},\)"),
        ({**linear(), "mm_projector.bias": 3}, r"'mm_projector\.bias' is no tensor"),
        ([torch.ones(2)], "a list, no table of tensors"),
        ({"mm_projector.weight": Path("a")}, "cannot read weights"),  # asks for code to be run
        (None, "no such file"),
    ],
)
def test_anything_else_is_refused_by_name(
    tmp_path: Path, bases: dict[str, BaseConfig], content: object, words: str
) -> None:
    if content is not None:
        torch.save(content, tmp_path / "p.bin")
    options = ImportOptions(tmp_path / "p.bin", tmp_path / "target", "linear")
    with pytest.raises(CheckpointError, match=words):
        import_projector(options, bases["linear"])
    assert not (tmp_path / "target").exists()
