"""The report in short, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from eval.report.cells import DASH, accuracy, mean_score, seeds, table_types, translated


def terminal_table(report: Mapping[str, Any]) -> Table:
    """Of one table its types; of several a column each, over all their questions."""
    tables = report["tables"]
    return _one(tables[0]) if len(tables) == 1 else _several(tables, report["run_order"])


def _one(table: Mapping[str, Any]) -> Table:
    what = "accuracy in %" if table["aspect"] == "qa" else f"{table['aspect']}, score"
    where = f"{table['dataset']}, {table['split']}{translated(table)}"
    title = f"{what} on {where} [95 % interval], judge"
    shown = Table(title=escape(f"{title} {table['judge']}"), box=SIMPLE_HEAD)
    types = table_types(table)
    shown.add_column("run")
    shown.add_column("seeds", justify="right")
    for kind in types:
        shown.add_column(escape(kind), justify="right")
    for row in table["rows"]:
        scores = {**row["types"], "all": row["all"]}
        cells = [_cell(scores[kind]) for kind in types]
        shown.add_row(escape(row["name"]), seeds(row), *cells)
    return shown


def _several(tables: list[Mapping[str, Any]], order: list[str]) -> Table:
    shown = Table(title="over all questions [95 % interval]", box=SIMPLE_HEAD)
    shown.add_column("run")
    shown.add_column("seeds", justify="right")
    for table in tables:
        what = "accuracy %" if table["aspect"] == "qa" else f"{table['aspect']}, score"
        head = f"{table['dataset']}\n{table['split']}: {what}\n{table['judge']}"
        head += f"\n{table['translations']}" if table["translations"] else ""
        shown.add_column(escape(head), justify="right")
    judged = {row["name"] for table in tables for row in table["rows"]}
    for name in (name for name in order if name in judged):
        rows = [next((r for r in t["rows"] if r["name"] == name), None) for t in tables]
        of_seeds = next(str(row["of_seeds"]) for row in rows if row)
        shown.add_row(escape(name), of_seeds, *(_with_seeds(row) if row else "" for row in rows))
    return shown


def _with_seeds(row: Mapping[str, Any]) -> str:
    """The number over all questions, and of how many seeds if some are missing."""
    few = row["seeds"] < row["of_seeds"]
    return _cell(row["all"]) + (f" ({seeds(row)} seeds)" if few else "")


def _cell(score: Mapping[str, Any]) -> str:
    """The accuracy, or where there is no right and wrong the score."""
    if score["accuracy"] is not None:
        return escape(accuracy(score, ".."))
    if score["score"] is not None:
        return escape(mean_score(score, ".."))
    return f"{DASH} ({score['judged']} of {score['asked']} judged)"
