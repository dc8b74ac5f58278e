"""A study's record made up by its contract, with every kind of verdict and hostile texts.

Numbers follow simple rules, so that tests can say what a page must show.
"""

from __future__ import annotations

from typing import Any

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
DIGEST = "0123456789abcdef" * 4
WHY_NOT = "Fewer than two pairs: the cells of row `a quarter` are missing."
NO_RUN = "no finished run has this number"
Json = dict[str, Any]
MEASURES = ("temporal", "content", "all")
ASPECTS = ("correctness", "detail", "context", "temporal", "consistency")
COLUMNS = {"qa": MEASURES, "five": (*ASPECTS, "content", "all")}
_ORDER = (*MEASURES, "correctness", "detail", "context", "consistency")
TABLES: dict[str, tuple[str, str, list[str], list[float | None]]] = {
    "3": (
        "Effect of temporal and spatial pooling",
        "the LLM sees",
        ["temporal features", "spatial features", "both"],
        [None] * 3,
    ),
    "4": (
        "Effect of the temporal module",
        "temporal module",
        ["shared", "copy", f"random {EVIL}"],
        [None] * 3,
    ),
    "6": (
        "Effect of the number of sampled frames",
        "frames",
        ["fewest", "fewer", "middle", "more", "most"],
        [2.0, 4.0, 8.0, 16.0, 32.0],
    ),
    "7": (
        "Effect of the number of spatial tokens",
        "spatial tokens",
        ["a quarter", "all"],
        [None] * 2,
    ),
    "controls": (
        "What the paper leaves out",
        "control",
        ["red-villm", "untuned base", "no video", "temporal module trained alone"],
        [None] * 4,
    ),
    "data": (
        "How much training data it takes",
        "share of the training videos",
        ["1/16", "1/8", "1/4", "1/2", "1"],
        [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0],
    ),
    "learning rate": (
        "Learning rate (on validation videos)",
        "times the recipe's",
        ["1/4", "1", "4"],
        [0.25, 1.0, 4.0],
    ),
}

CLAIMS: list[tuple[str, Json, tuple[str, ...]]] = [
    (
        "Spatial features alone lack temporal understanding (section 4.3).",
        {"table": "3", "claim": "both over spatial", "more": "both", "less": "spatial features"},
        ("holds", "holds"),
    ),
    (
        "In content, spatial features alone come close to both (section 4.3).",
        {"table": "3", "claim": "spatial close", "more": "both", "less": "spatial features"}
        | {"kind": "close", "measure": "content"},
        ("undecided", "does not hold"),
    ),
    (
        "Temporal features alone are below spatial ones alone in Temporal, too.",
        {"table": "3", "claim": "lower", "more": "spatial features", "less": "temporal features"},
        ("does not hold", "does not hold"),
    ),
    (
        "A temporal module of its own improves temporal understanding (section 4.3).",
        {"table": "4", "claim": "copy over shared", "more": "copy", "less": "shared"},
        ("holds", "holds"),
    ),
    (
        'It helps "especially in terms of temporal understanding" (section 4.3).',
        {"table": "4", "claim": "mostly temporal", "more": "copy", "less": "shared"}
        | {"beyond": "content"},
        ("undecided", "holds"),
    ),
    (
        f"Better than a fresh one {EVIL}",
        {"table": "4", "claim": "copy over random", "more": "copy", "less": f"random {EVIL}"}
        | {"paper": False},
        ("holds", "holds"),
    ),
    (
        "Few frames limit understanding (section 4.4).",
        {"table": "6", "claim": "few frames limit", "more": "middle", "less": "fewest"},
        ("holds", "does not hold"),
    ),
    (
        "Fewer spatial tokens lower the understanding of content slightly (section 4.4).",
        {"table": "7", "claim": "tokens help", "more": "all", "less": "a quarter"}
        | {"measure": "content"},
        ("undecided",) * 4,
    ),
]
"""What is said, what differs from the usual, and the verdict of each budget and reading."""


def study_record(kind: str = "qa", quick: bool = False) -> Json:
    """Two bases of five seeds; `kind` five has scores of 0 to 5 where `qa` has percent."""
    scale = 1.0 if kind == "qa" else 0.05
    measures = COLUMNS[kind]
    tables = [_table(name, scale, measures) for name in TABLES]
    return {
        "schema": 2,
        "study": "paper",
        "quick": quick,
        "split": "val" if quick else "test",
        "base": "mini",
        "bases": [{"name": "mini", "digest": DIGEST}, {"name": "mini-b", "digest": DIGEST[::-1]}],
        "dataset": "demo",
        "experiment": "red-villm",
        "benchmarks": [{"dataset": "demo", "split": "val" if quick else "test"}],
        "judge": "offline-em-f1-2",
        "kind": kind,
        "questions": 1200,
        "videos": 300,
        "frozen": None
        if quick
        else {
            "frozen": "2026-11-27",
            "world": DIGEST,
            "study": DIGEST,
            "bases": {"mini": DIGEST, "mini-b": DIGEST},
            "test_seed": 77001,
        },
        "method": "Two-sided exact sign-flip test over pairs.\n\nA claim holds where p < 0.05.",
        "measures": {measure: f"{measure}, said in words" for measure in measures},
        "missing": 0,
        "failed": [],
        "cells": [
            _cell(table, row, (base, seed), scale, measures)
            for table in ("3", "4")
            for row in TABLES[table][2]
            for base in ("mini", "mini-b")
            for seed in range(2)
        ],
        "tables": tables,
        "claims": _claims(scale),
    }


