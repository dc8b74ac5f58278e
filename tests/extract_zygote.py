"""Runs extractions for the kill tests: imports once, forks for each run, reports how it ended.

Reads a JSON line {"env": {...}, "args": [features, mini, videos, part]} from stdin for each run;
answers with its process id, and after it ended with its exit status (negative: the signal).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from extract.run import ExtractConfig, extract
from features.config import BaseConfig, DatasetConfig


def run(features: str, mini: str, videos: str, part: str) -> None:
    config = ExtractConfig(
        Path(features),
        videos_per_shard=3,
        batch_size=20,
        part=part,
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
            os.environ.update(order["env"])
            run(*order["args"])
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
