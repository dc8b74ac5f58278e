"""results.json: every cell, row and claim of a study, from the folders of the cells that were run.

The page is made from this record alone. The same folders give the same bytes: there is no date in
it and no path but those of runs, below the study's root. A study that is half done has fewer pairs,
and says so.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.paired import holm
from eval.report.study.view import SCHEMA
from features.durable import replace_json
from features.errors import ConfigError
from features.recipes import did_you_mean, read_recipe
from pipelines.study.cells import Done, Use
from pipelines.study.claims import VERDICTS, decide, method, tested
from pipelines.study.placed import Place, Placed, Run
from pipelines.study.recipe import ClaimConfig, Measure, RowConfig, StudyConfig, TableConfig
from pipelines.study.scores import DIGITS, cell_score, rounded, row_score
from pipelines.study.values import MEASURES, Asked, CellValues, Kind, read_cells
from train.checkpoint import RECORD

LABELS: dict[Kind, dict[Measure, str]] = {
    "qa": {
        "temporal": "temporal questions, percent right",
        "content": "spatial and all other questions, percent right",
        "all": "all questions, percent right",
    },
    "five": {
        **dict.fromkeys(MEASURES["five"], "mean score (0 to 5)"),
        "content": "correctness, detail and context, mean score (0 to 5)",
        "all": "mean of the five aspects (0 to 5)",
    },
}
FACTS = (
    *("study", "quick", "split", "base", "bases", "dataset", "experiment", "benchmarks"),
    *("judge", "frozen"),
)
"""What the caller knows of a study, taken over as it is."""
NOT_LOOKED_INTO = "Not looked into."
HEADLINE_ALONE = "What was looked into is the budget that heads the verdicts."


def outcome(
    study: StudyConfig,
    uses: Mapping[Use, Done],
    facts: Mapping[str, Any],
    whys: Mapping[str, Any],
    *,
    budgets: frozenset[str] = frozenset(),
    planned: Collection[Use] = (),
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The record of a study, as far as it was run.

    Args:
        study: what is compared and claimed.
        uses: the cells that were run, by where they stand.
        facts: `FACTS`, as results.json has them, and `root`, which runs are named relative to.
        whys: by `table/claim` and then verdict, what looking into it found.
        budgets: that the base has, so that a study that has just begun lists them all; those of
            `uses` are known anyway.
        planned: where cells stand when all have run; `uses` are among them.
        failed: what went wrong, by the cell's fingerprint.

    Raises:
        ConfigError: `whys` explains a claim or verdict that does not exist.
        RedVillmError: an evaluation is unfinished or damaged, cells were asked different
            questions, or a cell stands where the study has no row.
    """
    _check_whys(study, whys)
    values = read_cells(list(uses.values()))
    bases = [base["name"] for base in facts["bases"]]
    placed = Placed.of(study, uses, values, bases, budgets, planned)
    asked: dict[str, Asked] = {
        done.cell.split: values[done.fingerprint].asked for done in uses.values()
    }
    whole = asked.get(facts["split"])
    kind = _kind_of(asked, facts["split"])
    return {
        "schema": SCHEMA,
        **{name: facts[name] for name in FACTS},
        "kind": kind,
        "questions": whole.num_questions if whole else 0,
        "videos": whole.num_videos if whole else 0,
        "method": method(kind),
        "measures": _labels(kind, bool(whole and whole.mixed)),
        "missing": len({*planned} - {*uses}),
        "failed": [
            {"cell": name[:16], "error": error} for name, error in sorted((failed or {}).items())
        ],
        "cells": _cells(placed, kind, Path(facts["root"])),
        "tables": [_table(table, placed, kind, facts["split"]) for table in study.tables],
        "claims": _claims(placed, kind, whys),
    }


def write_results(path: Path, record: Mapping[str, Any]) -> None:
    """Write results.json at once.

    Raises:
        StoreError: cannot write there.
    """
    replace_json(path, dict(record), "results")


def _cells(placed: Placed, kind: Kind, root: Path) -> list[dict[str, Any]]:
    """Tables, rows, readings, budgets, bases and seeds in order; a shared cell in each place."""
    scores = {
        name: {measure: cell_score(values, measure, kind) for measure in MEASURES[kind]}
        for name, values in placed.values.items()
    }
    return [
        {
            "table": place.table,
            "row": place.row,
            "reading": place.reading,
            "base": base,
            "seed": seed,
            "budget": place.budget,
            **_cell(done, placed.values[done.fingerprint], row, root),
            "scores": scores[done.fingerprint],
        }
        for table in placed.study.tables
        for row in table.rows
        for place in placed.places(table, row.name)
        for (base, seed), done in placed.row(place).items()
    ]


def _cell(done: Done, values: CellValues, row: RowConfig, root: Path) -> dict[str, Any]:
    return {
        "split": done.cell.split,
        "cell": done.fingerprint[:16],
        "num_frames": done.cell.num_frames,
        "settings": _settings(done, row),
        "steps": done.metrics.get("steps"),
        "train_s": done.metrics.get("seconds"),
        "answer_s": round(values.answer_s, 2),
        "run": Path(os.path.relpath(done.run, root)).as_posix(),
        "asked": len(values.values),
        "judged": values.judged,
        "lost": values.lost,
    }


