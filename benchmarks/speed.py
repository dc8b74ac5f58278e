"""Wall time against the floors and against the baseline, and whether the numbers are the same.

What of a run is in its time: everything `extract` does in a process that has imported torch, from
listing the files to the index: its decoding children start, the tower is loaded, shards are flushed
to the disk and read back. Of Ray only `ray.init` is left out, its actors and workers start inside.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray

from benchmarks.baseline import extract_baseline
from benchmarks.floors import BATCH, Decoders, encode_floor
from benchmarks.results import Measured
from benchmarks.world import Scale, make_base, make_clips, scratch_folder
from extract import ray_executor
from extract.options import ExtractConfig
from extract.run import ExtractSummary, extract_all
from features.config import BaseConfig, DatasetConfig
from features.places import StorePath
from features.spec import ComputeDtype
from features.store import FeatureStore


def measure_speed(root: Path, scale: Scale) -> Measured:
    """One repeat: floors, our runs and the baseline, one after the other."""
    clips, base = make_clips(root, scale), make_base(root, scale)
    with Decoders(base, [scale.num_frames]) as decoders:
        decode, images = decoders.measure(sorted(clips.videos.iterdir()))
    encode = encode_floor(base, images, "float32")
    floor, bf16_encode = decode + encode, encode_floor(base, images, "bfloat16")
    with scratch_folder(root) as scratch:
        serial = _run(scratch / "serial", clips, base, executor="serial")
        under_ray = _run_ray(scratch / "ray", clips, base)
        bf16 = _run(scratch / "bf16", clips, base, "bfloat16", executor="serial")
        start = time.perf_counter()
        extract_baseline(
            clips.videos, Path(base.tower.removeprefix("clip:")), scratch / "pkl", scale.num_frames
        )
        baseline = time.perf_counter() - start
        parity = _largest_difference(serial[0].store, scratch / "pkl", scale.num_frames)
    seconds = {
        "decode": decode,
        "encode_fp32": encode,
        "encode_bf16": bf16_encode,
        "in_process": serial[0].seconds,
        "ray": under_ray[0].seconds,
        "in_process_bf16": bf16[0].seconds,
        "baseline": baseline,
    }
    values = {
        "in_process_over_floor": serial[0].seconds / floor,
        "ray_over_floor": under_ray[0].seconds / floor,
        "speedup_fp32": baseline / serial[0].seconds,
        "speedup_bf16": baseline / bf16[0].seconds,
        "bf16_floor": encode / bf16_encode,
        "parity_max_abs": parity,
    }
    reports = {"in_process": serial, "ray": under_ray, "in_process_bf16": bf16}
    return Measured(values, seconds, {name: str(run[0].run) for name, run in reports.items()})


def measure_specs(root: Path, scale: Scale) -> Measured:
    """One repeat: several specs in one pass against decode and encode of the union of frames.

    In bfloat16, where encoding hides least of what the pass itself costs; of every second video,
    since the union of 50 to 200 frames is five times as much to encode.
    """
    clips, base = make_clips(root, scale), make_base(root, scale)
    paths = sorted(clips.videos.iterdir())[::2]
    with Decoders(base, scale.specs) as decoders:
        decode, images = decoders.measure(paths)
    encode = encode_floor(base, images, "bfloat16")
    specs = " ".join(map(str, scale.specs))
    with scratch_folder(root) as scratch:
        wanted = [path.stem for path in paths]
        runs = _run(scratch, clips, base, "bfloat16", "serial", wanted, specs=specs)
    took = runs[0].seconds
    return Measured(
        {"multi_spec_over_union": took / (decode + encode)},
        {"specs_decode": decode, "specs_encode": encode, "specs_in_one_pass": took},
        {"specs_in_one_pass": str(runs[0].run)},
    )


def _run(
    features: Path,
    clips: DatasetConfig,
    base: BaseConfig,
    dtype: ComputeDtype = "float32",
    executor: Literal["serial", "ray"] = "serial",
    wanted: Sequence[str] | None = None,
    **options: Any,
) -> list[ExtractSummary]:
    config = ExtractConfig(
        features,
        compute_dtype=dtype,
        store_dtype="float32",
        batch_size=BATCH,
        executor=executor,
        device="cpu",
        **options,
    )
    runs = extract_all(config, base, clips, wanted)
    for run in runs:
        if run.failed or run.waiting or run.ok != run.planned:
            raise RuntimeError(f"not all videos were extracted: {run}")
    return runs


def _run_ray(features: Path, clips: DatasetConfig, base: BaseConfig) -> list[ExtractSummary]:
    ray_executor.connect(None)  # the very cluster that extract would start for itself
    try:
        return _run(features, clips, base, executor="ray")
    finally:
        ray.shutdown()


def _largest_difference(store: StorePath, pickles: Path, num_frames: int) -> float:
    features, largest = FeatureStore(store), 0.0
    for video_id in features.ids:
        found = features[video_id]
        with (pickles / f"{video_id}.pkl").open("rb") as file:
            wanted = pickle.load(file)  # written a minute ago by ourselves
        for ours, theirs in (
            (found.temporal, wanted[: found.num_frames]),
            (found.spatial, wanted[num_frames:]),
        ):
            largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest
