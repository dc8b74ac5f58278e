"""The frozen LLM divided over two real processes, against itself undivided."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shard_process import compare
from test_train_frozen import tiny_llama
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from features.errors import ConfigError
from train.quantise import quantise
from train.shard import shard

TESTS = Path(__file__).resolve().parent


def test_two_processes_hold_half_each_and_compute_what_one_computes(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    command = [sys.executable, "-W", "error", str(TESTS / "shard_process.py"), store]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=TESTS.parent, **pipes) as other:
        try:
            ours = compare(0, store)
            out, errors = other.communicate(timeout=100)
        finally:
            other.kill()
    assert other.returncode == 0, errors
    for record in (ours, json.loads(out.splitlines()[-1])):
        assert 0.45 < record["share"] < 0.55
        assert record["share_after"] == record["share"]  # nothing stays gathered behind a step
        for name in ("plain", "checkpointed", "evaluated"):
            assert record[name] <= 1e-6, name
        assert record["divided"] == record["gradients"] == 0
        assert record["kind"] == ["cpu", "torch.float32"]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    where = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_quantised_llm_is_not_divided() -> None:
    llm = tiny_llama(1)
    quantise(llm, "8bit")
    with pytest.raises(ConfigError, match="quantised LLM cannot be divided"):
        shard(llm, init_device_mesh("cpu", (1,)))
