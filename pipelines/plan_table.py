"""A plan on one screen, 80 columns wide or more."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipelines.plan import NOT_MODELLED, Plan
from pipelines.plan_machine import between, size
from pipelines.plan_work import Row

_TIGHT: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": 0, "show_edge": False}


def show_plan(plan: Plan, console: Console) -> None:
    """Print the table, its formulas, the assumptions, and what is left out."""
    prose: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": False}
    console.print(", ".join(f"{k} {v}" for k, v in plan.facts.items()), **prose)
    heads = ("GPU-h", "CPU-h", "disk", "network", "M tokens", "cost")
    columns = (Column(head, justify="right", no_wrap=True) for head in heads)
    table = Table(Column("stage", overflow="fold"), *columns, **_TIGHT)
    for row in plan.rows:
        table.add_row(*cells(row))
    table.add_section()
    table.add_row(*cells(plan.total))
    console.print(table)
    for row in plan.rows:
        console.print(f"{row.stage}: {row.how}", **prose)
    names = (Column(name, overflow="fold") for name in ("assumption", "value", "source"))
    sources = Table(*names, **_TIGHT)
    for assumption in plan.assumptions:
        sources.add_row(*map(escape, assumption))
    console.print(sources)
    console.print(f"not modelled: {'; '.join(NOT_MODELLED)}", **prose)


def cells(row: Row) -> tuple[str, ...]:
    """One row as it is printed."""
    return (
        escape(row.stage),
        between(row.gpu_s * (1 / 3600)),
        between(row.cpu_s * (1 / 3600)),
        size(row.disk),
        size(row.network),
        between(row.tokens * 1e-6),
        "" if row.money is None else between(row.money),
    )