def _settings(done: Done, row: RowConfig) -> dict[str, Any]:
    """Switches; lr, epochs and batch size as the run recorded them, its budget's where not set."""
    config, record = done.cell.config, done.run / RECORD
    trained = read_recipe(record)["train"] if record.is_file() else {}
    settled = {k: trained.get(k, getattr(config, k)) for k in ("lr", "epochs", "batch_size")}
    return {**asdict(config.switches), **settled, "data": row.data}


def _table(table: TableConfig, placed: Placed, kind: Kind, split: str) -> dict[str, Any]:
    return {
        "table": table.table,
        "title": table.title,
        "factor": table.factor,
        "split": "val" if split == "val" else table.split,
        "curve": table.curve,
        "budgets": placed.budgets_of(table),
        "readings": placed.readings_of(table),
        "rows": [
            {
                "row": row.name,
                "budget": place.budget,
                "reading": place.reading,
                "x": _x(table, row, placed.row(place)) if table.curve else None,
                "pairs": sum(cell.whole for cell in placed.cells(place).values()),
                "planned": placed.planned(place),
                "scores": {m: row_score(placed, place, m, kind) for m in MEASURES[kind]},
            }
            for row in table.rows
            for place in placed.places(table, row.name)
        ],
    }


def _x(table: TableConfig, row: RowConfig, cells: Mapping[Run, Done]) -> float | None:
    """What a curve is drawn over: frames (as run), share of the videos, or times the rate."""
    if any(one.frames for one in table.rows):
        frames = [done.cell.num_frames for done in cells.values()]
        return float(frames[0]) if frames else None
    return row.data if any(one.data != 1 for one in table.rows) else row.lr


def _claims(placed: Placed, kind: Kind, whys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every claim under every reading and budget; the first of each claim is its headline."""
    entries: list[dict[str, Any]] = []
    ps: list[float | None] = []
    for table in placed.study.tables:
        for claim in table.claims:
            texts = whys.get(f"{table.table}/{claim.name}", {})
            for at, place in enumerate(placed.places(table, claim.more)):
                entry, p = _claim(claim, place, placed, kind)
                why = _looked_into(texts, entry, at == 0)
                told = {"why": " ".join([why, *entry["why"]]), "headline": at == 0}
                entries.append(entry | told)
                ps.append(p if at == 0 and claim.kind == "more" else None)
    adjusted = holm(ps)
    return [{**e, "p_holm": rounded(p, 4)} for e, p in zip(entries, adjusted, strict=True)]


def _claim(
    claim: ClaimConfig, place: Place, placed: Placed, kind: Kind
) -> tuple[dict[str, Any], float | None]:
    """A claim's entry, with what kept pairs out as `why`, and its p before rounding."""
    places = [place._replace(row=row) for row in (claim.more, claim.less)]
    more, less = (placed.cells(where) for where in places)
    planned = placed.planned(*places)
    missing = _missing(planned - len(more.keys() & less.keys()), planned)
    found, digits = decide(claim, more, less, kind), DIGITS[kind]
    asked = asdict(claim)
    entry = {
        "table": place.table,
        "claim": asked.pop("name"),
        **asked,
        "tested": tested(claim, kind),
        "budget": place.budget,
        "reading": place.reading,
        "verdict": found.verdict,
        "p": rounded(found.p, 4),
        "n": len(found.pairs),
        "planned": planned,
        "difference": rounded(found.difference.mean, digits),
        "low": rounded(found.difference.low, digits),
        "high": rounded(found.difference.high, digits),
        "smallest_detectable": rounded(found.smallest_detectable, digits),
        "pairs": [
            {"base": base, "seed": seed, "difference": rounded(difference, digits)}
            for (base, seed), difference in found.pairs.items()
        ],
        "why": [*missing, *found.reasons],
    }
    return entry, found.p


def _looked_into(texts: Mapping[str, str], entry: Mapping[str, Any], headline: bool) -> str:
    """What looking into it found: that was about all runs of the headline."""
    if texts and not headline:
        return HEADLINE_ALONE
    whole = entry["n"] == entry["planned"] > 0
    return texts.get(entry["verdict"], NOT_LOOKED_INTO).strip() if whole else NOT_LOOKED_INTO


def _missing(pairs: int, planned: int) -> list[str]:
    if not pairs:
        return []
    verb = "pair is" if planned == 1 else "pairs is" if pairs == 1 else "pairs are"
    return [f"{pairs} of {planned} planned {verb} missing: not run yet, or failed."]


def _kind_of(asked: Mapping[str, Asked], split: str) -> Kind:
    """Of the headline split's questions, else of any; of a study without a cell, `qa`."""
    found = [asked[name].kind for name in sorted(asked, key=lambda name: (name != split, name))]
    return found[0] if found else "qa"


def _labels(kind: Kind, mixed: bool) -> dict[Measure, str]:
    left_out = " (what is judged for the five aspects is left out)" if mixed else ""
    return {measure: label + left_out for measure, label in LABELS[kind].items()}


def _check_whys(study: StudyConfig, whys: Mapping[str, Any]) -> None:
    known = [f"{table.table}/{claim.name}" for table in study.tables for claim in table.claims]
    for name, texts in whys.items():
        if name not in known:
            raise ConfigError("a reason for no claim", got=name, do=did_you_mean(name, known))
        for verdict in texts:
            if verdict not in VERDICTS:
                do = did_you_mean(str(verdict), VERDICTS)
                raise ConfigError("a reason for no verdict", where=name, got=verdict, do=do)
