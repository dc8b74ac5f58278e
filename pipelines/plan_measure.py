"""What this machine does: `plan --hardware here`.

Where the base's weights are here, the stages themselves are run on a sample: of the dataset if its
files are here, else of the demo world. Each is run on a small and a larger sample; the difference
tells what a unit takes, the rest what the stage takes before its first. Otherwise matrix products
of the LLM's width give the peak, and the share that a stage reaches is assumed. Decoding is
measured by the project's own decoder, on the dataset's videos or on a clip made for it.

On a CPU the seconds are those of the processes, not of the wall, so that others on the machine
disturb little.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console

from eval.folders import read_predictions
from eval.generate import GenerateConfig, generate
from extract.decode_child import DecodeChild
from extract.estimate import estimate
from extract.options import ExtractConfig
from extract.run import extract, list_videos
from extract.video import DecodeRequest, View
from features.annotations import QASample, load_annotations
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.device import SMALL_MODEL, fastest_call, measured_rate, pick_device
from features.durable import escape_name, replace_json
from features.plan import find_videos
from features.spec import ComputeDtype
from features.store import FeatureStore
from pipelines.demo_data import DemoDataConfig, encode_video, write_demo
from pipelines.plan_base import BaseShapes
from pipelines.plan_data import questions_of, token_counter
from pipelines.plan_machine import Machine
from pipelines.plan_work import Prompted, answer_work, training_flops
from train.options import TrainConfig, pick_budget
from train.run import train
from train.sources import TrainingData

_ASSUMED = {"extract": (0.5, 0.9), "train": (0.5, 0.9), "answer": (0.2, 0.8)}
"""Shares of the measured peak."""
_NETWORK = (10e6, 100e6)


@dataclass(frozen=True)
class Sizes:
    """How much is run: small and larger."""

    videos: tuple[int, int]
    steps: tuple[int, int]
    questions: tuple[int, int]


SMALL = Sizes((16, 64), (10, 60), (32, 192))
LARGE = Sizes((2, 8), (2, 6), (16, 48))
"""For an LLM that takes its time."""


def spent(device: str) -> float:
    """Seconds so far: of this process and its finished children on a CPU, else of the wall."""
    if device != "cpu":
        return time.perf_counter()
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def measure_here(
    base: BaseConfig,
    dataset: DatasetConfig,
    shapes: BaseShapes,
    config: TrainConfig,
    console: Console,
    compute_dtype: ComputeDtype,
    folder: Path,
    again: bool = False,
) -> Machine:
    """This machine, measured, or as it was measured before.

    Args:
        base: with the number of frames that is planned.
        dataset: whose files the sample is taken from, if they are here.
        shapes: of the base.
        config: how it would be trained.
        console: told what happens.
        compute_dtype: of the ViT.
        folder: where what was measured is kept.
        again: measure even if it was before.
    """
    asked = {
        "base": asdict(base),
        "dataset": asdict(dataset),
        "train": asdict(config),
        "compute_dtype": compute_dtype,
        **_machine_facts(),
    }
    told = json.loads(json.dumps(asked, default=str))
    path = folder / f"here-{escape_name(base.name)}-{escape_name(dataset.name)}.json"
    kept = _kept(path, told)
    if kept is not None and not again:
        console.print(f"measured before: {path}")
        return kept
    with (
        tempfile.TemporaryDirectory(prefix="red-villm-plan-") as scratch,
        Console(stderr=True).status("measuring this machine (about a minute)"),
        redirect_stdout(StringIO()),  # what the stages say of the sample
    ):
        found = _measure(base, dataset, shapes, config, compute_dtype, Path(scratch))
    folder.mkdir(parents=True, exist_ok=True)
    replace_json(path, {"asked": told, "machine": asdict(found)}, "measured")
    return found


def _machine_facts() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {"host": os.uname().nodename, "cores": os.cpu_count(), "gpu": gpu}


def _kept(path: Path, asked: dict[str, Any]) -> Machine | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["asked"] != asked:
            return None
        pairs = {k: tuple(v) if isinstance(v, list) else v for k, v in record["machine"].items()}
        return Machine(**pairs)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or of another release


def _measure(
    base: BaseConfig,
    dataset: DatasetConfig,
    shapes: BaseShapes,
    config: TrainConfig,
    compute_dtype: ComputeDtype,
    scratch: Path,
) -> Machine:
    device = pick_device("auto")
    kind = "cuda" if device.type == "cuda" else "cpu"
    small = 2 * shapes.llm.step_weights < SMALL_MODEL
    dtypes = {"float32", compute_dtype} | ({"bfloat16", "float16"} if kind == "cuda" else set())
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if kind == "cpu" else threads)  # so that seconds are CPU seconds
    peak = {k: measured_rate(device, getattr(torch, k), max(shapes.hidden, 512)) for k in dtypes}
    disk = _disk_rate(scratch)
    machine = Machine(
        name="here",
        device="cuda" if kind == "cuda" else "cpu",
        peak=peak,
        bandwidth=_bandwidth(device),
        **_ASSUMED,
        decode_pixels=(pixels := _decode_pixels(scratch, base), pixels),
        disk=(disk, disk),
        network=_NETWORK,
        measured=("peak", "bandwidth", "decode_pixels", "disk"),
    )
    torch.set_num_threads(threads)
    if files_here(dataset):
        seconds = _decode_seconds(base, dataset)
        machine = replace(machine, decode_s=seconds, measured=(*machine.measured, "decode_s"))
    if not shapes.here:
        return machine
    sizes = SMALL if small else LARGE
    own = files_here(dataset)
    source = dataset if own else _demo(scratch, sizes)
    how = base, source, shapes, config, compute_dtype, sizes, scratch
    found = measure_sample(machine, *how)
    if own:
        return found
    # The thumbnails are those of another world.
    kept = tuple(name for name in found.measured if name != "beside")
    return replace(found, beside=machine.beside, measured=kept)


def files_here(dataset: DatasetConfig) -> bool:
    """Whether there are videos, and questions of a training and a test split about them."""
    splits = [dataset.splits.get(name) for name in ("train", "test")]
    there = all(s and s.questions.is_file() and (not s.answers or s.answers.is_file()) for s in splits)
    return there and dataset.videos.is_dir() and bool(find_videos(dataset.videos))


def measure_sample(
    machine: Machine,
    base: BaseConfig,
    dataset: DatasetConfig,
    shapes: BaseShapes,
    config: TrainConfig,
    compute_dtype: ComputeDtype,
    sizes: Sizes,
    scratch: Path,
) -> Machine:
    """The shares that the stages reach and what they take at the start, by running them.

    Args:
        machine: with its peaks.
        base: whose weights are here, with the number of frames that is planned.
        dataset: with its files here.
        shapes: of the base.
        config: how to train.
        compute_dtype: of the ViT.
        sizes: of the samples.
        scratch: where they go.
    """
    sample, ids = _sample(dataset, scratch, sizes)
    stages = _Stages(machine.device, base, sample, config, compute_dtype, scratch)
    unit_s, start_s = _line(lambda n: stages.extract(ids[:n]), sizes.videos, len(ids))
    images, decode_s, beside = stages.extracted
    vit_s = max(unit_s - decode_s, 0.1 * unit_s)
    found = {"extract": images * shapes.frame_flops / (vit_s * machine.peak[compute_dtype])}
    starts = {"extract": start_s}

    tokens, _ = token_counter(base)
    prompted = Prompted.of(shapes, config, base.num_frames, base.prompt)
    unit_s, starts["train"] = _line(stages.train, sizes.steps)
    lessons = questions_of(sample, "train", tokens)
    flops = training_flops(shapes, config, prompted, lessons) * pick_budget(config, base).batch_size
    dtype = "float32" if machine.device == "cpu" else "bfloat16"
    found["train"] = flops / (unit_s * machine.peak[dtype])

    asked = questions_of(sample, "test", tokens)
    unit_s, starts["answer"] = _line(stages.answer, sizes.questions, asked.count)
    itemsize = 4 if machine.device == "cpu" else 2
    batch = GenerateConfig.batch_size
    work = answer_work(shapes, prompted, asked, max(stages.said, 1.0), batch, itemsize)
    dtype = "float32" if machine.device == "cpu" else "float16"
    least = work.seconds(machine.peak[dtype], machine.bandwidth, (1.0, 1.0)).low
    found["answer"] = least / asked.count / unit_s
    shares = {name: (share, share) for name, share in found.items()}
    return replace(
        machine,
        **shares,
        beside=(beside, beside),
        start_s=starts,
        measured=(*machine.measured, *shares, "beside"),
    )


def _line(
    run: Callable[[int], float], counts: tuple[int, int], most: int | None = None
) -> tuple[float, float]:
    """(seconds a unit, seconds before the first) from runs of two sizes, after one that warms up."""
    low, high = (n if most is None else min(n, most) for n in counts)
    run(1)  # imports, and everything's first time
    first, second = run(low), run(high)
    unit = max(second - first, 0.2 * second) / max(high - low, 1)
    return unit, max(0.0, first - low * unit)


class _Stages:
    """The project's own stages on a part of the sample, each run in a place of its own."""

    def __init__(
        self,
        device: str,
        base: BaseConfig,
        sample: DatasetConfig,
        config: TrainConfig,
        compute_dtype: ComputeDtype,
        scratch: Path,
    ) -> None:
        self._device, self._base, self._sample = device, base, sample
        self._config, self._dtype, self._scratch = config, compute_dtype, scratch
        self._runs = 0
        self._store: Any = None
        self._trained: Path | None = None
        self.extracted = (0.0, 0.0, 0.0)
        """Of the last extraction, a video: images, CPU seconds of decoding, bytes beside."""
        self.said = 0.0
        """Mean tokens of the last answers."""

    def extract(self, ids: list[str]) -> float:
        """Seconds of extracting these videos."""
        config = ExtractConfig(self._new(), compute_dtype=self._dtype, executor="serial")
        start = spent(self._device)
        summary = extract(config, self._base, self._sample, ids)
        seconds = spent(self._device) - start
        self._store, run = summary.store, summary.run
        store = FeatureStore(summary.store)
        features = sum(store[i].temporal.nbytes + store[i].spatial.nbytes for i in store.ids)
        if run is not None:
            per = 1 / len(ids)
            beside = store_bytes(Path(str(summary.store))) - features
            self.extracted = run.images * per, run.decode_cpu_s * per, beside * per
        return seconds

    def train(self, steps: int) -> float:
        """Seconds of so many steps."""
        config = replace(self._config, runs=self._new(), max_steps=steps, epochs=10**6)
        start = spent(self._device)
        self._trained = train(config, self._base, TrainingData(self._sample, self._store))
        return spent(self._device) - start

    def answer(self, count: int) -> float:
        """Seconds of answering so many questions."""
        assert self._trained is not None
        samples = load_annotations(self._sample.splits["test"])[:count]
        part = _write(self._new(), self._sample, {"test": samples})
        config = GenerateConfig(resume=False)
        start = spent(self._device)
        store = FeatureStore(self._store)
        folder = generate(config, self._base, part, self._trained, store)
        seconds = spent(self._device) - start
        said = [row["num_tokens"] for row in read_predictions(folder) if row["num_tokens"] is not None]
        self.said = fmean(said) if said else 0.0
        return seconds

    def _new(self) -> Path:
        self._runs += 1
        folder = self._scratch / f"run-{self._runs}"
        folder.mkdir()
        return folder


