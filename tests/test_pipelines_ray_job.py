"""`ray job submit` as recipes/ray/job.sh does it, to a head of our own with token and dashboard."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from features.store import verify_store
from pipelines.__main__ import main

pytest.importorskip("ray")
PROJECT = Path(__file__).resolve().parent.parent
OPTIONS = ["--num_frames", "8", "--videos_per_shard", "3"]


@dataclass(frozen=True)
class Head:
    """A running head."""

    address: str
    environment: dict[str, str]


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def start_head(folder: Path, ports: list[str], environment: dict[str, str]) -> subprocess.Popen:
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    chosen = [word for name, port in zip(names, ports, strict=True) for word in (f"--{name}", port)]
    local = ["--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1", "--num-cpus", "3"]
    workers = ["--min-worker-port", "0", "--max-worker-port", "0", "--disable-usage-stats"]
    program = [Path(sys.executable).with_name("ray"), "start", "--head", "--block"]
    with (folder / "head.log").open("w") as log:
        return subprocess.Popen(
            [*program, "--temp-dir", folder, *chosen, *local, *workers],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,  # its process group is the whole cluster, and nobody else's
        )


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401  # it wants the token
    except OSError:
        return False
    return True


@pytest.fixture
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="rj", dir="/tmp"))  # sockets need a short path
    (folder / "token").write_text(uuid4().hex * 2)
    ports = free_ports(4)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    process = start_head(folder, ports, environment)
    try:
        address, end = f"http://127.0.0.1:{ports[1]}", time.monotonic() + 120
        while not answers(address):
            running = process.poll() is None and time.monotonic() < end
            assert running, (folder / "head.log").read_text()
            time.sleep(0.2)
        yield Head(address, environment)
    finally:
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        shutil.rmtree(folder, ignore_errors=True)


def digest_of(features: Path) -> tuple[str, Path]:
    (record,) = features.glob("clips/*/last_run.json")
    facts = json.loads(record.read_text())
    assert (facts["planned"], facts["ok"], facts["waiting"]) == (8, 8, 0)
    return facts["content_digest"], record.parent


def test_a_job_finishes_what_another_run_began(
    head: Head, clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(8):
        clip(tmp_path / "clips" / f"v{index}.mp4", num_frames=32 - 3 * index, seed=index)
    monkeypatch.chdir(tmp_path)
    serial = ["extract", "--videos", "clips", *OPTIONS, "--executor", "serial", "--features"]
    assert main([*serial, "alone"]) == 0
    assert main([*serial, "shared", "--part", "2/2"]) == 0  # the middle one of three shards
    script = PROJECT / "pipelines" / "recipes" / "ray" / "job.sh"
    done = subprocess.run(
        [script, "extract", "--videos", "clips", "--features", "shared", *OPTIONS],
        capture_output=True,
        text=True,
        env={**head.environment, "ADDRESS": head.address, "SHARED": str(tmp_path)},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    digest, store = digest_of(tmp_path / "shared")
    assert digest == digest_of(tmp_path / "alone")[0]
    assert json.loads((store / "last_run.json").read_text())["done"] == 5
    assert verify_store(store).problems == ()
