"""Exports of runs, and how a half one, a damaged one or an occupied folder is met."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bases as tiny
import torch
from safetensors.torch import load_file, save_file

from features.config import BaseConfig
from features.durable import file_sha256
from features.errors import CheckpointError
from features.spec import FeatureSpec
from pipelines.__main__ import main
from train.checkpoint import (
    ProjectorConfig,
    find_projectors,
    load_projectors,
    read_projector_config,
    save_projectors,
)
from train.export import ExportOptions, export
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector

SPEC = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 8)
SHARED = ProjectorSwitches(temporal_module="shared")


@pytest.fixture(scope="module")
def llm(base: BaseConfig) -> ImageLLM:
    return load_image_llm(base)


def finished(
    run: Path, base: BaseConfig, llm: ImageLLM, switches: ProjectorSwitches | None = None
) -> Path:
    """A run folder as training leaves it, with projectors that have moved."""
    switches = switches or ProjectorSwitches()
    projector = VideoProjector(llm.aligner, llm.hidden_size, switches, seed=3)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter += torch.randn_like(parameter)
    facts = (llm.digest, SPEC, "c" * 64, "demo", "a" * 64, switches)
    save_projectors(run / "projectors", projector, ProjectorConfig(base, *facts, seed=3, steps=10))
    (run / "projectors" / "README.md").write_text("the card")
    (run / "config.yaml").write_text("seed: 3")
    (run / "metrics.json").write_text("{}")
    return run


def test_an_export_needs_nothing_of_its_run(tmp_path: Path, base, llm, capsys) -> None:
    base = replace(base, licence="CC BY", stop=("</s>",), prompt="paper")
    run, target = finished(tmp_path / "run", base, llm), tmp_path / "shared" / "mine"
    before = load_projectors(run / "projectors", llm, SPEC).state_dict()
    assert main(["export", str(run), str(target)]) == 0
    assert f"exported: {target}" in capsys.readouterr().out.replace("\n", "")
    shutil.rmtree(run)
    names = ("README.md", "config.json", "projectors.safetensors")
    assert tuple(sorted(path.name for path in target.iterdir())) == names
    after = load_projectors(find_projectors(target), llm, SPEC).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    config = json.loads((target / "config.json").read_text())
    assert config["base"]["checkpoint"] == base.checkpoint
    assert (config["base"]["prompt"], config["base"]["stop"]) == ("paper", ["</s>"])
    assert config["sha256"] == file_sha256(target / "projectors.safetensors")
    assert config["spec"]["fingerprint"] == SPEC.fingerprint
    assert (config["base_digest"], config["store_digest"]) == (llm.digest, "c" * 64)
    assert (config["dataset"], config["questions"]) == ("demo", "a" * 64)
    assert (config["seed"], config["steps"]) == (3, 10)
    assert read_projector_config(target).base == replace(base, budgets=BaseConfig("", "").budgets)


def test_what_is_not_finished_or_changed_is_refused(tmp_path: Path, base, llm, capsys) -> None:
    run = finished(tmp_path / "run", base, llm)
    tensors = run / "projectors" / "projectors.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"another file.*projectors\.safetensors"):
        export(ExportOptions(run, tmp_path / "target"))
    (run / "metrics.json").unlink()
    assert main(["export", str(run), str(tmp_path / "target")]) == 2
    assert "not a finished run" in capsys.readouterr().err
    assert not (tmp_path / "target").exists()


def test_an_occupied_folder_is_left_as_it_is(tmp_path: Path, base, llm) -> None:
    run = finished(tmp_path / "run", base, llm)
    target = tmp_path / "target"
    target.mkdir()
    (target / "README.md").write_text("my project")
    with pytest.raises(CheckpointError, match=r"something else is in its place.*README\.md"):
        export(ExportOptions(run, target))
    assert [path.name for path in target.iterdir()] == ["README.md"]
    assert (target / "README.md").read_text() == "my project"


def test_a_killed_export_does_not_look_whole_and_is_made_whole_by_the_next(
    tmp_path: Path, base, llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, target = finished(tmp_path / "run", base, llm), tmp_path / "target"
    # in the middle of the tensors, behind them, and before config.json is in place
    for moment in ("export-written", "export-done", "export-synced:3"):
        with monkeypatch.context() as patch:
            patch.setenv("REDVILLM_KILL_AT", moment)
            child = multiprocessing.get_context("fork").Process(
                target=export, args=(ExportOptions(run, target),)
            )
            child.start()
            child.join()
        assert child.exitcode == -signal.SIGKILL
        with pytest.raises(CheckpointError, match="no projectors there"):
            find_projectors(target)
    assert any(path.suffix == ".tmp" for path in target.iterdir())
    export(ExportOptions(run, target))
    export(ExportOptions(run, target))
    load_projectors(find_projectors(target), llm, SPEC)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_video_chatgpts_form_is_the_original_llavas(tmp_path: Path, kind: str) -> None:
    published = tiny.write_llava(tmp_path / "llava", kind)
    base = BaseConfig("llava", str(tmp_path / "llava"))
    run = finished(tmp_path / "run", base, load_image_llm(base), SHARED)
    trained = load_file(run / "projectors" / "projectors.safetensors")
    export(ExportOptions(run, tmp_path / "target", "video-chatgpt"))
    tensors = load_file(tmp_path / "target" / "mm_projector.safetensors")
    wanted = {name: tensor.shape for name, tensor in published.items() if "mm_projector" in name}
    assert {name: tensor.shape for name, tensor in tensors.items()} == wanted
    # a LLaVA with these tensors in place has the trained projector as its alignment module
    with_them = tiny.with_tensors(tmp_path / "llava", tmp_path / "with", {**published, **tensors})
    aligner = load_image_llm(replace(base, checkpoint=str(with_them))).aligner
    assert len(trained) == len(tensors)
    for name, parameter in aligner.named_parameters():
        assert torch.equal(parameter, trained[f"alignment.{name}"])


def test_video_chatgpts_form_of_anything_else_is_refused(tmp_path: Path, base, llm) -> None:
    for number, switches in enumerate(
        [ProjectorSwitches(), replace(SHARED, extra_mlp="alignment")]
    ):
        run = finished(tmp_path / str(number), base, llm, switches)
        with pytest.raises(CheckpointError, match=r"no such projectors.*temporal_module='shared'"):
            export(ExportOptions(run, tmp_path / "target", "video-chatgpt"))
    run = finished(tmp_path / "norm", base, llm, SHARED)
    folder = run / "projectors"
    tensors = load_file(folder / "projectors.safetensors")
    save_file(
        {**tensors, "alignment.norm.weight": torch.ones(2)}, folder / "projectors.safetensors"
    )
    config = json.loads((folder / "config.json").read_text())
    config["sha256"] = file_sha256(folder / "projectors.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"got: \['alignment\.norm\.weight'\]"):
        export(ExportOptions(run, tmp_path / "target", "video-chatgpt"))
    assert not (tmp_path / "target").exists()
