"""Extractions that can be killed: a process that imports once and forks for each run.

It reads a JSON line {"kill_at", "kill_after_s", "executor", "device", "args"} from stdin for each
run, answers with the run's process id and, when it has ended, with its exit status (negative: the
signal).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import torch

import extract.serial_executor
import extract.shard_builder  # loaded once, here, and not in every run
from extract.options import ExtractConfig
from extract.run import extract
from features.config import BaseConfig, DatasetConfig


class Zygote:
    """Starts runs, one at a time."""

    def __init__(self, mini: str, videos: Path, **env: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **env},
        )
        self._paths = mini, str(videos)

    def start(
        self,
        features: Path,
        kill_at: str = "",
        kill_after_s: float | None = None,
        ray: bool = False,
        device: str = "cpu",
    ) -> int:
        """Start a run; returns its process id."""
        assert self._process.stdin is not None
        order: dict[str, object] = {"kill_at": kill_at, "kill_after_s": kill_after_s}
        order |= {"executor": "ray" if ray else "serial", "device": device}
        order["args"] = [str(features), *self._paths]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit status of the run that was started."""
        return self._answer()

    def run(self, features: Path, kill_at: str = "", kill_after_s: float | None = None) -> int:
        """Start a run in one process and wait for it."""
        self.start(features, kill_at, kill_after_s)
        return self.wait()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def run(executor: str, device: str, features: str, mini: str, videos: str) -> None:
    config = ExtractConfig(
        Path(features),
        videos_per_shard=3,
        batch_size=20,
        device=device,
        executor=executor,  # type: ignore[arg-type]
    )
    base = BaseConfig("mini", mini, image_size=32, num_frames=8)
    extract(config, base, DatasetConfig("world", Path(videos)))


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.environ["REDVILLM_KILL_AT"] = order["kill_at"]
            if order["kill_after_s"] is not None:
                kill = threading.Timer(
                    order["kill_after_s"], os.kill, [os.getpid(), signal.SIGKILL]
                )
                kill.daemon = True
                kill.start()
            sys.stdout = sys.stderr  # the answers are ours
            run(order["executor"], order["device"], *order["args"])
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
