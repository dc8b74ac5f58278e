"""Peak memory of one training step with a large vocabulary, ours against the plain loop's.

Each side runs in a process of its own, on the same questions about one video, and loads the same
weights the same way.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.memory import peak_of
from benchmarks.our_training import train_ours
from benchmarks.plain_training import train_plain
from benchmarks.results import Measured
from benchmarks.train_world import QUESTIONS, SCALES, TrainScale, make_world
from benchmarks.world import scratch_folder
from features.annotations import load_annotations


def measure_training_memory(root: Path, scale: TrainScale) -> Measured:
    """Most anonymous memory of a process that makes one step of a video's questions."""
    make_world(root, scale, large_vocabulary=True, videos=1)
    command = [sys.executable, "-m", "benchmarks.train_memory"]
    ours, plain = (
        peak_of([*command, side, str(root.resolve()), scale.name]) for side in ("ours", "plain")
    )
    megabytes = {"rss_mb_ours_152k": ours / 2**20, "rss_mb_plain_152k": plain / 2**20}
    return Measured({"peak_memory_ratio_152k": ours / plain}, megabytes)


def _one_step(side: str, root: Path, scale: TrainScale) -> None:
    world = make_world(root, scale, large_vocabulary=True, videos=1)
    with scratch_folder(root) as scratch:
        if side == "ours":
            train_ours(world, scratch, batch_size=QUESTIONS, steps=1)
        else:
            asked = load_annotations(world.dataset.splits["train"])
            ids = [sample.sample_id for sample in asked]
            train_plain(world, [ids], len(ids), scratch)


if __name__ == "__main__":
    _one_step(sys.argv[1], Path(sys.argv[2]), SCALES[sys.argv[3]])
