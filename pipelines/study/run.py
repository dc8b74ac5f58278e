"""One study from its recipe to its page; whatever is there already is not done again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from eval.report.study import view
from eval.report.study.comparison import write_comparison_page
from eval.report.study.page import write_study_page
from eval.translations import annotation_translations, translations_label
from features.config import DatasetConfig
from features.durable import only_one
from features.errors import RedVillmError
from features.recipes import read_recipe, recipe_path
from features.store import FeatureStore
from pipelines.evaluation import Judging
from pipelines.study.cells import QUICK, Use
from pipelines.study.freeze import base_facts
from pipelines.study.outcome import outcome, write_results
from pipelines.study.setup import ExperimentsConfig, Study
from pipelines.study.work import Task, do_tasks

RESULTS = "results.json"
COMPARED = {"shared alignment module": "shared", "RED-VILLM": "copy"}
"""The rows of Table 4 that Figure 3 shows side by side (with LLaVA the first is Video-ChatGPT)."""


def experiments(options: ExperimentsConfig, judging: Judging, console: Console) -> int:
    """Run what is missing of a study and write its outcome; 2 when a cell failed.

    The outcome is of all tables, whichever are run now.

    Raises:
        ConfigError: the recipe is wrong, or something frozen has changed.
        RedVillmError: another process runs the same study.
    """
    study = Study(options, judging, console)
    if options.freeze:
        study.freeze()
        return 0
    with only_one(study.out, "runs this study"):
        return _run(study, console)


def _run(study: Study, console: Console) -> int:
    options, lock = study.options, study.render()
    cells = study.cells()
    tasks = study.tasks(cells)
    wanted = {t.fingerprint: t for use, t in tasks.items() if use.table in study.tables}
    others = {t.fingerprint: t for t in tasks.values() if t.fingerprint not in wanted}
    there = [task for task in others.values() if task.is_done()]
    left_out = {t.table for t in study.recipe.tables} - {use.table for use in cells}
    for table in sorted(left_out):
        console.print(f"[yellow]table {table} is left out: there is no split to choose on[/]")
    done, failed = do_tasks(
        [*wanted.values(), *there],
        study.judge,
        study.again,
        console,
        options.executor,
        options.workers,
    )
    named = {task.fingerprint: use for use, task in reversed(tasks.items())}
    failed = {name: f"{named[name].label}: {error}" for name, error in failed.items()}
    uses = {use: done[t.fingerprint] for use, t in tasks.items() if t.fingerprint in done}
    record = outcome(
        study.recipe,
        uses,
        _facts(study, lock),
        _whys(study),
        budgets=frozenset(study.budgets),
        planned=cells.keys(),
        failed=failed,
    )
    write_results(study.out / RESULTS, record)
    page = write_study_page(record, study.out)
    console.print(_verdicts(record))
    console.print(f"results: {study.out / RESULTS}; page: {page}")
    _compare(study, tasks, console)
    if failed:
        console.print(f"[red]{len(failed)} cells failed[/]: run the same command again")
    return 2 if failed else 0


def _compare(study: Study, tasks: Mapping[Use, Task], console: Console) -> None:
    """Figure 3: the baseline and RED-VILLM on drawn questions, if both were run."""
    base, budget = next(iter(study.bases)), next(iter(study.budgets or QUICK))
    wanted = {name: Use("4", row, base, 0, budget) for name, row in COMPARED.items()}
    pair = [(name, tasks[use]) for name, use in wanted.items() if use in tasks]
    if len(pair) < len(COMPARED) or not all(task.is_done() for _, task in pair):
        return
    parts, out = pair[0][1].parts, study.out / "comparison.html"
    at = next((n for n, p in enumerate(parts) if "qa" in p.dataset.splits[p.split].aspects), 0)
    part, answers = parts[at], [(name, task.folders()[at]) for name, task in pair]
    store, videos = FeatureStore.open(part.store), part.dataset.videos
    try:
        write_comparison_page(answers, study.judge.record.slug, store, videos, out)
    except RedVillmError as reason:  # five aspects, or no temporal questions: no such page
        console.print(f"no page side by side: {reason}", markup=False)
    else:
        console.print(f"side by side: {out}")


def _facts(study: Study, lock: dict[str, Any] | None) -> dict[str, Any]:
    split = "val" if study.options.quick else "test"
    weights = base_facts(study.bases)
    return {
        "study": study.recipe.name,
        "quick": study.options.quick,
        "split": split,
        "base": study.family,
        "bases": [{"name": name, "digest": digest} for name, digest in weights.items()],
        "dataset": study.dataset.name,
        "experiment": study.options.experiment,
        "benchmarks": [benchmark_facts(*part) for part in study.parts[split]],
        "judge": study.judge.record.label,
        "frozen": lock,
        "root": str(study.out),
    }


def benchmark_facts(dataset: DatasetConfig, split: str) -> dict[str, str]:
    """What was asked, with what was translated of it, if anything was."""
    meta = {"translations": annotation_translations(dataset.splits[split])}
    translated = {"translations": told} if (told := translations_label([meta])) else {}
    return {"dataset": dataset.name, "split": split, **translated}


def _whys(study: Study) -> dict[str, Any]:
    """What somebody who looked into it wrote about each claim's verdict, of the study itself."""
    path = recipe_path("studies", study.options.study)
    path = path.parent / "why" / path.name
    ours = study.is_as_frozen and study.options.seeds is None
    return read_recipe(path) if ours and path.is_file() else {}


def _verdicts(record: Mapping[str, Any]) -> Table:
    table = Table("table", Column("claim", overflow="fold"), "verdict", "difference", "p", "n")
    for claim in record["claims"]:
        if claim["headline"]:
            numbers = view.Numbers(record["kind"] == "five").difference(claim), view.p_value(claim)
            names = claim["table"], claim["claim"], claim["verdict"]
            table.add_row(*names, *numbers, view.count(claim))
    return table
