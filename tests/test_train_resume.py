"""Killed at any moment, asked to stop, resumed: the same bits as a run that was never disturbed."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import zygote
from tiny_training import TrainingData, dataset_of, make_data, tiny_base

from features.errors import ConfigError
from train import resume
from train.module import ProjectorTraining
from train.options import TrainConfig
from train.run import train

VARIANTS: dict[str, dict[str, Any]] = {
    "as the paper": {"save_steps": 1},
    "packed": {"questions_per_row": 2, "save_steps": 3},
    "one column": {"switches": {"temporal_module": "shared"}, "save_steps": 2},
    "one module": {"switches": {"trained": "temporal", "video": "shuffled"}, "save_steps": 2},
    "validated": {"val_every": 4, "save_steps": 1, "clip_norm": 1.0},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, mini_dir: Path) -> Iterator[zygote.Zygote]:
    running = zygote.Zygote("tiny_training.py")
    yield running
    running.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


def order_of(data: Path, mini: Path, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    settings = {"runs": str(folder), "device": "cpu", "epochs": 6, "batch_size": 8, **options}
    return {"data": str(data), "mini": str(mini), "train": settings}


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    run = folder / "demo" / "red-villm" / "seed-0"
    assert not (run / resume.STATE).exists()
    rows = list(csv.DictReader((run / "logs" / "metrics.csv").read_text().splitlines()))
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "projectors": (run / "projectors" / "projectors.safetensors").read_bytes(),
        "logged": [(row["step"], row["loss"], row["lr"], row["grad_norm"]) for row in rows],
        "metrics": {k: metrics[k] for k in ("steps", "loss", "questions", "digests")},
    }


def disturb(runs: zygote.Zygote, order: dict[str, Any], stop: int, after_s: float) -> bool:
    """One run that gets a signal at some moment; whether it was still under way."""
    if stop == signal.SIGKILL:
        runs.start(order, kill_after_s=after_s)
        return runs.wait() == -signal.SIGKILL
    pid = runs.start(order)
    time.sleep(after_s)
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, stop)
    return runs.wait() in (-stop, zygote.INTERRUPTED)


def finish(runs: zygote.Zygote, order: dict[str, Any]) -> float:
    """Run it to its end; returns the seconds it took."""
    started = time.monotonic()
    runs.start(order)
    assert runs.wait() == 0
    return time.monotonic() - started


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_was_killed_equals_one_that_was_not(
    runs: zygote.Zygote, data: Path, mini_dir: Path, tmp_path: Path, name: str
) -> None:
    """At three points between writing a state and giving it its name, and once by SIGTERM."""
    finish(runs, order_of(data, mini_dir, tmp_path / "whole", VARIANTS[name]))
    order = order_of(data, mini_dir, tmp_path / "hit", VARIANTS[name])
    run = tmp_path / "hit" / "demo" / "red-villm" / "seed-0"
    for point, workers in (("state-written:2", 0), ("state-written:3", 2), ("state-written:2", 0)):
        order["train"]["num_workers"] = workers  # as many as one likes may go on
        runs.start(order, kill_at=point)
        assert runs.wait() == -signal.SIGKILL
        assert (run / resume.STATE).is_file()
    assert disturb(runs, order, signal.SIGTERM, 0.1)
    finish(runs, order)
    assert outcome(tmp_path / "hit") == outcome(tmp_path / "whole")


@pytest.mark.soak
@pytest.mark.parametrize("name", VARIANTS)
def test_five_random_moments_of_each_kind_of_run(
    runs: zygote.Zygote, data: Path, mini_dir: Path, tmp_path: Path, name: str
) -> None:
    """Each run hit while it was under way, three times if it lives so long."""
    span = finish(runs, order_of(data, mini_dir, tmp_path / "whole", VARIANTS[name]))
    rng, signals = random.Random(name), (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
    for number in range(5):
        order = order_of(data, mini_dir, tmp_path / str(number), VARIANTS[name])
        hits = sum(disturb(runs, order, stop, rng.uniform(0, span)) for stop in signals)
        while not hits:  # all three came too late
            shutil.rmtree(tmp_path / str(number))
            hits = disturb(runs, order, signal.SIGKILL, rng.uniform(0, span))
        finish(runs, order)
        assert outcome(tmp_path / str(number)) == outcome(tmp_path / "whole")


def test_a_stopped_run_says_where_it_goes_on(
    data: Path, base, mini_dir: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    config = TrainConfig(runs=tmp_path, device="cpu", epochs=2)
    tiny = tiny_base(mini_dir)
    ids = [f"v_{i:02d}" for i in range(20)]
    training = TrainingData(dataset_of(data, "demo", ids), data / "store")
    steps = []
    original = resume.SaveState._due

    def stop_in_third(self: Any, module: Any) -> bool:
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, module)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(resume.SaveState, "_due", stop_in_third)
    with pytest.raises(KeyboardInterrupt, match=r"the same command goes on from .*state.ckpt"):
        train(config, tiny, training)
    assert signal.getsignal(signal.SIGTERM) == before
    run = tmp_path / "demo" / "red-villm" / "seed-0"
    assert len(torch.load(run / resume.STATE, weights_only=True)["history"]) == 3
    assert (
        run / resume.STATE
    ).stat().st_size < 4 * 4 * 57_856  # weights and two moments of the projectors: not the LLM
    assert train(config, tiny, training) == run
    assert len(steps) == 3 + 6
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(runs=tmp_path, device="cpu", epochs=2, lr=1e-4), tiny, training)
    capsys.readouterr()
    train(TrainConfig(runs=tmp_path, device="cpu", epochs=2, lr=2e-4), tiny, training)
    assert len(steps) == 3 + 9  # another recipe does not go on from there
    replaced = run.parent / "replaced" / "seed-0-1"
    assert f"trained again (train changed); the old run is {replaced}" in capsys.readouterr().out
    assert (replaced / resume.STATE).is_file()  # and takes nothing away
    train(
        TrainConfig(runs=tmp_path, device="cpu", epochs=2, lr=2e-4, micro_tokens=99), tiny, training
    )
    assert len(steps) == 3 + 9  # what decides last bits alone is no other run


def test_a_signal_between_lightnings_handlers_and_ours_counts(
    data: Path, mini_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    ids = [f"v_{i:02d}" for i in range(20)]
    training = TrainingData(dataset_of(data, "demo", ids), data / "store")
    original = ProjectorTraining.train_dataloader

    def early(self: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(ProjectorTraining, "train_dataloader", early)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's, after tests with Ray
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        train(TrainConfig(runs=tmp_path, device="cpu"), tiny_base(mini_dir), training)
    signal.signal(signal.SIGTERM, before)
    state = tmp_path / "demo" / "red-villm" / "seed-0" / resume.STATE
    assert len(torch.load(state, weights_only=True)["history"]) == 1


def test_the_model_stays_on_its_device_when_training_ends(
    data: Path, mini_dir: Path, tmp_path: Path, monkeypatch
) -> None:
    """Lightning would move the LLM to the host's memory, and the meter would compare devices."""
    moved: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: moved.append(type(self).__name__))
    ids = [f"v_{i:02d}" for i in range(20)]
    training = TrainingData(dataset_of(data, "demo", ids), data / "store")
    train(TrainConfig(runs=tmp_path, device="cpu", max_steps=2), tiny_base(mini_dir), training)
    assert not moved


def test_options_that_contradict_each_other_are_refused() -> None:
    from train.options import check_options

    for options, words in {
        "order": ({"video_order": "alternating", "questions_per_row": 2}, "questions_per_row 1"),
        "patience": ({"patience": 2}, "set val_every"),
        "steps": ({"save_steps": 0}, "save_steps"),
        "row": ({"questions_per_row": 0}, "questions_per_row"),
        "alone": ({"strategy": "fsdp"}, "set devices"),
        "both": ({"strategy": "fsdp", "devices": 2, "quantise": "8bit"}, "not divided"),
        "batch": ({"batch_size": 0}, "batch_size"),
        "epochs": ({"epochs": -1}, "epochs"),
    }.values():
        with pytest.raises(ConfigError, match=words):
            check_options(TrainConfig(**options))
