"""The stages behind the command line: options in, one stage's work, a line about what came out.

Each function imports its stage when it is called, so that `extract` loads no language model and
`report` no decoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from features.errors import StoreError
from features.places import StorePath, place
from pipelines.selection import Selection, annotated_ids

console = Console(soft_wrap=True)


def say(text: str) -> None:
    """A line that may hold what others wrote: brackets in it are no markup."""
    console.print(text, highlight=False, markup=False)


@dataclass(frozen=True)
class Stage:
    """A stage: the dataclasses its options fill, and what it does with them."""

    configs: Callable[[], tuple[type[Any], ...]]
    run: Callable[..., int | None]
    positionals: tuple[str, ...] = ()
    """Fields of the first dataclass that are given by position; a list takes all that is left."""
    left_out: tuple[str, ...] = ()
    """Fields that are no options here."""


@dataclass(frozen=True)
class Choice:
    """Which runs a stage works on."""

    checkpoint: str | None = None
    """Run folder, or a glob of them (quoted), instead of what follows."""
    experiment: str = "red-villm"
    """The experiment whose run on this dataset is meant; a glob (quoted) for several."""
    seed: str = "0"
    """Its seed; a glob (quoted) for several."""


@dataclass(frozen=True)
class OnlyPlan:
    """Whether to do it at all."""

    dry_run: bool = False
    """Print the plan and how long it will take by a measured sample; write nothing."""


def find_store(where: Selection) -> StorePath:
    """The store made for this base and dataset.

    Raises:
        StoreError: there is none, or more than one fits; says what to do.
    """
    from features.durable import disk_errors
    from features.store import read_spec
    from features.tower_files import base_eyes

    if where.store is not None:
        return place(where.store)
    base, dataset = where.load_base(), where.load_dataset()
    root = place(where.features) / dataset.name
    num_frames = where.num_frames or base.num_frames
    with disk_errors("cannot look for stores", root):
        found = sorted(path.parent for path in root.glob(f"{base.name}-t{num_frames}-*/spec.json"))
    specs = {path: read_spec(path) for path in found}
    eyes = base_eyes(base) if found else {}
    fitting = [p for p, spec in specs.items() if eyes.items() <= vars(spec).items()]
    if len(fitting) == 1:
        return fitting[0]
    source = f"VIDEOS={where.videos}" if where.videos else f"DATASET={where.dataset}"
    more = f" ARGS='--num_frames {where.num_frames}'" if where.num_frames else ""
    raise StoreError(
        "several stores fit" if fitting else "no features for this base and dataset",
        where=root,
        got=", ".join(path.name for path in fitting) or "no store",
        wanted=f"one of base {base.name} with T = {num_frames}",
        do="say which with --store"
        if fitting
        else f"make extract {source} BASE={where.base}{more}",
    )


def run_demo(config: Any) -> None:
    """`demo`."""
    from pipelines.demo import demo

    demo(config, console)


def run_extract(where: Selection, how: OnlyPlan, config: Any) -> int:
    """`extract`: 0 also when some videos failed (they are rows with codes), 2 when all did."""
    base, dataset = where.load_base(), where.load_dataset()
    wanted = annotated_ids(dataset, console)
    if how.dry_run:
        from extract.dry_run import dry_run
        from pipelines.dry_run_table import show_dry_run

        show_dry_run(dry_run(config, base, dataset, wanted), console)
        return 0
    from extract.run import extract_all

    summaries = extract_all(config, base, dataset, wanted)
    table = Table(Column("store", overflow="fold"), "wanted", "done now", "ok", "failed", "waiting")
    for s in summaries:
        failed = ", ".join(f"{code} {count}" for code, count in s.failed.items()) or "0"
        facts = (s.planned, s.done, s.ok, failed, s.waiting)
        table.add_row(str(s.store), *map(str, facts))
    console.print(table)
    if summaries[0].run:
        console.print(str(summaries[0].run))
    return 0 if all(s.ok or not s.planned for s in summaries) else 2


def run_data(config: Any) -> int:
    """`data`: 2 when something of a dataset is missing."""
    from pipelines.data_table import show_data

    return 0 if show_data(config, console) else 2


def run_train(where: Selection, config: Any) -> None:
    """`train`, on one dataset or on several (`activitynet+mine`)."""
    from train.checkpoint import METRICS
    from train.distributed import is_rank_zero
    from train.run import train
    from train.sources import TrainingData

    data = [TrainingData(each.load_dataset(), find_store(each)) for each in where.each()]
    run = train(config, where.load_base(), *data)
    if is_rank_zero(config.devices):
        metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
        console.print(f"run: {run} ({metrics['steps']} steps, {metrics['seconds']} s)")


def run_eval(where: Selection, choice: Choice, judging: Any, config: Any) -> int:
    """`eval`: every chosen run; 2 when one failed or has no headline."""
    from pipelines.eval_jobs import Job, find_checkpoints, pick_splits
    from pipelines.evaluation import evaluate_jobs

    dataset = where.load_dataset()
    run = where.runs / dataset.name / choice.experiment / f"seed-{choice.seed}"
    runs = find_checkpoints(choice.checkpoint or str(run))
    # A checkpoint knows its base and features; what the user says of them is compared with that.
    said = (where.base, where.num_frames, where.prompt, where.store)
    own = choice.checkpoint is not None and said == (Selection.base, None, None, None)
    base, store = (None, None) if own else (where.load_base(), str(find_store(where)))
    named = config.split if config.split in dataset.splits or config.split != "test" else ""
    jobs = [
        Job(run, dataset, split, where.features, base, store)
        for run in runs
        for split in pick_splits(dataset, named)
    ]
    done, failed = evaluate_jobs(jobs, config, judging, console)
    return 2 if failed or any(summary.refused for summary in done) else 0


def run_reeval(where: Selection, config: Any, judging: Any, answers: Any) -> int:
    """`reeval`: 2 when an item failed."""
    from pipelines.leaderboard import reeval

    return reeval(where, config, judging, answers, console)


def run_report(where: Selection, config: Any) -> None:
    """`report`."""
    from pipelines.leaderboard import report

    report(where, config, console)


def run_experiments(options: Any, judging: Any) -> int:
    """`experiments`: 2 when a cell failed."""
    from pipelines.study.run import experiments

    return experiments(options, judging, console)


def run_plan(where: Selection, config: Any) -> None:
    """`plan`."""
    from pipelines.plan import plan

    plan(where, config, console)


def run_export(options: Any) -> None:
    """`export`."""
    from train.export import export

    console.print(f"exported: {export(options)}")


def run_import_projector(options: Any) -> None:
    """`import-projector`: what was not used is said by name."""
    from features.describe import load_base
    from train.import_projector import import_projector

    unused = import_projector(options, load_base(options.base))
    for name, reason in unused.items():
        console.print(f"not used: {name} ({reason})", markup=False)
    console.print(f"imported: {options.target}")


def run_inspect(where: Selection) -> None:
    """`inspect`."""
    from pipelines.inspect_base import inspect_base

    console.print(inspect_base(where.load_base()))


def run_mini(config: Any) -> None:
    """`mini`."""
    from pipelines.mini import make_mini

    make_mini(config)


def run_rehearse(config: Any) -> None:
    """`rehearse`."""
    from pipelines.rehearse import rehearse

    rehearse(config, console)


def run_gpu_check(config: Any) -> int:
    """`gpu-check`: 2 when a part is too far from the CPU's float32."""
    from pipelines.gpu_check import gpu_check

    return 0 if gpu_check(config, console) else 2


