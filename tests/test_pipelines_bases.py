"""Every layout through the whole line, by the path of its checkpoint: inspect to score."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tiny_bases
import tiny_hf
import torch
from rich.console import Console

from features.config import BaseConfig
from features.describe import describe, load_base
from features.errors import CheckpointError, ConfigError
from features.recipes import RECIPES
from pipelines.__main__ import main
from pipelines.demo_data import DemoDataConfig, write_demo
from pipelines.inspect_base import inspect_base

PROJECT = Path(__file__).resolve().parent.parent
SMOKE = str(RECIPES / "experiments" / "smoke.yaml")


def llava(folder: Path, **kind: object) -> None:
    clip = folder.parent / "clip"
    tiny_bases.write_clip(clip)
    tiny_bases.write_llava(folder, clip_folder=clip, **kind)  # type: ignore[arg-type]


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "llava-hf": lambda folder: shutil.copytree(PROJECT / "assets" / "mini", folder),
    "llava": lambda folder: llava(folder),
    "llava-v1": lambda folder: llava(folder, projector="linear", bin=True, start_end=True),
    "qwen-vl": lambda folder: tiny_bases.write_qwen_vl(folder),
    "qwen-vl-chat": lambda folder: tiny_bases.write_qwen_vl(folder, chat=True),
    **{name: partial(tiny_hf.write, name, published_tokens=True) for name in tiny_hf.FAMILIES},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a demo world of a few videos."""
    root = tmp_path_factory.mktemp("world")
    write_demo(root / "data" / "demo", DemoDataConfig(8, 1, 2))
    return root


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bases") / name
            LAYOUTS[name](made[name])
        return made[name]

    return folder


def shown(base: BaseConfig) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(inspect_base(base))
    return " ".join(console.export_text().split())


@pytest.mark.parametrize("name", LAYOUTS)
def test_from_a_folder_to_a_score(
    name: str, world: Path, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    where = ["--base", str(folder_of(name)), "--num_frames", "4", "--runs", f"runs/{name}"]
    assert main(["extract", *where, "--executor", "serial"]) == 0
    assert main(["train", *where, "--config", SMOKE]) == 0
    run = world / "runs" / name / "demo" / "smoke" / "seed-0"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert torch.tensor([metrics["loss"]["first"], metrics["loss"]["last"]]).isfinite().all()
    card = (run / "projectors" / "README.md").read_text()
    assert all(f"licence of the {of} |" in card for of in ("base", "data", "code"))
    asked = ["eval", *where, "--checkpoint", str(run), "--max_new_tokens", "3"]
    assert main(asked) == 0
    rows = (run / "eval" / "demo" / "test" / "predictions.jsonl").read_text().splitlines()
    assert len(rows) == 8
    assert all(json.loads(row)["pred"] is not None for row in rows)
    assert main([*asked, "--prompt", "What? <image>{question}"]) == 2, "another prompt"


@pytest.mark.parametrize("name", LAYOUTS)
def test_inspect_tells_what_a_base_is(name: str, folder_of: Callable[[str], Path]) -> None:
    base = describe(str(folder_of(name)))
    text = shown(base)
    for wanted in ("N, D", "stop, pad ids", "a cached video", "trained, copy (RED-VILLM)"):
        assert wanted in text
    if name in ("qwen-vl", "qwen-vl-chat"):
        assert "trained, copy, tokenwise" in text
        assert f"{2 * 16} video tokens" in text  # 16 queries a stream, whatever comes in


@pytest.mark.parametrize("name", ["llava-hf", "llava", "qwen-vl"])
def test_inspect_refuses_damaged_files(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = folder_of(name)
    tensors = tiny_bases.read_tensors(source)
    lost = next(k for k in tensors if "ln_1.weight" in k or "input_layernorm.weight" in k)
    fewer = {k: t for k, t in tensors.items() if k != lost}
    tiny_bases.with_tensors(source, tmp_path / "fewer", fewer)
    with pytest.raises(CheckpointError, match=r"missing.*(input_layernorm|ln_1)\.weight"):
        shown(describe(str(tmp_path / "fewer")))
    more = {**tensors, "perceiver.latents": torch.ones(2)}
    tiny_bases.with_tensors(source, tmp_path / "more", more)
    with pytest.raises(CheckpointError, match=r"superfluous.*perceiver\.latents"):
        shown(describe(str(tmp_path / "more")))


def test_a_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    llava(tmp_path / "llava")
    tiny_bases.write_clip(tmp_path / "wide", width=2 * tiny_bases.CLIP_WIDTH)
    config = json.loads((tmp_path / "llava" / "config.json").read_text())
    config["mm_vision_tower"] = str(tmp_path / "wide")
    (tmp_path / "llava" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="not the base's"):
        shown(describe(str(tmp_path / "llava")))


def test_every_base_recipe_is_whole_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    for path in (RECIPES / "bases").glob("*.yaml"):
        base = load_base(path.stem)
        assert base.name == path.stem
        assert base.licence != BaseConfig.licence
    with pytest.raises(ConfigError, match="did you mean qwen-vl"):
        load_base("qwen-vll")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(CheckpointError, match="GPT2LMHeadModel"):
        load_base(str(tmp_path))
