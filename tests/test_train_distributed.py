"""Two real processes share each step, and see the loss curve of one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import make_data

from features.errors import ConfigError
from train.distributed import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
    environment,
    find_own_device,
    num_nodes,
)
from train.resume import STATE

TORCHRUN = ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
COMMAND = [sys.executable, str(Path(__file__).with_name("tiny_training.py"))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


def start(data: Path, mini: Path, runs: Path, **options: Any) -> subprocess.Popen[str]:
    settings = {"runs": str(runs), "device": "cpu", "epochs": 4, "batch_size": 8, **options}
    order = {"data": str(data), "mini": str(mini), "train": settings}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*COMMAND, json.dumps(order)], text=True, **pipes)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out


def curve(runs: Path, column: str = "loss") -> list[float]:
    path = runs / "demo" / "red-villm" / "seed-0" / "logs" / "metrics.csv"
    rows = csv.DictReader(path.read_text().splitlines())
    return [float(row[column]) for row in rows if row[column]]


def difference(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_two_processes_give_the_curve_of_one(data: Path, mini_dir: Path, tmp_path: Path) -> None:
    """Replicated, and with the LLM divided over them; micro-batches of one row, so that a process
    may have more of them than the other."""
    options = {"val_every": 5, "questions_per_row": 2, "micro_tokens": 1}
    start_of = {
        "one": start(data, mini_dir, tmp_path / "one", **options),
        "ddp": start(data, mini_dir, tmp_path / "ddp", devices=2, **options),
    }
    said = {name: finish(process) for name, process in start_of.items()}
    divided = {"strategy": "fsdp", "activation_checkpointing": "on"}
    said["fsdp"] = finish(start(data, mini_dir, tmp_path / "fsdp", devices=2, **divided, **options))
    where = Path("demo", "red-villm", "seed-0", "projectors", "projectors.safetensors")
    wanted = load_file(tmp_path / "one" / where)
    for name in ("ddp", "fsdp"):
        assert said[name].count("projector.temporal") == 1  # one of them speaks
        assert difference(curve(tmp_path / "one"), curve(tmp_path / name)) <= 1e-6
        validated = [curve(tmp_path / run, "val_loss") for run in ("one", name)]
        assert len(validated[0]) == 4  # and after the last step
        assert difference(*validated) <= 1e-6
        found = load_file(tmp_path / name / where)
        assert all(torch.allclose(wanted[key], found[key], atol=1e-5) for key in wanted)


def test_all_processes_stop_when_one_is_asked_and_go_on_together(
    data: Path, mini_dir: Path, tmp_path: Path
) -> None:
    options = {"devices": 2, "epochs": 40, "save_steps": 10}
    process = start(data, mini_dir, tmp_path, **options)
    state = tmp_path / "demo" / "red-villm" / "seed-0" / STATE
    while not state.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt: stopped; the same command goes on from" in err
    done = len(torch.load(state, weights_only=True)["history"])
    assert 10 <= done < 190
    assert not children_of(process.pid)
    finish(start(data, mini_dir, tmp_path, **options))
    assert len(curve(tmp_path)) == 190


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def test_a_process_that_dies_ends_the_run_with_an_error(
    data: Path, mini_dir: Path, tmp_path: Path
) -> None:
    process = start(data, mini_dir, tmp_path, devices=2, epochs=4000, save_steps=10)
    state = tmp_path / "demo" / "red-villm" / "seed-0" / STATE
    while not state.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(torch.load(state, weights_only=True)["history"]) % 10 == 0


def test_who_started_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(environment(8), LightningEnvironment)
    monkeypatch.setenv("SLURM_NTASKS", "1")  # sbatch alone starts nobody
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert isinstance(environment(8), LightningEnvironment)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    found = environment(8)
    assert isinstance(found, SLURMEnvironment)
    assert not found.auto_requeue
    for name in TORCHRUN:
        monkeypatch.setenv(name, "2")
    assert isinstance(environment(8), TorchElasticEnvironment)
    assert num_nodes() == 2
    with pytest.raises(ConfigError, match=r"got: 2 processes, devices 8.*set devices 2"):
        find_own_device(8)
    find_own_device(2)


def test_under_torchrun(data: Path, mini_dir: Path, tmp_path: Path) -> None:
    settings = {"runs": str(tmp_path), "device": "cpu", "max_steps": 3, "devices": 2}
    order = {"data": str(data), "mini": str(mini_dir), "train": settings}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", COMMAND[1], json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(curve(tmp_path)) == 3
    assert done.stdout.count("projector.temporal") == 1
