"""`make bench-plan`: what a plan foretells of a miniature run, against the run.

Takes about 2 minutes a repeat on two quiet cores. The demo world with 400 training and 300 test
videos, the embedded base in its long budget; rates are measured on 128 of the videos, 60 of 300
steps and 192 of 1,200 questions. Judged are CPU seconds, those of children included, since the wall
of a busy machine says little; `seconds` has both. Importing libraries is in neither.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.command import Benchmark
from benchmarks.results import Limit, Limits, Measured
from eval.generate import GenerateConfig, generate
from extract.options import ExtractConfig
from extract.run import extract
from features.store import FeatureStore
from pipelines.demo_data import DemoDataConfig, write_demo
from pipelines.experiment import load_experiment
from pipelines.plan import PlanConfig, make_plan
from pipelines.plan_sample import spent, store_bytes
from pipelines.selection import Selection, annotated_ids
from train.options import TrainConfig
from train.run import train
from train.sources import TrainingData

STAGES = ("extract", "train", "answer")
LIMITS: Limits = {
    **{f"{stage}_off": Limit(0.25) for stage in STAGES},
    "store_bytes_off": Limit(0.05),
    **{f"{stage}_predicted_over_measured": None for stage in STAGES},
    "store_bytes_predicted_over_measured": None,
    "planning_s": None,
}
EXPERIMENT = "red-villm-long"


@dataclass(frozen=True)
class PlanScale:
    """How much is run."""

    name: str
    train_videos: int
    test_videos: int


SCALES = {
    scale.name: scale
    for scale in (
        PlanScale("full", 400, 300),
        PlanScale("quick", 200, 100),
        PlanScale("tiny", 6, 4),
    )
}


@contextmanager
def _clock(name: str, seconds: dict[str, float]) -> Iterator[None]:
    cpu, wall = spent("cpu"), time.perf_counter()
    yield
    seconds[f"{name}_cpu"] = spent("cpu") - cpu
    seconds[f"{name}_wall"] = time.perf_counter() - wall


def measure_plan(root: Path, scale: PlanScale) -> Measured:
    """One repeat: measure rates on a sample, plan, run, compare."""
    folder = root / f"plan-{scale.name}"
    folder.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with chdir(folder):  # the demo's recipe names its files from here
        for kept in ("runs", "data/features"):
            shutil.rmtree(kept, ignore_errors=True)
        where, quiet = Selection(), Console(quiet=True)
        base, dataset = where.load_base(), where.load_dataset()
        write_demo(dataset.videos.parent, DemoDataConfig(scale.train_videos, 1, scale.test_videos))
        options = PlanConfig(EXPERIMENT, judge="offline", hardware="here")
        with _clock("planning", seconds):
            plan = make_plan(where, options, quiet)
        with _clock("extract", seconds):
            how = ExtractConfig(where.features, executor="serial")
            store = extract(how, base, dataset, annotated_ids(dataset, quiet)).store
        config = load_experiment(EXPERIMENT).part(TrainConfig)
        with _clock("train", seconds):
            run = train(config, base, TrainingData(dataset, store))
        with _clock("answer", seconds):
            generate(GenerateConfig(), base, dataset, run, FeatureStore(store))
        size = store_bytes(Path(str(store)))
    rows = {row.stage.split()[0]: row for row in plan.rows}
    ratios = {s: rows[s].cpu_s.high / seconds[f"{s}_cpu"] for s in STAGES}
    ratios["store_bytes"] = rows["extract"].disk.high / size
    seconds |= {f"{stage}_predicted": rows[stage].cpu_s.high for stage in STAGES}
    values = {f"{name}_predicted_over_measured": ratio for name, ratio in ratios.items()}
    values |= {f"{name}_off": abs(ratio - 1) for name, ratio in ratios.items()}
    within = {s: f"within_25_percent: {str(abs(ratios[s] - 1) <= 0.25).lower()}" for s in STAGES}
    values["planning_s"] = seconds["planning_wall"]
    return Measured(values, seconds, within)


PLAN = Benchmark(
    name="plan",
    about=__doc__ or "",
    parts={measure_plan: tuple(LIMITS)},
    limits=LIMITS,
    scales=SCALES,
    packages=("torch", "transformers", "av", "lightning", "zarr", "numpy"),
)

if __name__ == "__main__":
    raise SystemExit(PLAN.run())
