"""`extract --dry_run`: the plan of a run and what it will take, on one screen."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from extract.dry_run import DryRun
from features.errors import few

MACHINES = (1, 4, 16)
"""Numbers of machines like this one that a time is told for."""


def show_dry_run(plan: DryRun, console: Console) -> None:
    """Print what a run would do."""
    found = plan.wanted - len(plan.missing)
    console.print(f"videos: {plan.wanted:,} wanted, {found:,} found, {len(plan.missing):,} missing")
    if plan.missing:
        console.print(f"missing: {escape(few(list(plan.missing)))}")
    names = ("done", "failed before", "to do", "shards", "to write")
    table = Table(Column("store", overflow="fold"), *names, box=SIMPLE_HEAD)
    for store in plan.stores:
        failed = ", ".join(f"{code} {count:,}" for code, count in sorted(store.failed.items()))
        counts = (f"{store.ok:,}", failed or "0", f"{store.waiting:,}", f"{store.shards:,}")
        table.add_row(escape(str(store.store)), *counts, decimal(store.bytes))
    console.print(table)
    told = plan.estimate
    if told is None:
        console.print("no video to decode; nothing was measured or written")
        return
    broken = ", ".join(f"{code} {count}" for code, count in sorted(told.failed.items()))
    console.print(
        f"sample: {told.sampled} of {told.videos:,} videos, {broken or 'none'} failed; "
        f"ViT alone {told.usage.rate:,.1f} images/s on {plan.device}"
    )
    if not told.usage.images:
        console.print("no video of the sample could be used: no estimate; nothing was written")
        return
    sharing = "the same cores" if plan.same_cores else "a device of its own"
    console.print(
        f"in all: {told.usage.images:,} images; decoding {_time(told.usage.decode_cpu_s)} of CPU, "
        f"ViT {_time(told.usage.images / told.usage.rate)}; thumbnails {decimal(told.thumb_bytes)}"
    )
    console.print(
        f"bottleneck: {plan.bottleneck} ({plan.towers} ViT on {sharing}, {plan.decoders} decoding "
        f"processes; one ViT keeps {told.decoders_a_tower:,.1f} of them busy)"
    )
    times = [f"{n}: {_time(plan.hours(n) * 3600)}" for n in MACHINES]
    console.print(
        f"time at best on so many machines like this one: {', '.join(times)}; nothing was written"
    )


def _time(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= s), ("s", 1))
    return f"{seconds / size:,.1f} {unit}"
