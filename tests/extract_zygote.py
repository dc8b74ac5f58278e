"""Extractions that can be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zygote

import extract.serial_executor
import extract.shard_builder  # loaded once, here, and not in every run
from extract.options import ExtractConfig
from extract.run import extract
from features.config import BaseConfig, DatasetConfig


class Zygote(zygote.Zygote):
    """Starts extractions of the same videos, one at a time."""

    def __init__(self, mini: str, videos: Path, **env: str) -> None:
        super().__init__("extract_zygote.py", **env)
        self._paths = mini, str(videos)

    def start(  # type: ignore[override]
        self,
        features: Path,
        kill_at: str = "",
        kill_after_s: float | None = None,
        ray: bool = False,
        device: str = "cpu",
    ) -> int:
        """Start a run; returns its process id."""
        order = {"executor": "ray" if ray else "serial", "device": device}
        order["features"], order["mini"], order["videos"] = str(features), *self._paths
        return super().start(order, kill_at, kill_after_s)

    def run(self, features: Path, kill_at: str = "", kill_after_s: float | None = None) -> int:
        """Start a run in one process and wait for it."""
        self.start(features, kill_at, kill_after_s)
        return self.wait()


def run(order: dict[str, Any]) -> None:
    config = ExtractConfig(
        Path(order["features"]),
        videos_per_shard=3,
        batch_size=20,
        device=order["device"],
        executor=order["executor"],
    )
    base = BaseConfig("mini", order["mini"], image_size=32, num_frames=8)
    extract(config, base, DatasetConfig("world", Path(order["videos"])))


if __name__ == "__main__":
    zygote.serve(run)
