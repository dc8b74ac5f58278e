"""How to run an extraction: its options, and the small languages some of them are written in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from extract.video import View
from features.config import BaseConfig
from features.errors import ConfigError
from features.spec import ComputeDtype, Preprocessing, StoreDtype


@dataclass(frozen=True)
class ExtractConfig:
    """How to run an extraction. What is extracted is the base's and the dataset's business."""

    features: str | Path = "data/features"
    """Root of the feature stores: a folder, or s3://bucket/prefix."""
    num_frames: int | None = None
    """T: frames sampled a video; the base's own number unless given."""
    specs: str = ""
    """Several stores from one decode and one encode: a list of T or T:preprocessing, such as
    `50 100 100:squash-nearest`. Bytes depend on the whole list, so keep it while resuming."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the tower's arithmetic."""
    store_dtype: StoreDtype = "float16"
    """dtype on disk."""
    format: Literal["zarr", "hdf5"] = "zarr"
    """Files of new shards."""
    videos_per_shard: int = 128
    """Videos of a new shard: what a killed worker loses at most."""
    batch_size: int = 64
    """Frames a ViT batch, filled across videos. Another size may change last bits."""
    compile: bool = False
    """Compile the tower (torch.compile): faster on GPUs after a minute. May change last bits."""
    executor: Literal["auto", "serial", "ray"] = "auto"
    """auto: ray when RAY_ADDRESS is set or `workers` > 1, else this process."""
    workers: int | None = None
    """Tower actors under Ray; one for every GPU of the cluster (or one) unless given."""
    part: str = "1/1"
    """`i/n`: do every n-th shard only, from the i-th, as in a SLURM array of n jobs."""
    device: str = "auto"
    """auto (cuda, mps, cpu) or a torch device."""
    deadline_s: int = 300
    """CPU seconds for decoding one video; ten times that in wall clock."""
    max_failures: float | str = "100%"
    """Share of this run's videos that may fail before it stops: `1%` or 0.01."""
    thumbs: int = 8
    """Thumbnails kept a video for the report; 0 for none."""
    retry_failed: bool = False
    """Try videos again that failed before."""


def check_options(config: ExtractConfig) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: one of them is too small.
    """
    least = {"videos_per_shard": 1, "batch_size": 1, "deadline_s": 1, "thumbs": 0}
    least |= {name: 1 for name in ("num_frames", "workers") if getattr(config, name) is not None}
    for name, low in least.items():
        got = getattr(config, name)
        if got < low:
            raise ConfigError("too small", where=name, got=got, wanted=f">= {low}")
    parse_part(config.part)
    parse_share(config.max_failures)


def uses_ray(config: ExtractConfig) -> bool:
    """Whether the run goes to Ray."""
    if config.executor == "auto":
        return bool(os.environ.get("RAY_ADDRESS")) or (config.workers or 1) > 1
    return config.executor == "ray"


def parse_part(part: str) -> tuple[int, int]:
    """(i - 1, n) of `i/n`.

    Raises:
        ConfigError: not of that form, or i is not in 1..n.
    """
    index, slash, count = part.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
        return int(index) - 1, int(count)
    raise ConfigError("not a part of a run", where="part", got=part, wanted="i/n with 1 <= i <= n")


def parse_share(share: float | str) -> float:
    """A share between 0 and 1, from a number or from `1%`.

    Raises:
        ConfigError: neither.
    """
    text = str(share).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(
            "no share", where="max_failures", got=share, wanted="0 to 1, or 0% to 100%"
        )
    return value


def parse_specs(config: ExtractConfig, base: BaseConfig) -> list[View]:
    """T and preprocessing of each store that is wanted; one of the base's own unless said.

    Raises:
        ConfigError: not a list of T or T:preprocessing, or the same twice.
    """
    if not config.specs.strip():
        return [View(config.num_frames or base.num_frames, base.preprocessing)]
    if config.num_frames is not None:
        raise ConfigError("num_frames and specs exclude one another", got=config.specs)
    views = []
    for item in config.specs.replace(",", " ").split():
        count, _, mode = item.partition(":")
        mode = mode or base.preprocessing
        if not count.isdecimal() or int(count) < 1 or mode not in get_args(Preprocessing):
            wanted = f"T or T:preprocessing, one of {', '.join(get_args(Preprocessing))}"
            raise ConfigError("not a spec", where="specs", got=item, wanted=wanted)
        views.append(View(int(count), mode))  # type: ignore[arg-type]
    if len(set(views)) < len(views):
        raise ConfigError("the same spec twice", where="specs", got=config.specs)
    return views
