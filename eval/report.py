"""The page that is read: several runs side by side, with what their numbers rest on.

`report.json` holds the numbers, `report.html` shows them in one file that makes no request to
anywhere. Nothing a model, an annotation or a file name says is trusted: the template escapes all of
it, and the page's own policy allows no script at all.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from eval.metrics import Question, paired_difference, score_by_type, withhold
from eval.run import MIN_COVERAGE, EvalFolder, read_eval
from features.durable import replace_file
from features.errors import RedVillmError
from features.spec import SCHEMA_VERSION
from features.store import FeatureStore

NUM_SAMPLES = 30
DASH = "\N{EN DASH}"
"""Stands where there is no number."""


@dataclass(frozen=True)
class NamedRun:
    """One row of the report."""

    name: str
    folders: tuple[Path, ...]
    """The evaluation folder of each seed."""


@dataclass(frozen=True)
class _Row:
    name: str
    seeds: tuple[EvalFolder, ...]


def build_report(
    runs: Sequence[NamedRun],
    out: Path,
    *,
    seconds: Mapping[str, float],
    fingerprints: Mapping[str, str],
    store: FeatureStore | None = None,
    compare: Sequence[tuple[str, str]] = (),
    type_names: Sequence[str] = (),
    title: str = "How often is the answer right?",
    min_coverage: float = MIN_COVERAGE,
) -> dict[str, Any]:
    """Write report.json and report.html into `out`, and return what report.json holds.

    Args:
        runs: the rows, in the order in which they are shown.
        out: folder of the report.
        seconds: wall clock by stage.
        fingerprints: of whatever the rows share.
        store: where the frame strips come from; without it there are none.
        compare: pairs of row names (a, b) whose paired difference a - b is reported.
        type_names: names of numeric question types, by number (`annotations.TYPE_NAMES`).
        title: the question that the report answers.
        min_coverage: share of a row's questions that must have been judged for its accuracy.

    Raises:
        RedVillmError: an evaluation is unfinished, or the runs did not answer the same questions
            under the same judge.
    """
    rows = [_Row(run.name, tuple(read_eval(folder) for folder in run.folders)) for run in runs]
    _require_comparable(rows)
    named = dict(enumerate(type_names))
    questions = [
        Question(
            q.sample_id,
            q.video_id,
            named.get(int(q.type), q.type) if q.type.isdecimal() else q.type,
        )
        for q in rows[0].seeds[0].questions
    ]
    report = {
        "schema": SCHEMA_VERSION,
        "title": title,
        "split": rows[0].seeds[0].meta["split"],
        "judge": rows[0].seeds[0].verdicts[0].judge,
        "rows": [_scores(row, questions, min_coverage) for row in rows],
        "differences": _differences(rows, questions, compare),
        "fingerprints": _fingerprints(rows) | dict(fingerprints),
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    replace_file(out / "report.json", text.encode(), "report")
    page = render_page(report, _samples(rows, questions, store))
    replace_file(out / "report.html", page.encode(), "report")
    return report


def terminal_table(report: Mapping[str, Any]) -> Table:
    """The report's accuracies with their 95 % intervals, for the terminal."""
    title = f"accuracy in % on {report['split']} [95 % interval], judge {report['judge']}"
    table = Table(title=title, box=SIMPLE_HEAD)
    types = shown_types(report)
    table.add_column("run")
    table.add_column("seeds", justify="right")
    for kind in types:
        table.add_column(escape(kind), justify="right")
    for row in report["rows"]:
        scores = row["types"] | {"all": row["all"]}
        table.add_row(
            escape(row["name"]), str(row["seeds"]), *(_cell(scores[kind]) for kind in types)
        )
    return table


def shown_types(report: Mapping[str, Any]) -> list[str]:
    """The report's columns: each type, and all when that says something more."""
    types = list(report["rows"][0]["types"])
    return types if len(types) == 1 else [*types, "all"]


