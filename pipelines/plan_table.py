"""A plan on one screen."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from pipelines.plan import NOT_MODELLED, Plan
from pipelines.plan_machine import Range, between
from pipelines.plan_work import Row


def show_plan(plan: Plan, console: Console) -> None:
    """Print the table, its formulas, the assumptions, and what is left out."""
    facts = ", ".join(f"{k} {v}" for k, v in plan.facts.items())
    heads = ("GPU-h", "CPU-h", "disk", "network", "judge tokens", "cost")
    columns = (Column(head, justify="right", no_wrap=True) for head in heads)
    table = Table(Column("stage", overflow="fold"), *columns, box=SIMPLE_HEAD, title=escape(facts))
    for row in plan.rows:
        table.add_row(*cells(row))
    table.add_section()
    table.add_row(*cells(plan.total))
    console.print(table)
    for row in plan.rows:
        console.print(f"{row.stage}: {row.how}", markup=False, highlight=False)
    sources = Table("assumption", "value", Column("source", overflow="fold"), box=SIMPLE_HEAD)
    for what, value, source in plan.assumptions:
        sources.add_row(escape(what), value, escape(source))
    console.print(sources)
    console.print(f"not modelled: {'; '.join(NOT_MODELLED)}", markup=False, highlight=False)


def cells(row: Row) -> tuple[str, ...]:
    """One row as it is printed."""
    return (
        escape(row.stage),
        between(row.gpu_s * (1 / 3600)),
        between(row.cpu_s * (1 / 3600)),
        _bytes(row.disk),
        _bytes(row.network),
        between(row.tokens * 1e-6, " M"),
        "" if row.money is None else between(row.money),
    )


def _bytes(range_: Range) -> str:
    if range_ == Range():
        return ""
    low, high = (decimal(round(n)) for n in (range_.low, range_.high))
    return low if low == high else f"{low} - {high}"
