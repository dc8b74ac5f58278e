"""Reading features: one random video, and a training loop's DataLoader."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import zarr

from benchmarks.results import Measured
from benchmarks.world import Scale
from features.annotations import QASample
from features.plan import SourceVideo, extend_plan
from features.spec import FeatureSpec
from features.store import (
    FeatureStore,
    VideoRow,
    compact_index,
    create_store,
    pending_shards,
    write_shard,
)
from train.prompt import Prompter
from train.questions import QuestionDataset, Source
from train.steps import StepSampler, make_loader
from train.videos import VideoReader

Format = Literal["hdf5", "zarr"]
T, N, D = 100, 256, 1024
_IMAGE, _END, _PAD = 4, 2, 0


def measure_stores(root: Path, scale: Scale) -> Measured:
    """One repeat: random reads in turns with numpy.load, then an epoch of loading each."""
    names: tuple[Format, ...] = ("hdf5", "zarr")
    stores = {name: make_store(root, scale.videos, name) for name in names}
    reads = _measure_reads(root, stores, scale.reads)
    plain = reads.pop("npload")
    values = {f"{name}_read_over_npload": taken / plain for name, taken in reads.items()}
    for name, store in stores.items():
        values[f"loader_samples_per_s_{name}"] = _samples_per_second(store, scale.videos)
    return Measured(values, {f"read_{name}": s for name, s in ({"npload": plain} | reads).items()})


def make_store(root: Path, videos: int, name: Format) -> FeatureStore:
    """A store of random features of a full-sized video each, made once."""
    path = root / f"store-{name}-{videos}"
    spec = FeatureSpec("checkpoint", "ab" * 32, 224, "squash-nearest", num_frames=T)
    create_store(path, spec)
    sources = [SourceVideo(f"v{i:05d}", f"v{i:05d}.mp4", 1, "d") for i in range(videos)]
    plan = extend_plan(path, sources, 128, {})
    for shard in pending_shards(path, plan):
        ids = [row.video_id for row in plan.shards()[shard]]
        write_shard(path, spec, plan, shard, [_random_row(i) for i in ids], name)
        compact_index(path)
    return FeatureStore(path)


def _random_row(video_id: str) -> VideoRow:
    rng = np.random.default_rng(int(video_id[1:]))
    features = rng.standard_normal((T + N, D), dtype=np.float32)
    return VideoRow(video_id, "ok", temporal=features[:T], spatial=features[T:])


def _measure_reads(root: Path, stores: dict[Format, FeatureStore], reads: int) -> dict[str, float]:
    """Median seconds of one read, from memory (everything was read before), by reader."""
    ids = np.random.default_rng(0).permutation(stores["zarr"].ids)[:reads].tolist()
    files = root / "npy"
    files.mkdir(exist_ok=True)
    for video_id in ids:
        found = stores["zarr"][video_id]
        np.save(files / f"{video_id}.npy", np.concatenate([found.temporal, found.spatial]))
    readers: dict[str, Callable[[str], Any]] = {
        "npload": lambda video_id: np.load(files / f"{video_id}.npy"),
        "hdf5": stores["hdf5"].__getitem__,
        "zarr": stores["zarr"].__getitem__,
        "zarr_library": _array_reader(stores["zarr"], _open_zarr),
    }
    with suppress(ImportError):
        import tensorstore  # noqa: F401 - optional

        readers["zarr_tensorstore"] = _array_reader(stores["zarr"], _open_tensorstore)
    times: dict[str, list[float]] = {name: [] for name in readers}
    for again in (False, True):
        for video_id in ids:
            for name, read in readers.items():
                start = time.perf_counter()
                read(video_id)
                if again:
                    times[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in times.items()}


def _array_reader(store: FeatureStore, opened: Callable[[Path], Any]) -> Callable[[str], Any]:
    """A library's own way to read a shard, without our checks: for comparison."""
    arrays = cache(opened)

    def read(video_id: str) -> list[Any]:
        row = store._rows[video_id]
        found: list[Any] = arrays(store.path / "shards" / f"{row.stem}.zarr")(row.row)
        return found

    return read


def _open_zarr(shard: Path) -> Callable[[int], list[Any]]:
    group = zarr.open_group(shard, mode="r")
    arrays: list[Any] = [group["temporal"], group["spatial"]]
    return lambda row: [array[row] for array in arrays]


def _open_tensorstore(shard: Path) -> Callable[[int], list[Any]]:
    import tensorstore

    context = tensorstore.Context(  # measured: the quickest of what it can be told
        {
            "cache_pool": {"total_bytes_limit": 2**20},
            "data_copy_concurrency": {"limit": 1},
            "file_io_concurrency": {"limit": 1},
        }
    )
    arrays = [
        tensorstore.open(
            {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{shard / name}/"}},
            context=context,
            read=True,
            open=True,
            recheck_cached_data=False,
        ).result()
        for name in ("temporal", "spatial")
    ]
    return lambda row: [read.result() for read in [array[row].read() for array in arrays]]


def _samples_per_second(store: FeatureStore, videos: int) -> float:
    """Questions a second of one epoch through `make train`'s loader, two workers, no cache.

    The start of the workers included; a question about each video, so that each is read once, at
    random.
    """
    samples = [QASample(f"q{i}", i, "what is this", "a test") for i in store.ids]
    prompter = Prompter(_toy_tokenizer, "USER: <image> {question} ASSISTANT:", _IMAGE, _END)
    source = Source(samples, VideoReader(store, cache_bytes=0))
    dataset = QuestionDataset([source], prompter, lambda t, n: t + n, T, 2048)
    loader = make_loader(dataset, StepSampler(dataset, 32, 1, 0), _PAD, 8, 2**14, num_workers=2)
    start = time.perf_counter()
    count = sum(len(batch.sample_ids) for step in loader for batch in step)
    return count / (time.perf_counter() - start)


def _toy_tokenizer(text: str, **_: Any) -> dict[str, list[int]]:
    """A number for each word."""
    return {"input_ids": [_IMAGE if word == "<image>" else 10 + len(word) for word in text.split()]}
