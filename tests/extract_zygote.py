"""Runs extractions for the kill tests: imports once, forks for each run, reports how it ended.

Reads a JSON line {"kill_at", "kill_after_s", "args": [features, mini, videos]} from stdin for each
run and answers, when it has ended, with its exit status (negative: the signal).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import torch

import extract.serial_executor  # loaded once, here, and not in every run
from extract.options import ExtractConfig
from extract.run import extract
from features.config import BaseConfig, DatasetConfig


def run(features: str, mini: str, videos: str) -> None:
    config = ExtractConfig(
        Path(features),
        videos_per_shard=3,
        batch_size=20,
        device="cpu",
        executor="serial",
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
            run(*order["args"])
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
