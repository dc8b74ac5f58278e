"""`make bench-decode`: a split's questions together against one at a time.

Takes about 10 minutes on two quiet cores. 50 videos of 356 tokens with 10 questions each, the
Llama of `make bench-train`, float32. Peer of ours is transformers' `generate` on the embedded
prompt, a question at a time, on the same weights in the same process; it is measured on a fixed
sample of the questions, since all 500 would take 20 minutes a repeat.
"""

from __future__ import annotations

from benchmarks.command import Benchmark
from benchmarks.decode_speed import SCALES, measure_float64, measure_speed
from benchmarks.results import Limit, Limits

LIMITS: Limits = {
    "speedup_over_one_at_a_time": Limit(4.0, most=False),
    "token_identical": Limit(1.0, most=False),
    "float32_margin_max": Limit(1e-4),
    "float32_divergences": None,
    "float32_compared": None,
    "ms_a_question": None,
}
DECODE = Benchmark(
    name="decode",
    about=__doc__ or "",
    parts={
        measure_speed: (
            "speedup_over_one_at_a_time",
            "float32_margin_max",
            "float32_divergences",
            "float32_compared",
            "ms_a_question",
        ),
        measure_float64: ("token_identical",),
    },
    limits=LIMITS,
    scales=SCALES,
    packages=("torch", "transformers", "numpy"),
    once=frozenset({measure_float64}),
)

if __name__ == "__main__":
    raise SystemExit(DECODE.run())
