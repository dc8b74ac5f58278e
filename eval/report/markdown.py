"""report.md: the tables to read, to mail and to put into a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from eval.report.cells import (
    DASH,
    accuracy,
    interval,
    mean_score,
    number,
    seeds,
    table_types,
    translated,
    withheld_types,
)
from eval.report.published import ASPECTS, DATASETS, GENERATIVE

_INTERVALS = (
    "In square brackets the 95 % interval: a cluster bootstrap that draws whole videos, over the "
    "mean of a run's seeds. It covers the choice of videos, not the choice of seeds."
)
_SPECIAL = re.compile(r"([\\`*_~|]|\[(?![-+\u2212\d])|(?<=\])[(:\[])")
"""What could be markup in a line; an interval's brackets are none as no link follows them."""


def report_markdown(report: Mapping[str, Any]) -> str:
    """The text."""
    blocks = [f"# {plain(report['title'])}", _INTERVALS]
    if report["warnings"]:
        blocks += ["## Warnings", markdown_list(report["warnings"])]
    for dataset in dict.fromkeys(table["dataset"] for table in report["tables"]):
        blocks.append(f"## {plain(dataset)}")
        for table in report["tables"]:
            if table["dataset"] == dataset:
                blocks += _scores(table)
        for five in report["five"]:
            if five["dataset"] == dataset:
                blocks += _five(five)
        blocks += _published(report, dataset)
    for section in (_differences, _coverage, _agreement, _cost, _fingerprints):
        blocks += section(report)
    return "\n\n".join(blocks) + "\n"


