"""The command behind `make bench-*`: repeat the parts, print a table, write the record."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.results import (
    Limits,
    Measured,
    machine_facts,
    print_table,
    summarise,
    write_record,
)

Part = Callable[[Path, Any], Measured]
"""Measures some keys once, given the folder that is kept and the scale."""


@dataclass(frozen=True)
class Benchmark:
    """What one command measures."""

    name: str
    """Of the record in benchmarks/results."""
    about: str
    parts: Mapping[Part, tuple[str, ...]]
    """Each part and the keys that come out of it, in the order in which they run."""
    limits: Limits
    scales: Mapping[str, Any]
    packages: tuple[str, ...]
    """Whose versions are recorded."""
    once: frozenset[Part] = frozenset()
    """Parts that are not repeated, because nothing in them depends on the machine's mood."""

    @property
    def results(self) -> Path:
        """Where the record goes if everything is measured at full scale."""
        return Path(__file__).parent / "results" / f"{self.name}.json"

    def run(self, arguments: list[str] | None = None) -> int:
        """Measure, print and write; 1 when something wanted was missed."""
        chosen = self._parser().parse_args(arguments)
        scale, console = self.scales[chosen.scale], Console(stderr=True)
        whole = scale.name == "full" and set(chosen.only) == set(self.limits)
        out = chosen.out or (self.results if whole else chosen.data / f"{self.name}-partial.json")
        facts = {
            "schema": 1,
            **machine_facts(self.packages),
            "scale": scale.name,
            "repeats": chosen.repeats,
        }
        parts = [part for part, keys in self.parts.items() if set(keys) & set(chosen.only)]
        found = []
        for repeat in range(chosen.repeats):
            for part in parts:
                if repeat and part in self.once:
                    continue
                console.print(f"repeat {repeat + 1} of {chosen.repeats}: {part.__name__}")
                found.append(part(chosen.data, scale))
                console.print({key: f"{value:.4g}" for key, value in found[-1].values.items()})
        record = summarise(found, facts, self.limits)
        write_record(out, record)
        print_table(console, record)
        console.print(f"written to {out}")
        return int(any(details["passed"] is False for details in record["details"].values()))

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(f"benchmarks.{self.name}", description=self.about)
        parser.set_defaults(scale="full")
        parser.add_argument("--quick", action="store_const", const="quick", dest="scale")
        parser.add_argument("--scale", choices=self.scales)
        parser.add_argument("--repeats", type=int, default=3)
        keys = list(self.limits)
        parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KEY")
        data = Path("data/bench")
        parser.add_argument("--data", type=Path, default=data, help="made and kept here")
        told = f"the JSON; {self.results} if everything is measured"
        parser.add_argument("--out", type=Path, help=told)
        return parser
