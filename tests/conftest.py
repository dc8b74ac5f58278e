"""Shared set-up: shapes and types are checked at every call of our own code while tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("REDVILLM_KILL_AT", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as what a script starts with & has it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook

install_import_hook(["extract", "features", "train", "eval", "pipelines"], "beartype.beartype")

import av
import numpy as np
import pytest
import torch
from s3_client import S3

from features.config import BaseConfig

PROJECT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mini_dir() -> Path:
    """The embedded base."""
    return PROJECT / "assets" / "mini"


@pytest.fixture(scope="session")
def base(mini_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseConfig:
    """A copy of it: digests are compared over minutes, and `make mini` may write the original."""
    copy = shutil.copytree(mini_dir, tmp_path_factory.mktemp("base") / "mini")
    return BaseConfig("mini", str(copy), image_size=32, num_frames=8)


def write_clip(
    path: Path,
    num_frames: int = 32,
    size: int = 64,
    fps: int = 8,
    codec: str = "libx264",
    seed: int = 0,
) -> Path:
    """A real video whose frames all differ: a bar moves over a gradient, brightness steps up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = np.random.default_rng(seed).integers(40, 120, (4, 4, 3), dtype=np.uint8)
    background = np.kron(base, np.ones((size // 4, size // 4, 1), dtype=np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "12", "threads": "1"}
        for index in range(num_frames):
            frame = background + np.uint8(index * 100 // max(num_frames, 1))
            left = index * (size - 8) // max(num_frames, 1)
            frame[:, left : left + 8] = (250, 20, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    """Writer of small real videos: `clip(path, num_frames=32, size=64, ...)`."""
    return write_clip


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One for all tests: clients of the same bucket are shared within a process."""
    command = [sys.executable, str(PROJECT / "tests" / "s3_server.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield S3(process.stdout.readline().strip())
        process.kill()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3:
    """A real S3 server on loopback, and the environment that leads to it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where killed writers leave their half shards
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    s3_server.log()
    return s3_server
