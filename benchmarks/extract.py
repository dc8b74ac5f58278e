"""`make bench-extract`: extraction and stores against their floors and against the baseline.

All keys take about 25 minutes on two quiet cores; the clips, weights and stores (4 GB) are made
before and kept. A ratio is taken within one repeat, whose parts follow each other directly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.memory import measure_memory
from benchmarks.results import LIMITS, Measured, machine_facts, print_table, summarise, write_record
from benchmarks.speed import measure_specs, measure_speed
from benchmarks.stores import measure_stores
from benchmarks.world import SCALES, Scale

PARTS: dict[Callable[[Path, Scale], Measured], tuple[str, ...]] = {
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
}
RESULTS = Path(__file__).parent / "results" / "extract.json"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; 1 when something wanted was missed."""
    parser = argparse.ArgumentParser("benchmarks.extract", description=__doc__)
    parser.set_defaults(scale="full")
    parser.add_argument("--quick", action="store_const", const="quick", dest="scale")
    parser.add_argument("--scale", choices=SCALES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=LIMITS, default=list(LIMITS), metavar="KEY")
    parser.add_argument("--data", type=Path, default=Path("data/bench"), help="made and kept here")
    parser.add_argument("--out", type=Path, help=f"the JSON; {RESULTS} if everything is measured")
    chosen = parser.parse_args(arguments)
    scale, console = SCALES[chosen.scale], Console(stderr=True)
    whole = scale.name == "full" and set(chosen.only) == set(LIMITS)
    out = chosen.out or (RESULTS if whole else chosen.data / "extract-partial.json")
    facts = {
        "schema": 1,
        **machine_facts(),
        "scale": scale.name,
        "repeats": chosen.repeats,
    }
    parts = [part for part, keys in PARTS.items() if set(keys) & set(chosen.only)]
    found = []
    for repeat in range(chosen.repeats):
        for part in parts:
            console.print(f"repeat {repeat + 1} of {chosen.repeats}: {part.__name__}")
            found.append(part(chosen.data, scale))
    record = summarise(found, facts)
    write_record(out, record)
    print_table(console, record)
    console.print(f"written to {out}")
    return int(any(details["passed"] is False for details in record["details"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
