from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.decode import DECODE, LIMITS
from benchmarks.decode_speed import BATCH_SIZE, SCALES, DecodeWorld, _margin

TINY = SCALES["tiny"]
WANTED = {
    "speedup_over_one_at_a_time": ">= 4",
    "token_identical": ">= 1",
    "float32_margin_max": "<= 0.0001",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def test_the_smallest_run_measures_every_key(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    DECODE.run(["--scale", "tiny", "--repeats", "1", "--data", str(data), "--out", str(out)])
    record = json.loads(out.read_text())
    assert set(record["details"]) == set(LIMITS)
    assert all(0 <= record[key] < np.inf for key in LIMITS)
    assert {key: record["details"][key]["limit"] for key in WANTED} == WANTED
    assert record["token_identical"] == 1.0
    assert record["details"]["float32_margin_max"]["passed"]
    assert record["float32_compared"] == TINY.alone


def test_every_key_belongs_to_one_part() -> None:
    assert sorted(key for keys in DECODE.parts.values() for key in keys) == sorted(LIMITS)


def test_the_full_scale_is_what_was_asked_for() -> None:
    full = SCALES["full"]
    assert full.world.videos * full.questions == 500
    assert full.world.num_frames + (full.world.image_size // 14) ** 2 == 356
    assert full.new_tokens == 32
    assert full.alone < 500
    assert full.exact_videos * full.questions > BATCH_SIZE  # a video is cut over two batches


def test_questions_have_8_to_20_words_and_nothing_ends_an_answer(data: Path) -> None:
    world = DecodeWorld(data, TINY, torch.float64)
    frame = len(world.items[0].prompt.input_ids)
    lengths = {len(item.prompt.input_ids) - frame for item in world.items}
    assert 0 < max(lengths) <= 12
    assert {len(answer) for batch in world.together(world.items, 6) for answer in batch} == {6}
    tokens, logits = world.alone(world.items[0])
    assert len(tokens) == len(logits) == 6
    assert logits.argmax(dim=-1).tolist() == tokens


def test_the_margin_is_taken_at_the_first_difference() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.5, 0.0, 0.25], [9.0, 0.0, 0.0]])
    assert _margin([1, 2, 1], [1, 0, 0], logits) == 0.25
