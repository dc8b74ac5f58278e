"""What this machine does: `plan --hardware here`.

Matrix products give the peak. Where the base's weights are here, the stages themselves are run on a
small and a larger part of a sample, and tell which share of it each reaches: the difference tells
what a unit takes, the rest what the stage takes before its first. On a CPU seconds are those of the
processes and not of the wall, so that others on the machine disturb little.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console

from eval.folders import read_predictions
from eval.generate import GenerateConfig, generate
from extract.estimate import SAMPLE, estimate
from extract.options import ExtractConfig
from extract.run import extract, list_videos
from extract.video import DecodeRequest, View
from features.annotations import QASample, load_annotations, write_videoinstruct
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.device import SMALL_MODEL, fastest_call, measured_rate, pick_device
from features.errors import RedVillmError
from features.plan import find_videos
from features.spec import ComputeDtype
from features.store import FeatureStore
from pipelines.demo_data import DemoDataConfig, write_demo
from pipelines.plan_data import is_here, questions_of, token_counter
from pipelines.plan_machine import Machine
from pipelines.plan_work import Subject, answer_work, training_flops
from train.options import pick_budget
from train.run import train
from train.sources import TrainingData


@dataclass(frozen=True)
class Sizes:
    """How much is run: small and larger."""

    videos: tuple[int, int]
    steps: tuple[int, int]
    questions: tuple[int, int]


SMALL = Sizes((32, 128), (10, 60), (32, 192))
LARGE = Sizes((2, 8), (2, 6), (16, 48))
"""For an LLM that takes its time."""


def measure_here(subject: Subject, dataset: DatasetConfig) -> Machine:
    """This machine, measured with the subject's base and switches, and videos that are here."""
    with (
        tempfile.TemporaryDirectory(prefix="red-villm-plan-") as scratch,
        Console(stderr=True).status("measuring this machine (about a minute)"),
        redirect_stdout(StringIO()),  # what the stages say of the sample
    ):
        machine = _peaks(subject.compute_dtype)
        if not subject.shapes.here:
            return machine
        small = 2 * subject.shapes.llm.step_weights < SMALL_MODEL
        return measure_sample(machine, subject, dataset, SMALL if small else LARGE, Path(scratch))


def _peaks(dtype: ComputeDtype) -> Machine:
    """Peaks of this machine, with shares of them as they usually are."""
    device, threads = pick_device("auto"), torch.get_num_threads()
    on_gpu = device.type == "cuda"
    dtypes = {"float32", dtype} | ({"bfloat16"} if on_gpu else set())
    x = torch.zeros(1 << 26, device=device)
    y = torch.empty_like(x)
    torch.set_num_threads(threads if on_gpu else 1)  # on a CPU all seconds are a core's
    try:
        width = 4096 if on_gpu else 1024
        peak = {k: measured_rate(device, getattr(torch, k), width) for k in sorted(dtypes)}
        bandwidth = 2 * x.nbytes / fastest_call(lambda: y.copy_(x), device, 0.3)
    finally:
        torch.set_num_threads(threads)
    return Machine(
        "here",
        "cuda" if on_gpu else "cpu",
        peak,
        bandwidth,
        train=(0.4, 0.9),
        extract=(0.4, 0.9),
        measured=("peak",),
    )


def decode_seconds(base: BaseConfig, dataset: DatasetConfig) -> float:
    """CPU seconds of decoding a video whose files are here, by one of each class of sizes.

    Raises:
        RedVillmError: none of them could be decoded.
    """
    views = (View(base.num_frames, base.preprocessing),)
    videos = list_videos(dataset)
    jobs = [(v, DecodeRequest(v.path, views, base.image_size)) for v in videos]
    told = estimate(jobs, None, 1)
    if not told.usage.images:
        do = "look at the files, or plan where there are none"
        raise RedVillmError("no video of a sample can be used", where=dataset.videos, do=do)
    return told.usage.decode_cpu_s / len(videos)


def files_here(dataset: DatasetConfig) -> bool:
    """Whether there are videos, and questions of a training and a test split about them."""
    splits = [dataset.splits.get(name) for name in ("train", "test")]
    return (
        all(s and is_here(s) for s in splits)
        and dataset.videos.is_dir()
        and bool(find_videos(dataset.videos))
    )


