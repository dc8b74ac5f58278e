"""Evaluation folders written by hand, for tests of what is made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.folders import eval_folder
from eval.judges.base import JudgeRecord, Verdict, write_verdicts
from eval.report.build import NamedRun, Part, build_report
from features.config import Aspect
from features.spec import SCHEMA_VERSION

OFFLINE = JudgeRecord("offline", "offline-em-f1-2")
MODEL = JudgeRecord("endpoint", "some-model-2026", endpoint="localhost", rubric="ab" * 32)
TEST = Part("demo", "test")

Judge = Callable[[int, dict[str, Any], Aspect], Verdict]
"""From the number of a row, the row and an aspect to what is said of it."""


def answer_rows(
    preds: Iterable[str | None],
    types: Sequence[str] = ("spatial", "temporal"),
    prefix: str = "q",
    pairs: bool = False,
) -> list[dict[str, Any]]:
    """Rows about videos of two questions each, types in turn; None is a lost question."""
    return [
        {
            "sample_id": f"{prefix}{number:03d}",
            "video_id": f"v{number // 2}",
            "type": types[number % len(types)],
            "question": f"what is it {number}",
            "question2": f"tell me {number}" if pairs else None,
            "answer": "red",
            "pred": pred,
            "pred2": pred if pairs else None,
            "lost": "truncated" if pred is None else None,
            "finish_reason": None if pred is None else "stop" if number else "length",
            "finish_reason2": "stop" if pairs and pred is not None else None,
            "num_tokens": None if pred is None else 3,
            "num_tokens2": 4 if pairs and pred is not None else None,
        }
        for number, pred in enumerate(preds)
    ]


def exactly(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
    """Right (and 5) are the reference's words, wrong (and 0) all others."""
    right = row["pred"] == row["answer"]
    return Verdict(row["sample_id"], aspect, "ok", right, 5.0 if right else 0.0)


def save_judged(
    run: Path,
    rows: list[dict[str, Any]],
    *,
    part: Part = TEST,
    judges: Sequence[tuple[JudgeRecord, Judge]] = ((OFFLINE, exactly),),
    aspects: Sequence[Aspect] = ("qa",),
    **meta: Any,
) -> Path:
    """The run's answers to a part and what each judge said of them; returns the run."""
    folder = eval_folder(run, part.dataset, part.split)
    folder.mkdir(parents=True)
    facts = {"schema": SCHEMA_VERSION, "dataset": part.dataset, "split": part.split}
    facts |= {"annotations": "a1", "base": "b", "spec": "s", "features": "f", "seconds": 2.5}
    facts |= {"checkpoint": f"c-{run.name}", "aspects": list(aspects), "type_names": []}
    (folder / "predictions.meta.json").write_text(json.dumps(facts | meta))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions.jsonl").write_text(text)
    for record, judge in judges:
        judged = folder / "judges" / record.slug
        judged.mkdir(parents=True)
        (judged / "judge.json").write_text(json.dumps(asdict(record)))
        verdicts = [
            Verdict(row["sample_id"], aspect, "lost", reason=row["lost"])
            if row["lost"]
            else judge(number, row, aspect)
            for number, row in enumerate(rows)
            for aspect in aspects
        ]
        write_verdicts(judged / "verdicts.jsonl", verdicts)
        digest = hashlib.sha256(text.encode()).hexdigest()
        (judged / "summary.json").write_text(json.dumps({"predictions": digest}))
    return run


def build(runs: Sequence[NamedRun], out: Path, *parts: Part, **options: Any) -> dict[str, Any]:
    options = {"title": "Who is right?", "min_coverage": 0.99} | options
    return build_report(runs, parts or [TEST], out, **options)


def one(name: str, run: Path) -> NamedRun:
    return NamedRun(name, (run,))


def scored(scores: Sequence[float]) -> Any:
    """A judge that knows no right and wrong."""

    def judge(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", None, float(scores[number]))

    return judge


def cells(markdown: str, heading: str) -> list[list[str]]:
    """The first table below a heading: its rows, without the rule."""
    below = markdown.split(f"\n{heading}\n")[1]
    lines = [line for line in below.split("\n\n## ")[0].splitlines() if line.startswith("| ")]
    whole = lines[: next((i for i, x in enumerate(lines[2:], 2) if x.startswith("| ---")), 99)]
    return [[cell.strip() for cell in row[1:-1].split(" | ")] for row in whole if "---" not in row]
