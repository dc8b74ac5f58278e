"""Killed at any moment, asked to stop, resumed: the same bits as a run that was never disturbed."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zygote
from tiny_training import make_data, tiny_base

from features.errors import ConfigError
from train import resume
from train.options import TrainConfig
from train.run import train

VARIANTS: dict[str, dict[str, Any]] = {
    "as the paper": {"save_steps": 1},
    "packed": {"questions_per_row": 2, "save_steps": 3},
    "workers": {"num_workers": 2, "save_steps": 2},
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


def disturb(
    runs: zygote.Zygote, order: dict[str, Any], number: int, rng: random.Random, span: float
) -> bool:
    """One run that is ended from outside at a random moment; whether it was."""
    moment = rng.uniform(0, span)
    if number % 2:
        runs.start(order, kill_after_s=moment)
        return runs.wait() == -signal.SIGKILL
    pid = runs.start(order)
    time.sleep(moment)
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, signal.SIGTERM)
    return runs.wait() in (-signal.SIGTERM, zygote.INTERRUPTED)


def check_disturbed(
    runs: zygote.Zygote, order: dict[str, Any], whole: dict[str, Any], kills: int, span: float
) -> int:
    rng = random.Random(kills)
    hit = sum(disturb(runs, order, number, rng, span) for number in range(kills))
    runs.start(order)
    assert runs.wait() == 0
    assert outcome(Path(order["train"]["runs"])) == whole
    return hit


def timed(runs: zygote.Zygote, order: dict[str, Any]) -> float:
    started = time.monotonic()
    runs.start(order)
    assert runs.wait() == 0
    return time.monotonic() - started


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_was_killed_and_stopped_equals_one_that_was_not(
    runs: zygote.Zygote, data: Path, mini_dir: Path, tmp_path: Path, name: str
) -> None:
    timed(runs, order_of(data, mini_dir, tmp_path / "whole", VARIANTS[name]))
    whole = outcome(tmp_path / "whole")
    order = order_of(data, mini_dir, tmp_path / "hit", VARIANTS[name])
    order["train"]["save_steps"] = 1
    for point in ("state-written:2", "state-written:9"):  # between writing a state and its name
        runs.start(order, kill_at=point)
        assert runs.wait() == -signal.SIGKILL
        state = tmp_path / "hit" / "demo" / "red-villm" / "seed-0" / resume.STATE
        assert state.is_file()
    assert check_disturbed(runs, order, whole, kills=2, span=0.4) >= 1


@pytest.mark.soak
@pytest.mark.parametrize("name", VARIANTS)
def test_twenty_moments(
    runs: zygote.Zygote, data: Path, mini_dir: Path, tmp_path: Path, name: str
) -> None:
    span = timed(runs, order_of(data, mini_dir, tmp_path / "whole", VARIANTS[name]))
    whole = outcome(tmp_path / "whole")
    order = order_of(data, mini_dir, tmp_path / "hit", VARIANTS[name])
    assert check_disturbed(runs, order, whole, kills=20, span=min(span, 1.5)) >= 10


def test_a_stopped_run_says_where_it_goes_on(
    data: Path, base, mini_dir: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    from tiny_training import TrainingData, dataset_of

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
    with pytest.raises(KeyboardInterrupt, match=r"state.ckpt holds step 3 of 9; the same command"):
        train(config, tiny, training)
    assert signal.getsignal(signal.SIGTERM) == before
    run = tmp_path / "demo" / "red-villm" / "seed-0"
    state = (run / resume.STATE).read_bytes()
    assert len(state) < 4 * 4 * 57_856  # weights and two moments of the projectors: not the LLM
    assert train(config, tiny, training) == run
    assert len(steps) == 3 + 6
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(runs=tmp_path, device="cpu", epochs=2, lr=1e-4), tiny, training)
    train(TrainConfig(runs=tmp_path, device="cpu", epochs=2, lr=2e-4), tiny, training)
    assert len(steps) == 3 + 9  # another recipe does not go on from there


def test_options_that_contradict_each_other_are_refused() -> None:
    from train.options import check_options

    for options, words in {
        "order": ({"video_order": "alternating", "questions_per_row": 2}, "questions_per_row 1"),
        "patience": ({"patience": 2}, "set val_every"),
        "steps": ({"save_steps": 0}, "save_steps"),
        "row": ({"questions_per_row": 0}, "questions_per_row"),
    }.values():
        with pytest.raises(ConfigError, match=words):
            check_options(TrainConfig(**options))
