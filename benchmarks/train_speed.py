"""Time of our training step against its floor and the plain loop, and whether losses are equal."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from statistics import median

from benchmarks.our_training import Step, train_ours
from benchmarks.plain_training import train_plain
from benchmarks.results import Measured
from benchmarks.train_world import TrainScale, make_world
from benchmarks.world import scratch_folder
from extract.options import ExtractConfig
from extract.run import extract
from features.checkpoint_files import PROJECT
from pipelines.demo_data import DemoDataConfig, write_demo
from pipelines.selection import Selection


def measure_steps(root: Path, scale: TrainScale) -> Measured:
    """One repeat: our steps with the floor beside them, then steps of the plain loop."""
    world = make_world(root, scale)
    with scratch_folder(root) as scratch:
        ours = train_ours(world, scratch / "ours", scale.batch_size, scale.steps, floor=True)
        asked = _shuffled(ours[: scale.plain_steps])
        plain = train_plain(world, asked, scale.rows, scratch / "plain")
    seconds = sum(step.seconds for step in ours)
    values = {
        "step_over_floor": median(step.seconds / step.floor_seconds for step in ours),
        "speedup_over_plain": _rate(plain.seconds) / _rate([step.seconds for step in ours]),
        "data_time_share": sum(step.loading_seconds for step in ours) / seconds,
        "floor_loss_max_abs_diff": max(abs(step.loss - step.floor_loss) for step in ours),
    }
    times = {
        "our_step": median(step.seconds for step in ours),
        "floor_step": median(step.floor_seconds for step in ours),
        "plain_step": median(plain.seconds),
        "loading": median(step.loading_seconds for step in ours),
    }
    return Measured(values, times | {"our_step_tokens": median(step.tokens for step in ours)})


def _rate(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)


def _shuffled(steps: Sequence[Step]) -> list[list[str]]:
    """The same questions a step, within it in no order, as a plain loop meets them."""
    return [random.Random(0).sample(sorted(step.questions), len(step.questions)) for step in steps]


def measure_parity(root: Path, scale: TrainScale) -> Measured:
    """The loss of every step, ours against the plain loop's on the same questions."""
    world = make_world(root, scale)
    with scratch_folder(root) as scratch:
        ours = train_ours(world, scratch / "ours", scale.parity_batch, scale.parity_steps)
        rows = min(scale.rows, scale.parity_batch)
        plain = train_plain(world, _shuffled(ours), rows, scratch / "plain")
    differences = [abs(step.loss - loss) for step, loss in zip(ours, plain.losses, strict=True)]
    seconds = {
        "parity_ours": sum(step.seconds for step in ours),
        "parity_plain": sum(plain.seconds),
    }
    return Measured({"loss_max_abs_diff": max(differences)}, seconds)


def measure_mini(root: Path, scale: TrainScale) -> Measured:
    """A whole training of the embedded base, as a user starts it, on the demo's data."""
    folder = root / f"demo-{scale.name}"
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):  # the demo's recipe names its files from here
        demo = Selection()
        base, dataset = demo.load_base(), demo.load_dataset()
        write_demo(dataset.videos.parent, DemoDataConfig(*scale.demo_videos))
        extract(ExtractConfig(features=demo.features, executor="serial"), base, dataset)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    recipe = PROJECT / "pipelines" / "recipes" / "experiments" / "red-villm-long.yaml"
    command = [sys.executable, "-m", "pipelines", "train", f"--config={recipe}"]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return Measured({"mini_train_s": time.perf_counter() - start})