def render_page(report: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> str:
    """The HTML page, every value escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: DASH if value is None else f"{value:.1f}"
    template = environment.get_template("report.html.j2")
    return template.render(report=report, samples=samples, types=shown_types(report))


def _require_comparable(rows: Sequence[_Row]) -> None:
    """All rows must have answered the same questions, and one judge must have judged them."""
    names = [row.name for row in rows]
    if not rows or not all(row.seeds for row in rows) or len(set(names)) != len(names):
        raise RedVillmError("a report needs runs with distinct names and a seed each", got=names)
    folders = [folder for row in rows for folder in row.seeds]
    first = folders[0]
    for folder in folders[1:]:
        for key in ("annotations", "split"):
            if folder.meta[key] != first.meta[key]:
                raise RedVillmError(
                    f"runs with different {key} cannot stand in one report",
                    got=f"{folder.path}: {folder.meta[key]}",
                    wanted=f"{first.path}: {first.meta[key]}",
                )
    judges = sorted({verdict.judge for folder in folders for verdict in folder.verdicts})
    if len(judges) != 1:
        do = "judge all runs with one judge"
        raise RedVillmError("scores of different judges cannot be compared", got=judges, do=do)


def _scores(row: _Row, questions: Sequence[Question], min_coverage: float) -> dict[str, Any]:
    verdicts = [folder.verdicts for folder in row.seeds]
    scores, refused = withhold(score_by_type(questions, verdicts), min_coverage)
    rounded = {
        name: {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(score).items()}
        for name, score in scores.items()
    }
    total = rounded.pop("all")
    types = rounded or {"all": total}
    return {
        "name": row.name,
        "seeds": len(row.seeds),
        "types": types,
        "all": total,
        "refused": refused,
    }


def _differences(
    rows: Sequence[_Row], questions: Sequence[Question], compare: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    verdicts = {row.name: [folder.verdicts for folder in row.seeds] for row in rows}
    types: list[str | None] = [*sorted({q.type for q in questions} - {""})]
    found = []
    for a, b in compare:
        for kind in types or [None]:
            difference = paired_difference(questions, verdicts[a], verdicts[b], kind)
            found.append({"a": a, "b": b, "type": kind or "all", **asdict(difference)})
    return found


def _fingerprints(rows: Sequence[_Row]) -> dict[str, str]:
    """What the answers depend on, from the predictions' own records."""
    found: dict[str, str] = {}
    for row in rows:
        for number, folder in enumerate(row.seeds, start=1):
            seed = f" (seed {number})" if len(row.seeds) > 1 else ""
            found[f"checkpoint of {row.name}{seed}"] = str(folder.meta["checkpoint"])
            for key in ("base", "spec", "features", "annotations"):
                value = str(folder.meta[key])
                shared = found.setdefault(key, value) == value
                if not shared:  # for example runs with different numbers of frames
                    found[f"{key} of {row.name}{seed}"] = value
    return found


def _samples(
    rows: Sequence[_Row], questions: Sequence[Question], store: FeatureStore | None
) -> list[dict[str, Any]]:
    """A seeded draw of questions with the answers of all rows: the first seed's words."""
    order = {question.sample_id: number for number, question in enumerate(questions)}
    drawn = random.Random(0).sample(sorted(order), min(NUM_SAMPLES, len(order)))
    predictions = [{p["sample_id"]: p for p in row.seeds[0].predictions} for row in rows]
    correct = [
        [{v.sample_id: v.correct for v in folder.verdicts} for folder in row.seeds] for row in rows
    ]
    return [
        {
            **{k: predictions[0][name][k] for k in ("sample_id", "video_id", "question", "answer")},
            "type": questions[order[name]].type,
            "frames": _frames(store, predictions[0][name]["video_id"]),
            "answers": [
                {
                    "run": row.name,
                    "pred": predictions[at][name]["pred"],
                    "lost": predictions[at][name]["lost"],
                    "correct": correct[at][0][name],
                    "right_seeds": sum(bool(seed[name]) for seed in correct[at]),
                    "seeds": len(row.seeds),
                }
                for at, row in enumerate(rows)
            ],
        }
        for name in sorted(drawn, key=order.__getitem__)
    ]


def _frames(store: FeatureStore | None, video_id: str) -> list[str]:
    """A video's frames as data URIs; none when the store keeps none."""
    if store is None or video_id not in store:
        return []
    return [
        "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
        for jpeg in store.thumbs(video_id)
    ]


def _cell(score: Mapping[str, Any]) -> str:
    if score["accuracy"] is None:
        return f"{DASH} ({score['judged']} of {score['asked']} judged)"
    if score["low"] is None:
        return f"{score['accuracy']:.1f}"
    return f"{score['accuracy']:.1f} [{score['low']:.1f}..{score['high']:.1f}]"
