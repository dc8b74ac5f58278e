"""The rehearsal in a size for tests: the same code, the same names, another number of layers."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from features.errors import ConfigError
from features.layouts import CheckpointParts
from pipelines import rehearse_checkpoint
from pipelines.__main__ import main
from pipelines.rehearse import RehearseConfig, memory_now, rehearse
from pipelines.rehearse_checkpoint import Rehearsal, write_checkpoint

PROJECT = Path(__file__).resolve().parent.parent
BASES = ("llava-1.5-7b", "qwen-vl")


@pytest.mark.parametrize("base", BASES)
def test_one_step_and_one_answer(base: str, tmp_path: Path) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "figures.json"
    scratch.mkdir()
    args = ["--base", base, "--scale", "tiny", "--folder", str(scratch), "--out", str(out)]
    assert main(["rehearse", *args, "--num_frames", "9"]) == 0
    figures = json.loads(out.read_text())
    assert 0 < figures["loss"] < 20
    assert figures["layer_forwards"] == 2  # once forward, once again for the gradient
    assert figures["new_tokens"] == 8
    assert figures["video_tokens"] == (9 + 16 if base == "llava-1.5-7b" else 2 * 16)
    assert list(figures["phases"]) == ["write", "tower", "load", "train", "generate"]
    for phase in figures["phases"].values():
        assert phase["seconds"] > 0
        assert 0 < phase["peak_held_bytes"] <= figures["peak_held_bytes"]
    assert figures["checkpoint_bytes"] == Rehearsal.read(base, "tiny").nbytes
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, signal.SIGTERM])
def test_the_checkpoint_goes_away_whatever_happens(
    error: type[BaseException] | signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert list(tmp_path.glob("rehearse-*/model-*.safetensors"))
        if isinstance(error, signal.Signals):
            signal.raise_signal(error)
        else:
            raise error

    monkeypatch.setattr("pipelines.rehearse._perform", fail)
    raised = KeyboardInterrupt if isinstance(error, signal.Signals) else error
    config = RehearseConfig("qwen-vl", "tiny", tmp_path, out=tmp_path / "out" / "x.json")
    with pytest.raises(raised):
        rehearse(config, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(raised):
        rehearse(replace(config, keep=True), Console(quiet=True))
    assert len(list(tmp_path.glob("rehearse-*/config.json"))) == 1


def test_full_size_is_the_published_one() -> None:
    tensors = dict(Rehearsal.read("qwen-vl").shapes())
    parts = {"transformer.visual.attn_pool.": 76_054_528, "transformer.visual.": 1_935_610_624}
    for prefix, wanted in parts.items():
        got = sum(math.prod(shape) for name, shape in tensors.items() if name.startswith(prefix))
        assert got == wanted
    assert Rehearsal.read("qwen-vl").nbytes == 2 * (1_935_610_624 + 7_721_324_544)
    # LLaVA: the language model as Vicuna 7B with 64 rows more, CLIP's tower, and the projector
    llm = 6_738_415_616 + 2 * 64 * 4096
    assert Rehearsal.read("llava-1.5-7b").nbytes == 2 * (llm + 303_507_456 + 20_979_712)


def test_a_full_disk_and_a_wrong_base_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", "--base", "mini"]) == 2
    assert "llava-1.5-7b or qwen-vl" in capsys.readouterr().err
    monkeypatch.setattr(Rehearsal, "nbytes", 10**18)
    with pytest.raises(ConfigError, match="not enough room"):
        write_checkpoint(Rehearsal.read("qwen-vl", "tiny"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.rehearse._STATUS", Path("/nowhere/status"))
    held, mapped = memory_now()
    assert 10e6 < held < 100e9
    assert mapped == 0


LOAD = """
import json, sys, torch
from pathlib import Path
from pipelines.rehearse import Memory, memory_now
from pipelines.rehearse_checkpoint import Rehearsal
from train.image_llm import load_image_llm
import train.llava

base = Rehearsal.read("llava-1.5-7b", "tiny").base_at(Path(sys.argv[1]))
before = memory_now()[0]
with Memory(0.002) as memory:
    llm = load_image_llm(base, "cpu", getattr(torch, sys.argv[2]))
tensors = [*llm.llm.parameters(), *llm.aligner.parameters()]
size = sum(p.numel() * p.element_size() for p in tensors)
print(json.dumps({"grown": memory.held - before, "size": size}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_sharded_checkpoint_is_loaded_without_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearse_checkpoint, "SHARD_BYTES", 64 << 20)
    tiny = Rehearsal.read("llava-1.5-7b", "tiny")
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12}
    text = {**tiny.config["text_config"], **sizes}
    plan = replace(tiny, config={**tiny.config, "text_config": text})
    assert write_checkpoint(plan, tmp_path) > 400e6
    assert len(CheckpointParts.open(tmp_path).files) == len(dict(plan.shapes()))
    assert len(list(tmp_path.glob("*.safetensors"))) > 5
    for dtype, wanted in {"float32": 1.15, "bfloat16": 0.15}.items():
        command = [sys.executable, "-W", "ignore", "-c", LOAD, str(tmp_path), dtype]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        # Holding the bfloat16 tensors as well would be 1.5; what stays bfloat16 is not copied.
        assert found["grown"] <= wanted * found["size"] + 100e6, dtype
        assert dtype == "bfloat16" or found["grown"] >= 0.9 * found["size"]
