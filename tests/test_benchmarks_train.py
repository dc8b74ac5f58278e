from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.our_training import train_ours
from benchmarks.plain_training import train_plain
from benchmarks.train import LIMITS, TRAIN
from benchmarks.train_world import QUESTIONS, SCALES, TrainWorld, make_world
from features.annotations import load_annotations

WANTED = {
    "step_over_floor": "<= 1.1",
    "speedup_over_plain": ">= 2.5",
    "loss_max_abs_diff": "<= 1e-05",
    "peak_memory_ratio_152k": "<= 0.6",
    "data_time_share": "<= 0.02",
    "mini_train_s": "<= 60",
}
TINY = SCALES["tiny"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def world(data: Path) -> TrainWorld:
    return make_world(data, TINY)


def test_the_smallest_run_measures_every_key(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out.json"
    TRAIN.run(["--scale", "tiny", "--repeats", "1", "--data", str(data), "--out", str(out)])
    record = json.loads(out.read_text())
    assert set(LIMITS) == set(record["details"])
    assert all(0 <= record[key] < np.inf for key in LIMITS)
    assert {key: record["details"][key]["limit"] for key in WANTED} == WANTED
    assert record["details"]["loss_max_abs_diff"]["passed"] is True
    assert 0 < record["data_time_share"] < 1
    assert {"accelerate", "lightning", "h5py"} <= set(record["packages"])
    assert "step_over_floor" in capfd.readouterr().err
    assert not list(data.glob("run-*"))


def test_every_key_belongs_to_one_part() -> None:
    assert sorted(key for keys in TRAIN.parts.values() for key in keys) == sorted(LIMITS)


def test_lengths_are_those_of_videoinstruct(world: TrainWorld) -> None:
    samples = load_annotations(world.dataset.splits["train"])
    assert len(samples) == QUESTIONS * TINY.videos
    asked = [len(sample.question.split()) for sample in samples]
    told = [len(sample.answer.split()) for sample in samples]
    assert (min(asked), max(asked)) == (10, 20)
    assert 30 <= min(told) < max(told) <= 120
    assert 55 < np.mean(told) < 75


@pytest.mark.parametrize("questions_per_row", [1, QUESTIONS])
def test_plain_loop_and_floor_have_our_losses(
    world: TrainWorld, tmp_path: Path, questions_per_row: int
) -> None:
    ours = train_ours(world, tmp_path / "ours", 8, 6, True, questions_per_row)
    steps = [list(reversed(step.questions)) for step in ours]
    plain = train_plain(world, steps, 4, tmp_path / "plain")
    losses = torch.tensor([step.loss for step in ours])
    torch.testing.assert_close(torch.tensor(plain.losses), losses, atol=1e-5, rtol=0)
    floor = torch.tensor([step.floor_loss for step in ours])
    torch.testing.assert_close(floor, losses, atol=1e-5, rtol=0)
    assert all(len(set(step.questions)) == 8 for step in ours)
    assert len({*losses.tolist()}) == 6


def test_packed_rows_hold_the_video_once(world: TrainWorld, tmp_path: Path) -> None:
    alone, packed = (
        train_ours(world, tmp_path / str(k), QUESTIONS, 1, questions_per_row=k)[0]
        for k in (1, QUESTIONS)
    )
    video_tokens = TINY.num_frames + (TINY.image_size // 14) ** 2
    assert packed.tokens <= alone.tokens - (QUESTIONS - 1) * video_tokens


def test_losses_of_other_questions_differ_by_more(world: TrainWorld, tmp_path: Path) -> None:
    first, second = train_ours(world, tmp_path / "ours", 8, 2)
    plain = train_plain(world, [second.questions, first.questions], 4, tmp_path / "plain")
    assert abs(plain.losses[0] - first.loss) > 1e-4
