"""The check of an accelerator, run on the CPU: same code, no accelerator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipelines import gpu_check
from pipelines.__main__ import main

SHORT = ["--images", "2", "--questions", "2", "--new_tokens", "3", "--seconds", "0.02"]


def test_the_mini_base_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "there" / "check.json"
    assert main(["gpu-check", "--device", "cpu", "--out", str(out), *SHORT]) == 0
    record = json.loads(out.read_text())
    assert list(record["parity"]) == list(record["speed"]) == ["float16", "bfloat16"]
    for dtype, parts in record["parity"].items():
        assert set(parts) == {"tower", "aligner", "logits"}
        for part in parts.values():  # another dtype was really used, and it is near
            assert 1e-5 < part["relative_error"] <= gpu_check.LIMITS[dtype]
    for works in record["speed"].values():
        assert works["matmul_flops"] > 0
        for name in ("tower", "train", "decode"):
            assert works[name]["floor_seconds"] > 0
            assert works[name]["seconds"] > 0
    shown = capsys.readouterr().out
    assert "parity" in shown
    assert "questions" in shown


def test_too_far_is_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "LIMITS", {"float16": 1e-9, "bfloat16": 1e-9})
    out = tmp_path / "check.json"
    assert main(["gpu-check", "--device", "cpu", "--out", str(out), *SHORT]) == 2
    assert not json.loads(out.read_text())["parity"]["float16"]["logits"]["ok"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_without_an_accelerator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu-check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpu-check: no accelerator here")
    assert said.count("\n") == 1
    assert "--device cpu" in said