def mean(at: int, measure: str, budget: str, scale: float) -> float:
    """The mean of a table's row by its place: 50 and 9 a row, a little more by measure."""
    value = 50 + 9 * at + 3 * _ORDER.index(measure) - (12 if budget == "default" else 0)
    return round(value * scale, 3)


def _table(name: str, scale: float, measures: tuple[str, ...]) -> Json:
    title, factor, rows, xs = TABLES[name]
    budgets = ["long"] if name in ("data", "learning rate") else ["long", "default"]
    readings = ["A", "B"] if name == "7" else [""]
    return {
        **{"table": name, "title": title, "factor": factor, "budgets": budgets},
        **{"split": "val" if name == "learning rate" else "test", "readings": readings},
        "curve": xs[0] is not None,
        "rows": [
            {
                **{"row": row, "budget": budget, "reading": reading, "x": x},
                "planned": 10,
                "pairs": 0 if (empty := (name, row) == ("controls", "no video")) else 10,
                "scores": {m: _score(at, m, budget, scale, empty) for m in measures},
            }
            for budget in budgets
            for reading in readings
            for at, (row, x) in enumerate(zip(rows, xs, strict=True))
        ],
    }


def _score(at: int, measure: str, budget: str, scale: float, empty: bool) -> Json:
    if empty:
        return {**dict.fromkeys(("mean", "low", "high", "sd")), "why": NO_RUN}
    value = mean(at, measure, budget, scale)
    ends = {"low": round(value - 3 * scale, 3), "high": round(value + 3 * scale, 3)}
    return {"mean": value, **ends, "sd": round(1.4 * scale, 3)}


def _cell(
    table: str, row: str, run: tuple[str, int], scale: float, measures: tuple[str, ...]
) -> Json:
    base, seed = run
    at = TABLES[table][2].index(row)
    scores = {m: _score(at, m, "long", scale, False) for m in measures}
    return {
        **{"table": table, "row": row, "reading": "", "base": base, "seed": seed},
        **{"budget": "long", "split": "test", "cell": f"{at:08x}{seed:08x}", "num_frames": 8},
        "settings": {"features": "both", "lr": 0.001, "epochs": 3, "data": 1.0, "batch_size": 16},
        **{
            "steps": 750,
            "train_s": 31.25,
            "answer_s": None,
            "run": f"runs/{at}/seed-{seed}",
        },
        **{"asked": 1200, "judged": 1196, "lost": {"truncated": 4} if at else {}},
        "scores": {m: {k: s[k] for k in ("mean", "low", "high")} for m, s in scores.items()},
    }


def _claims(scale: float) -> list[Json]:
    usual = {"paper": True, "kind": "more", "measure": "temporal", "beyond": None, "margin": 5.0}
    made = []
    for says, changes, verdicts in CLAIMS:
        readings = ("A", "B") if changes["table"] == "7" else ("",)
        places = [(budget, reading) for budget in ("long", "default") for reading in readings]
        for at, ((budget, reading), verdict) in enumerate(zip(places, verdicts, strict=True)):
            place = {"budget": budget, "reading": reading, "headline": at == 0}
            numbers = _numbers(verdict, changes["table"] == "7", scale)
            entry = {"says": says, "verdict": verdict, **usual, **changes, **place, **numbers}
            made.append(entry | {"planned": 10, "tested": in_words(entry)})
    return made


def in_words(claim: Json) -> str:
    """What stands beside a claim's own sentence."""
    return f"Tested: {claim['more']} against {claim['less']} in {claim['measure']}."


def _numbers(verdict: str, missing: bool, scale: float) -> Json:
    if missing:
        names = ("p", "n", "difference", "low", "high", "smallest_detectable")
        return {**dict.fromkeys(names), "pairs": [], "why": WHY_NOT}
    middle = {"holds": 9.0, "does not hold": -6.0, "undecided": 0.4}[verdict]
    pairs = [
        {"base": base, "seed": seed, "difference": round((middle + 0.7 * (seed - 2)) * scale, 3)}
        for base in ("mini", "mini-b")
        for seed in range(5)
    ]
    return {
        **({"p_holm": 0.016} if verdict == "holds" else {}),
        **{"p": 0.002 if verdict != "undecided" else 0.4121, "n": 10, "pairs": pairs},
        "difference": round(middle * scale, 3),
        "low": round((middle - 1.6) * scale, 3),
        "high": round((middle + 1.6) * scale, 3),
        "smallest_detectable": round(2.25 * scale, 3),
        "why": f"All ten pairs lie near {middle:g}. {EVIL}" if verdict != "holds" else "All agree.",
    }
