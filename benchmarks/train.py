"""`make bench-train`: a training step against its floor and against the plain loop.

All keys take about 25 minutes on two quiet cores. A ratio is taken within one repeat, on the same
questions. Peer of ours is transformers' Trainer (benchmarks/plain_training.py), which needs
`accelerate` (`pip install -e '.[test]'`).
"""

from __future__ import annotations

from benchmarks.command import Benchmark
from benchmarks.results import Limit, Limits
from benchmarks.train_memory import measure_training_memory
from benchmarks.train_speed import measure_mini, measure_parity, measure_steps
from benchmarks.train_world import SCALES

LIMITS: Limits = {
    "step_over_floor": Limit(1.10),
    "speedup_over_plain": Limit(2.5, most=False),
    "loss_max_abs_diff": Limit(1e-5),
    "peak_memory_ratio_152k": Limit(0.6),
    "data_time_share": Limit(0.02),
    "mini_train_s": Limit(60),
    "floor_loss_max_abs_diff": Limit(1e-5),
}
TRAIN = Benchmark(
    name="train",
    about=__doc__ or "",
    parts={
        measure_steps: (
            "step_over_floor",
            "speedup_over_plain",
            "data_time_share",
            "floor_loss_max_abs_diff",
        ),
        measure_mini: ("mini_train_s",),
        measure_training_memory: ("peak_memory_ratio_152k",),
        measure_parity: ("loss_max_abs_diff",),
    },
    limits=LIMITS,
    scales=SCALES,
    packages=(
        *("torch", "transformers", "accelerate", "lightning"),
        *("tokenizers", "safetensors", "zarr", "h5py", "numpy"),
    ),
    once=frozenset({measure_training_memory, measure_parity}),
)

if __name__ == "__main__":
    raise SystemExit(TRAIN.run())