def plain(text: object) -> str:
    """Any text as text in one line: neither markup nor the end of a cell."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]], words: int = 1) -> str:
    """A table whose first so many columns are words and whose others are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    lines = [map(plain, head), rule, *(map(plain, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_list(lines: Iterable[str]) -> str:
    """Each line as an item."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def _where(row: Mapping[str, Any]) -> str:
    aspect = "" if row["aspect"] == "qa" else f", {row['aspect']}"
    return f"{row['dataset']}, {row['split']}{aspect}"


def _scores(table: Mapping[str, Any]) -> Iterator[str]:
    judge, types = table["judge"], table_types(table)
    yield f"### {plain(_where(table) + translated(table))}"
    lines = [f"Run {row['name']}: {row['refused']}." for row in table["rows"] if row["refused"]]
    for row in table["rows"]:
        if kinds := withheld_types(row):
            lines.append(f"Run {row['name']}: no numbers for {', '.join(kinds)}.")
    if lines:
        yield markdown_list(lines)
    head, cells = [], []
    if table["aspect"] == "qa":
        head += [f"{kind} %, {judge}" for kind in types]
        cells += [(kind, accuracy) for kind in types]
        head.append(f"score, {judge}")
        cells.append(("all", mean_score))
    else:
        head += [f"{kind}, score, {judge}" for kind in types]
        cells += [(kind, mean_score) for kind in types]
    of_types = table["aspect"] == "qa" and len(types) > 2  # at least two, and all
    head += [f"mean of types %, {judge}"] if of_types else []
    rows = []
    for row in table["rows"]:
        scores = {**row["types"], "all": row["all"]}
        found = [show(scores[kind]) for kind, show in cells]
        found += [number(row["macro"], 1)] if of_types else []
        words = [number(row["all"]["exact"], 1), number(row["all"]["f1"], 1)]
        rows.append([row["name"], seeds(row), *found, *words])
    yield markdown_table(
        ["run", "seeds", *head, "exact match %, no judge", "token F1 %, no judge"], rows
    )


def _five(five: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {plain(five['dataset'] + ', the five aspects' + translated(five))}"
    missing = [
        f"Run {row['name']}: not judged for: {', '.join(row['missing'])}."
        for row in five["rows"]
        if row["missing"]
    ]
    if missing:
        yield markdown_list(missing)
    judge, aspects = five["judge"], list(ASPECTS)
    head = [f"{name}, {judge}" for name in (*aspects, "mean of aspects", "mean over questions")]
    rows = []
    for row in five["rows"]:
        means = [
            interval(mean["mean"], mean["low"], mean["high"], 2)
            for mean in (row["mean_of_aspects"], row["question_weighted"])
        ]
        scores = [row["aspects"].get(name) for name in aspects]
        shown = [mean_score(score) if score else DASH for score in scores]
        rows.append([row["name"], seeds(row), *shown, *means])
    yield markdown_table(["run", "seeds", *head], rows)


def _published(report: Mapping[str, Any], dataset: str) -> Iterator[str]:
    """The paper's rows for this dataset, if it has any."""
    found = report["published"]
    if dataset in DATASETS:
        head = [f"{what}, {found['judge']}" for what in ("accuracy %", "score")]
        rows = [
            [
                row["method"],
                row["llm"],
                *(number(row[dataset][k], 1) for k in ("accuracy", "score")),
            ]
            for row in found["table2"]
        ]
    elif dataset in GENERATIVE:
        head = [f"{name}, {found['judge']}" for name in ASPECTS.values()]
        rows = [
            [row["method"], row["llm"], *(number(row[name], 2) for name in ASPECTS)]
            for row in found["table1"]
        ]
    else:
        return
    mine, other = ("Table 2", "Table 1") if dataset in DATASETS else ("Table 1", "Table 2")
    yield f"### {plain(dataset)} in the paper's {mine}, as printed"
    yield markdown_table(["method", "LLM", *head], rows, words=2)
    notes = [note for note in found["notes"] if not note.startswith(f"{other}:")]
    yield markdown_list(notes)


def _differences(report: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [
            f"{d['a']} \N{MINUS SIGN} {d['b']}",
            _where(table),
            d["type"],
            table["judge"],
            interval(d["points"], d["low"], d["high"], 1),
            interval(d["score"], d["score_low"], d["score_high"], 2),
            d["questions"],
        ]
        for table in report["tables"]
        for d in table["differences"]
    ]
    if rows:
        yield "## Differences"
        yield (
            "The first run minus the second, paired question by question. An interval that holds 0 "
            "means: these videos cannot tell the two apart."
        )
        head = ["runs", "on", "type", "judge", "points of accuracy", "score", "questions"]
        yield markdown_table(head, rows, words=4)
    rows = [
        [
            f"{d['a']} \N{MINUS SIGN} {d['b']}",
            five["dataset"],
            five["judge"],
            interval(mean["mean"], mean["low"], mean["high"], 2),
        ]
        for five in report["five"]
        for d in five["differences"]
        for mean in [d["mean_of_aspects"]]
    ]
    if rows:
        yield "### Of the mean of the five aspects"
        yield markdown_table(["runs", "on", "judge", "mean of aspects"], rows, words=3)


def _coverage(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Coverage"
    yield "A question that was lost or not judged is counted here and has no score."
    head = ["run", "on", "judge", "lost as", "not judged as", "asked", "judged", "lost"]
    rows = [
        [
            row["name"],
            _where(table),
            table["judge"],
            _counts(row["lost"]),
            _counts(row["all"]["failures"]),
            *(row["all"][key] for key in ("asked", "judged", "lost", "contradictions")),
        ]
        for table in report["tables"]
        for row in table["rows"]
    ]
    yield markdown_table([*head, "contradictions"], rows, words=5)


def _agreement(report: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        [
            one["run"],
            _where(one),
            one["a"],
            one["b"],
            one["questions"],
            number(one["same"], 1),
            number(one["kappa"], 3),
            number(one["spearman"], 3),
            number(one["score_gap"], 3),
        ]
        for one in report["agreement"]
    ]
    if rows:
        yield "## Agreement of judges"
        head = ["run", "on", "first judge", "second judge", "judged by both", "same verdict %"]
        yield markdown_table(
            [*head, "kappa", "Spearman", "score, first minus second"], rows, words=4
        )


def _cost(report: Mapping[str, Any]) -> Iterator[str]:
    rows: list[list[object]] = []
    before: list[object] = []
    for one in report["cost"]:
        who = [one["run"], f"{one['dataset']}, {one['split']}"]
        answering = [number(one["generate_s"], 1), one["new_tokens"], one["truncated"]]
        again = before == [*who, *answering]  # by another judge
        judging = [one["judge_prompt_tokens"], one["judge_completion_tokens"]]
        rows.append([*who, one["judge"], *([""] * 3 if again else answering), *judging])
        before = [*who, *answering]
    head = ["run", "on", "judge", "answering, s", "new tokens", "cut off"]
    yield "## Cost"
    yield markdown_table([*head, "judge's prompt tokens", "judge's reply tokens"], rows, words=3)
    stages = [[stage, number(value, 1)] for stage, value in report["seconds"].items()]
    if stages:
        yield markdown_table(["stage", "wall clock, s"], stages)


def _fingerprints(report: Mapping[str, Any]) -> Iterator[str]:
    yield "## Fingerprints"
    yield (
        "What answers and verdicts depend on, as far as it was recorded. A line that names no run "
        "holds for all runs but published answers, which have their file's digest alone. Reports "
        "with the same lines are about answers to the same questions, made with the same settings "
        "and judged by the same judges."
    )
    rows = list(report["fingerprints"].items())
    yield markdown_table(["of", "fingerprint or settings"], rows, words=2)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in counts.items()) or DASH