def store_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sample(
    dataset: DatasetConfig, scratch: Path, sizes: Sizes
) -> tuple[DatasetConfig, list[str]]:
    """Some of the videos and their questions: half for training, half to answer."""
    files = find_videos(dataset.videos)
    half, splits, ids = sizes.videos[1] // 2, {}, []
    for name in ("train", "test"):
        samples = [s for s in load_annotations(dataset.splits[name]) if s.video_id in files]
        known = sorted({sample.video_id for sample in samples})
        chosen = np.random.default_rng(0).permutation(known)[:half].tolist()
        splits[name] = [sample for sample in samples if sample.video_id in set(chosen)]
        ids += [i for i in chosen if i not in ids]
    folder = scratch / "sample"
    folder.mkdir()
    return _write(folder, dataset, splits), np.random.default_rng(1).permutation(ids).tolist()


def _write(
    folder: Path, dataset: DatasetConfig, splits: dict[str, list[QASample]]
) -> DatasetConfig:
    """A dataset of these questions."""
    configs = {}
    for name, samples in splits.items():
        path = folder / f"{name}.jsonl"
        rows = [
            {"video": s.video_id, "question": s.question, "answer": s.answer, "split": name}
            for s in samples
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        configs[name] = SplitConfig("jsonl", path, part=name)
    return DatasetConfig("sample", dataset.videos, configs)


def _demo(scratch: Path, sizes: Sizes) -> DatasetConfig:
    """The demo world, in so many videos."""
    root, half = scratch / "demo", sizes.videos[1] // 2
    write_demo(root, DemoDataConfig(half, 1, half, seed=1))
    train = SplitConfig("videoinstruct", root / "train.json")
    test = SplitConfig("qa-pairs", root / "test_q.json", root / "test_a.json", id_prefix="v_")
    return DatasetConfig("demo-sample", root / "videos", {"train": train, "test": test})


def _decode_seconds(base: BaseConfig, dataset: DatasetConfig) -> float:
    """CPU seconds of decoding a video of the dataset, by a sample of each class of size."""
    views = (View(base.num_frames, base.preprocessing),)
    videos = list_videos(dataset)
    jobs = [(v, DecodeRequest(v.path, views, base.image_size)) for v in videos]
    return estimate(jobs, None, 1).usage.decode_cpu_s / len(videos)


def _decode_pixels(scratch: Path, base: BaseConfig) -> float:
    """Pixels a CPU second of 10 s of 360p, nearly all decoded: a smooth texture that moves."""
    coarse = torch.rand(1, 3, 18, 32, generator=torch.Generator().manual_seed(0)) * 255
    texture = F.interpolate(coarse, (360, 640), mode="bicubic").clamp(0, 255)
    still = texture[0].permute(1, 2, 0).byte().numpy()
    frames = np.stack([np.roll(still, (i, 2 * i), (0, 1)) for i in range(300)])
    path = scratch / "clip.mp4"
    encode_video(path, frames, 30)
    views = (View(100, base.preprocessing),)
    with DecodeChild() as child:
        request = DecodeRequest(str(path), views, base.image_size)
        seconds = min(child.decode(request).cpu_seconds for _ in range(2))
    return frames[..., 0].size / seconds


def _bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by a copy of 256 MB."""
    x = torch.zeros(1 << 26, device=device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / fastest_call(lambda: y.copy_(x), device, 0.3)


def _disk_rate(folder: Path) -> float:
    """Bytes a second of a file that is written and flushed."""
    data = os.urandom(1 << 26)
    start = time.perf_counter()
    with (folder / "file").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data) / (time.perf_counter() - start)
