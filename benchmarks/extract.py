"""`make bench-extract`: extraction and stores against their floors and against the baseline.

All keys take about 25 minutes on two quiet cores; the clips, weights and stores (4 GB) are made
before and kept. A ratio is taken within one repeat, whose parts follow each other directly.
"""

from __future__ import annotations

from benchmarks.command import Benchmark
from benchmarks.memory import measure_memory
from benchmarks.results import Limit, Limits
from benchmarks.speed import measure_specs, measure_speed
from benchmarks.stores import measure_stores
from benchmarks.world import SCALES

LIMITS: Limits = {
    "in_process_over_floor": Limit(1.15),
    "ray_over_floor": Limit(1.25),
    "speedup_fp32": Limit(1.1, most=False),
    # Of ours nothing is wanted where the processor itself gains little from bfloat16.
    "speedup_bf16": Limit(2.3, most=False, given=("bf16_floor", 2.5)),
    "bf16_floor": None,
    "parity_max_abs": Limit(1e-4),
    "multi_spec_over_union": Limit(1.15),
    "rss_growth": Limit(1.1),
    "hdf5_read_over_npload": Limit(2.5),
    # 10 times as long as numpy.load would do, or 4 times with TensorStore's help; ours needs none.
    "zarr_read_over_npload": Limit(4.0),
    "zarr_library_read_over_npload": None,
    "zarr_tensorstore_read_over_npload": None,
    "loader_samples_per_s_hdf5": Limit(500, most=False),
    "loader_samples_per_s_zarr": Limit(500, most=False),
}
EXTRACT = Benchmark(
    name="extract",
    about=__doc__ or "",
    parts={
        measure_stores: tuple(key for key in LIMITS if "npload" in key or "loader" in key),
        measure_memory: ("rss_growth",),
        measure_specs: ("multi_spec_over_union",),
        measure_speed: (
            "in_process_over_floor",
            "ray_over_floor",
            "speedup_fp32",
            "speedup_bf16",
            "bf16_floor",
            "parity_max_abs",
        ),
    },
    limits=LIMITS,
    scales=SCALES,
    packages=("torch", "transformers", "decord", "av", "ray", "zarr", "h5py", "numpy"),
)

if __name__ == "__main__":
    raise SystemExit(EXTRACT.run())