def measure_sample(
    machine: Machine, subject: Subject, dataset: DatasetConfig, sizes: Sizes, scratch: Path
) -> Machine:
    """The shares that the stages reach and what they take at the start, by running them.

    Args:
        machine: with its peaks.
        subject: its base's weights are here.
        dataset: without its files the demo world is used.
        sizes: of the samples.
        scratch: where they go.
    """
    own = files_here(dataset)
    sample, ids = _sample(dataset if own else _demo(scratch, sizes), scratch, sizes)
    stages = _Stages(machine.device, subject, sample, scratch)
    tokens, _ = token_counter(subject.base)
    starts, found = {}, {}

    unit_s, starts["extract"] = _line(lambda n: stages.extract(ids[:n]), sizes.videos, len(ids))
    images, decode_s, rate = stages.extracted
    if machine.device == "cpu":  # the ViT shares the cores; on a GPU decoding goes on beside it
        rate = images / max(unit_s - decode_s, 0.1 * unit_s)
    found["extract"] = rate * subject.shapes.frame_flops / machine.peak[subject.compute_dtype]

    unit_s, starts["train"] = _line(stages.train, sizes.steps)
    lessons = questions_of(sample, "train", tokens)
    batch_size = pick_budget(subject.config, subject.base).batch_size
    found["train"] = (
        training_flops(subject, lessons) * batch_size / (unit_s * machine.peak[machine.llm_dtype])
    )

    asked = questions_of(sample, "test", tokens)
    unit_s, starts["answer"] = _line(stages.answer, sizes.questions, asked.count)
    work = answer_work(subject, asked, max(stages.said, 1.0), machine)
    found["answer"] = work.least_seconds(machine) / asked.count / unit_s
    # The demo's videos and thumbnails are small; and a few videos say less than one of each size.
    beside = {"beside": (stages.beside, stages.beside)} if own else {}
    shares: dict[str, Any] = {name: (share, share) for name, share in found.items()} | beside
    return replace(
        machine,
        **shares,
        decode_s=decode_s if own and len(ids) > SAMPLE else None,
        start_s=starts,
        measured=(*machine.measured, *shares),
    )


def _line(
    run: Callable[[int], float], counts: tuple[int, int], most: int | None = None
) -> tuple[float, float]:
    """(seconds a unit, seconds before the first), from runs of two sizes behind one to warm up."""
    low, high = (n if most is None else min(n, most) for n in counts)
    run(1)  # imports, and everything's first time
    first, second = run(low), run(high)
    unit = max(second - first, 0.2 * second) / max(high - low, 1)
    return unit, max(0.0, first - low * unit)


class _Stages:
    """The project's own stages on a part of the sample, each run in a place of its own."""

    def __init__(
        self, device: str, subject: Subject, dataset: DatasetConfig, scratch: Path
    ) -> None:
        self._device, self._subject, self._scratch = device, subject, scratch
        self._dataset = dataset
        self._runs = 0
        self._store: Any = None
        self._trained: Any = None
        self.extracted = (0.0, 0.0, 0.0)
        """Of the last extraction: images and CPU seconds of decoding a video, images/s alone."""
        self.beside = 0.0
        """Bytes beside a video's features in the last store."""
        self.said = 0.0
        """Mean tokens of the last answers."""

    def extract(self, ids: list[str]) -> float:
        """Seconds of extracting these videos."""
        dtype = self._subject.compute_dtype
        config = ExtractConfig(self._new(), compute_dtype=dtype, executor="serial")
        start = spent(self._device)
        summary = extract(config, self._subject.base, self._dataset, ids)
        seconds = spent(self._device) - start
        self._store, run = summary.store, summary.run
        each = self._subject.shapes.feature_bytes(FeatureStore(summary.store).spec.num_frames)
        self.beside = store_bytes(Path(str(summary.store))) / len(ids) - each
        if run is not None:
            rate = run.images_per_s_alone
            self.extracted = run.images / len(ids), run.decode_cpu_s / len(ids), rate
        return seconds

    def train(self, steps: int) -> float:
        """Seconds of so many steps."""
        subject = self._subject
        config = replace(subject.config, runs=self._new(), max_steps=steps, epochs=10**6)
        start = spent(self._device)
        self._trained = train(config, subject.base, TrainingData(self._dataset, self._store))
        return spent(self._device) - start

    def answer(self, count: int) -> float:
        """Seconds of answering so many questions."""
        dataset, base = self._dataset, self._subject.base
        samples = load_annotations(dataset.splits["test"])[:count]
        part = _write(self._new(), dataset, {"test": samples})
        start = spent(self._device)
        store = FeatureStore(self._store)
        folder = generate(GenerateConfig(resume=False), base, part, self._trained, store)
        seconds = spent(self._device) - start
        self.said = fmean(row["num_tokens"] or 0 for row in read_predictions(folder))
        return seconds

    def _new(self) -> Path:
        self._runs += 1
        folder = self._scratch / f"run-{self._runs}"
        folder.mkdir()
        return folder


def spent(device: str) -> float:
    """Seconds so far: of this process and its finished children on a CPU, else of the wall."""
    if device != "cpu":
        return time.perf_counter()
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def store_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sample(dataset: DatasetConfig, scratch: Path, sizes: Sizes) -> tuple[DatasetConfig, list[str]]:
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
        configs[name] = SplitConfig("videoinstruct", folder / f"{name}.json")
        write_videoinstruct(configs[name].questions, samples)
    return DatasetConfig("sample", dataset.videos, configs)


def _demo(scratch: Path, sizes: Sizes) -> DatasetConfig:
    """The demo world, in so many videos."""
    root, half = scratch / "demo", sizes.videos[1] // 2
    write_demo(root, DemoDataConfig(half, 1, half, seed=1))
    train = SplitConfig("videoinstruct", root / "train.json")
    test = SplitConfig("qa-pairs", root / "test_q.json", root / "test_a.json", id_prefix="v_")
    return DatasetConfig("demo-sample", root / "videos", {"train": train, "test": test})