def _demo_configs() -> tuple[type[Any], ...]:
    from pipelines.demo import DemoConfig

    return (DemoConfig,)


def _extract_configs() -> tuple[type[Any], ...]:
    from extract.options import ExtractConfig

    return Selection, OnlyPlan, ExtractConfig


def _data_configs() -> tuple[type[Any], ...]:
    from pipelines.data_table import DataConfig

    return (DataConfig,)


def _train_configs() -> tuple[type[Any], ...]:
    from train.options import TrainConfig

    return Selection, TrainConfig


def _eval_configs() -> tuple[type[Any], ...]:
    from eval.generate import GenerateConfig
    from pipelines.evaluation import Judging

    return Selection, Choice, Judging, GenerateConfig


def _reeval_configs() -> tuple[type[Any], ...]:
    from eval.generate import GenerateConfig
    from pipelines.evaluation import Judging
    from pipelines.leaderboard import ReevalConfig

    return Selection, ReevalConfig, Judging, GenerateConfig


def _report_configs() -> tuple[type[Any], ...]:
    from pipelines.leaderboard import ReportConfig

    return Selection, ReportConfig


def _experiments_configs() -> tuple[type[Any], ...]:
    from pipelines.evaluation import Judging
    from pipelines.study.setup import ExperimentsConfig

    return ExperimentsConfig, Judging


def _plan_configs() -> tuple[type[Any], ...]:
    from pipelines.plan import PlanConfig

    return Selection, PlanConfig


def _export_configs() -> tuple[type[Any], ...]:
    from train.export import ExportOptions

    return (ExportOptions,)


def _import_projector_configs() -> tuple[type[Any], ...]:
    from train.import_projector import ImportOptions

    return (ImportOptions,)


def _mini_configs() -> tuple[type[Any], ...]:
    from pipelines.mini import MiniConfig

    return (MiniConfig,)


def _rehearse_configs() -> tuple[type[Any], ...]:
    from pipelines.rehearse import RehearseConfig

    return (RehearseConfig,)


def _gpu_check_configs() -> tuple[type[Any], ...]:
    from pipelines.gpu_check import GpuCheckConfig

    return (GpuCheckConfig,)


STAGES = {
    "demo": Stage(_demo_configs, run_demo),
    "data": Stage(_data_configs, run_data),
    "extract": Stage(_extract_configs, run_extract),
    "train": Stage(_train_configs, run_train),
    "eval": Stage(_eval_configs, run_eval),
    "reeval": Stage(_reeval_configs, run_reeval, left_out=("split",)),
    "report": Stage(_report_configs, run_report),
    "experiments": Stage(
        _experiments_configs, run_experiments, left_out=("estimate", "min_coverage")
    ),
    "plan": Stage(_plan_configs, run_plan),
    "export": Stage(_export_configs, run_export, ("run", "target")),
    "import-projector": Stage(_import_projector_configs, run_import_projector, ("file", "target")),
    "inspect": Stage(lambda: (Selection,), run_inspect),
    "mini": Stage(_mini_configs, run_mini),
    "rehearse": Stage(_rehearse_configs, run_rehearse),
    "gpu-check": Stage(_gpu_check_configs, run_gpu_check),
}
