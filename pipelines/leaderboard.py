"""`reeval` and `report`: many runs side by side, with paired differences to a chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from eval.folders import JUDGES, SUMMARY, read_meta
from eval.generate import GenerateConfig
from eval.report.build import NamedRun, Part, build_report, terminal_table
from eval.scores import MIN_COVERAGE
from eval.translations import split_name
from features.config import DatasetConfig
from features.errors import ConfigError
from features.recipes import did_you_mean
from features.store import FeatureStore
from pipelines.eval_jobs import (
    Job,
    benchmark_parts,
    find_checkpoints,
    name_rows,
    open_stores,
    pick_splits,
)
from pipelines.evaluation import Executor, Judging, evaluate_jobs, say_failed
from pipelines.selection import Selection

UNTUNED = "untuned"
"""The row that is the baseline where it is there and nobody names another."""


@dataclass(frozen=True)
class ReevalConfig:
    """Which checkpoints are evaluated on what; base, frames and prompt are their own."""

    checkpoints: str | None = None
    """Run folders, exports, or globs of them (quoted), separated by blanks; all runs on the dataset
    unless given."""
    benchmarks: str | None = None
    """Separated by blanks: vcgbench, msvd-qa, msrvtt-qa, tgif-frameqa, activitynet-qa, demo, any
    dataset recipe or YAML file; `name:split` is one split (`msvd-qa:val`), `name:split.zh-en` its
    translated answers that are there. The dataset unless given."""
    baseline: str | None = None
    """Row that all others are compared with; `untuned` where there is one."""
    executor: Executor = "auto"
    """auto: Ray where RAY_ADDRESS is set or workers are asked for."""
    workers: int | None = None
    """Ray: how many answer at once; one for every GPU (or CPU) unless given."""
    out: Path | None = None
    """Folder of the leaderboard; <runs>/reeval unless given."""
    single_file: bool = False
    """The report as one HTML file (up to 5,000 rows)."""


@dataclass(frozen=True)
class ReportConfig:
    """Which evaluations are compared; nothing is computed but statistics."""

    checkpoints: str | None = None
    """Run folders, exports, or globs of them (quoted), separated by blanks; all runs on the dataset
    unless given."""
    baseline: str | None = None
    """Row that all others are compared with; `untuned` where there is one."""
    out: Path | None = None
    """Folder of the report; <runs>/<dataset> unless given."""
    min_coverage: float = MIN_COVERAGE
    """Share of the questions that must have been judged for an accuracy."""
    single_file: bool = False
    """The report as one HTML file (up to 5,000 rows)."""


def reeval(
    where: Selection,
    config: ReevalConfig,
    judging: Judging,
    answers: GenerateConfig,
    console: Console,
) -> int:
    """Checkpoints x benchmarks x judges; 2 when an item failed or has no headline.

    Raises:
        ConfigError: a checkpoint, benchmark, judge or the baseline does not exist.
    """
    runs = find_checkpoints(config.checkpoints or _all_runs(where))
    rows = name_rows(runs)
    compare = _comparisons(rows, config.baseline)
    if config.benchmarks is not None:
        parts = benchmark_parts(config.benchmarks)
    else:
        own = where.load_dataset()
        parts = [(own, split) for split in pick_splits(own, "")]
    out = config.out or where.runs / "reeval"
    jobs = [
        Job(run, dataset, split, where.features, store=where.store)
        for run in runs
        for dataset, split in parts
    ]
    console.print(f"{len(runs)} checkpoints x {len(parts)} splits x {len(judging.judge.split())}")
    done, failed = evaluate_jobs(jobs, answers, judging, console, config.executor, config.workers)
    if judging.estimate:
        return 2 if failed else 0
    if done:
        report = build_report(
            [NamedRun(name, tuple(found)) for name, found in rows.items()],
            [Part(dataset.name, split) for dataset, split in parts],
            out,
            judges=sorted({summary.judge.slug for summary in done}),
            stores=open_stores(jobs),
            compare=compare,
            title="Leaderboard",
            min_coverage=judging.min_coverage,
            single_file=config.single_file,
        )
        _show(report, _page_of(out, config.single_file), console)
    for line in failed:
        say_failed(console, line)
    console.print(f"{len(done)} evaluations, {len(failed)} failed")
    return 2 if failed or any(summary.refused for summary in done) else 0


def report(where: Selection, config: ReportConfig, console: Console) -> None:
    """Write a report of everything that was judged about these runs.

    Raises:
        ConfigError: nothing was.
    """
    named = config.checkpoints or _all_runs(where)
    evaluated = {run: _evaluated(run) for run in find_checkpoints(named)}
    runs = [run for run, found in evaluated.items() if found]
    if not runs:
        do = "run `make eval` first"
        raise ConfigError("nothing evaluated there", where=named, do=do)
    out = config.out or where.runs / where.load_dataset().name
    rows = name_rows(runs)
    parts = sorted({part for found in evaluated.values() for part in found})
    made = build_report(
        [NamedRun(name, tuple(found)) for name, found in rows.items()],
        [Part(*part) for part in parts],
        out,
        stores=_stores(runs, parts, where),
        compare=_comparisons(rows, config.baseline),
        title="Which runs answer better?",
        min_coverage=config.min_coverage,
        single_file=config.single_file,
    )
    _show(made, _page_of(out, config.single_file), console)


def _show(report: Mapping[str, Any], page: Path, console: Console) -> None:
    console.print(terminal_table(report))
    for warning in report["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    console.print(f"report: {page}")


def _page_of(out: Path, single_file: bool) -> Path:
    """Where a report's page lies."""
    return out / "report.html" if single_file else out / "report" / "index.html"


def _comparisons(rows: Mapping[str, Sequence[Path]], baseline: str | None) -> list[tuple[str, str]]:
    if baseline is None and UNTUNED in rows:
        baseline = UNTUNED
    if baseline is None:
        return []
    if baseline not in rows:
        do = did_you_mean(baseline, rows)
        raise ConfigError("no such row to compare with", got=baseline, do=do)
    return [(name, baseline) for name in rows if name != baseline]


def _evaluated(run: Path) -> list[tuple[str, str]]:
    """(dataset, split) of everything that was judged of a run."""
    folders = {found.parents[2] for found in run.glob(f"eval/*/*/{JUDGES}/*/{SUMMARY}")}
    metas = [read_meta(folder) for folder in sorted(folders)]
    return [(meta["dataset"], split_name(meta)) for meta in metas]


def _all_runs(where: Selection) -> str:
    return f"{where.runs / where.load_dataset().name}/*/seed-*"


def _stores(
    runs: Sequence[Path], parts: Sequence[tuple[str, str]], where: Selection
) -> dict[str, FeatureStore]:
    datasets = {name: DatasetConfig(name, Path()) for name, _ in parts}
    return open_stores(
        Job(run, datasets[name], split, where.features, store=where.store)
        for run in runs
        for name, split in parts
    )
