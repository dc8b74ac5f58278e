"""One study from its recipe to its page; whatever is there already is not done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from eval.generate import GenerateConfig
from eval.judges.base import Judge
from eval.report.study.comparison import write_comparison_page
from eval.report.study.page import write_study_page
from extract.options import ExtractConfig
from extract.run import extract_all
from features.config import DatasetConfig
from features.describe import load_base
from features.errors import ConfigError
from features.places import StorePath
from features.recipes import load_recipe, read_recipe, recipe_path
from features.store import FeatureStore, read_spec
from pipelines.demo_data import write_demo
from pipelines.eval_jobs import benchmark_parts
from pipelines.evaluation import Executor, Judging
from pipelines.selection import annotated_ids
from pipelines.study.cells import QUICK, Cell, Done, Use, pick_tables, plan_cells
from pipelines.study.freeze import base_facts, freeze, read_frozen, with_test_seed
from pipelines.study.outcome import outcome, write_results
from pipelines.study.recipe import StudyConfig, load_study
from pipelines.study.work import Part, Task, TaskMaker, do_tasks

RESULTS = "results.json"
COMPARED = {"shared (Video-ChatGPT's structure)": "shared", "RED-VILLM": "copy"}
"""The rows of Table 4 that Figure 3 shows side by side."""
ANSWERS = GenerateConfig()
"""As `eval` has it."""


@dataclass(frozen=True)
class ExperimentsConfig:
    """Which study, on which base."""

    study: str = "paper"
    """Study: a recipe of pipelines/recipes/studies, or a YAML file."""
    base: str | None = None
    """Base instead of the study's."""
    dataset: str | None = None
    """Dataset that is trained on, instead of the study's."""
    benchmarks: str | None = None
    """What is scored, instead of the study's: `vcgbench`, `msvd-qa:test`."""
    tables: str = ""
    """Tables that are run, separated by blanks (`3 4 5`); all unless given."""
    quick: bool = False
    """A look within minutes: few seeds, short training, validation videos. No result."""
    seeds: int | None = None
    """Most seeds a row, for bases that train for days; fewer than six pairs decide no claim."""
    freeze: bool = False
    """Fix world, recipes and bases, which draws new test videos, and end."""
    features: str = "data/features"
    """Root of the feature stores: a folder, or s3://bucket/prefix."""
    runs: Path = Path("runs")
    """Root of runs; those of a study are in <runs>/experiments."""
    executor: Executor = "auto"
    """auto: Ray, unless one worker is asked for."""
    workers: int | None = None
    """Cells at once; one for every GPU (or CPU) unless given."""


class Study:
    """A study with what its options make of it."""

    def __init__(self, options: ExperimentsConfig, judging: Judging, console: Console) -> None:
        self.options, self.console = options, console
        self.whole = load_study(options.study)
        self.wanted = pick_tables(self.whole, options.tables) if options.tables else self.whole
        family = options.base or self.whole.base
        members = self.whole.families.get(family, (family,))
        self.bases = {name: load_base(name) for name in members}
        self.dataset = load_recipe("datasets", options.dataset or self.whole.dataset, DatasetConfig)
        judges = judging.make()
        if len(judges) != 1:
            raise ConfigError("a study has one judge", got=judging.judge, do="name one")
        self.judge: Judge = judges[0][0]
        own = [
            *([] if options.study == "paper" else [self.whole.name]),
            *([] if family == self.whole.base else [family]),
            *(["quick"] if options.quick else []),
        ]
        self.out = options.runs / "-".join(["experiments", *own])

    @property
    def budgets(self) -> list[str]:
        """Those of the base, in the order of the first table; none in a quick study."""
        base = next(iter(self.bases.values()))
        wanted = self.whole.tables[0].budgets
        return [] if self.options.quick else [name for name in wanted if name in base.budgets]

    @property
    def lock(self) -> Path:
        """Beside the recipe."""
        return recipe_path("studies", self.options.study).with_suffix(".lock.json")

    @property
    def why(self) -> Path:
        """What somebody who looked into it wrote about each claim."""
        path = recipe_path("studies", self.options.study)
        return path.parent / "why" / path.name

    @property
    def rendered(self) -> bool:
        """Whether the videos are made here."""
        return self.whole.render is not None and self.options.dataset is None

    def freeze(self) -> None:
        """Fix everything that a result could be steered by."""
        freeze(self.lock, self.whole, self.bases, self.judge.record.label)
        self.console.print(f"frozen: {self.lock}; commit it, then run the study")

    def render(self) -> dict[str, Any] | None:
        """The videos, if they are made here; returns the lock.

        A quick run may change what it likes: it sees no test videos then.
        """
        if self.whole.render is None or not self.rendered:
            return None
        try:
            lock = read_frozen(self.lock, self.whole, self.bases, self.judge.record.label)
        except ConfigError:
            if not self.options.quick:
                raise
            lock = None
        world = replace(self.whole.render, test_videos=0)
        if lock is not None:
            world = with_test_seed(self.whole.render, lock)
        root = self.dataset.videos.parent
        self.console.print(f"videos: {root}")
        write_demo(root, world)
        return lock

    def cells(self, study: StudyConfig) -> dict[Use, Cell]:
        """What has to be trained of a study."""
        return plan_cells(study, self.bases, self.options.quick, self.options.seeds)

    def extract(self, cells: Mapping[Use, Cell]) -> dict[tuple[str, str, int], StorePath]:
        """A store for each (base, dataset, T), all T of a base in one pass."""
        stores: dict[tuple[str, str, int], StorePath] = {}
        datasets = {d.name: d for d in [self.dataset, *(d for d, _ in self.parts("test"))]}
        for name in dict.fromkeys(use.base for use in cells):
            every = self.cells(self.whole)
            frames = sorted({c.num_frames for u, c in every.items() if u.base == name})
            config = ExtractConfig(
                features=self.options.features, specs=" ".join(map(str, frames)), executor="auto"
            )
            for dataset in datasets.values():
                wanted = annotated_ids(dataset, self.console)
                for summary in extract_all(config, self.bases[name], dataset, wanted):
                    stores[name, dataset.name, read_spec(summary.store).num_frames] = summary.store
        return stores

    def parts(self, split: str) -> list[tuple[DatasetConfig, str]]:
        """What is scored: the test, or what choices are made on.

        Raises:
            ConfigError: there is no such split.
        """
        own = f"{self.dataset.name}:{split}"
        if split == "test":
            return benchmark_parts(self.options.benchmarks or self.whole.benchmarks or own)
        return benchmark_parts(self.whole.validation or own)

    def tasks(self, cells: Mapping[Use, Cell]) -> dict[Use, Task]:
        """What to do for each use; equal ones have one fingerprint."""
        self.stores = self.extract(cells)
        make = TaskMaker(self.dataset, ANSWERS, self.judge.record.label, self.out / "cells")
        made = {}
        for use, cell in cells.items():
            base = self.bases[use.base]
            parts = [
                Part(dataset, split, self.stores[use.base, dataset.name, cell.num_frames])
                for dataset, split in self.parts(cell.split)
            ]
            store = self.stores[use.base, self.dataset.name, cell.num_frames]
            made[use] = make(cell, base, store, parts)
        return made


def experiments(options: ExperimentsConfig, judging: Judging, console: Console) -> int:
    """Run what is missing of a study and write its outcome; 2 when a cell failed.

    Raises:
        ConfigError: the recipe is wrong, or something frozen has changed.
    """
    study = Study(options, judging, console)
    if options.freeze:
        study.freeze()
        return 0
    lock = study.render()
    tasks = study.tasks(study.cells(study.wanted))
    once = {task.fingerprint: task for task in tasks.values()}
    done, failed = do_tasks(
        list(once.values()), study.judge, console, options.executor, options.workers
    )
    uses = {u: done[t.fingerprint] for u, t in tasks.items() if t.fingerprint in done}
    record = outcome(
        study.wanted, uses, _facts(study, lock), _whys(study), budgets=frozenset(study.budgets)
    )
    write_results(study.out / RESULTS, record)
    page = write_study_page(record, study.out)
    console.print(_verdicts(record))
    console.print(f"results: {study.out / RESULTS}; page: {page}")
    if beside := _compare(study, uses):
        console.print(f"side by side: {beside}")
    if failed:
        console.print(f"[red]{failed} cells failed[/]: run the same command again")
    return 2 if failed else 0


def _compare(study: Study, uses: Mapping[Use, Done]) -> Path | None:
    """Figure 3: the baseline and RED-VILLM on drawn questions, if both were run."""
    base, budget = next(iter(study.bases)), next(iter(study.budgets or QUICK))
    wanted = {name: Use("4", row, base, 0, budget) for name, row in COMPARED.items()}
    pair = [(name, uses[use]) for name, use in wanted.items() if use in uses]
    if len(pair) < len(COMPARED):
        return None
    (_, baseline), _ = pair
    store = FeatureStore.open(study.stores[base, study.dataset.name, baseline.cell.num_frames])
    return write_comparison_page(
        [(name, done.answers[0]) for name, done in pair],
        baseline.judge,
        store,
        study.dataset.videos,
        study.out / "comparison.html",
    )


def _facts(study: Study, lock: dict[str, Any] | None) -> dict[str, Any]:
    split = "val" if study.options.quick else "test"
    parts = study.parts(split)
    weights = base_facts(study.bases)
    return {
        "study": study.whole.name,
        "quick": study.options.quick,
        "split": split,
        "base": study.options.base or study.whole.base,
        "bases": [{"name": name, "digest": digest} for name, digest in weights.items()],
        "dataset": study.dataset.name,
        "benchmarks": [{"dataset": d.name, "split": name} for d, name in parts],
        "judge": study.judge.record.label,
        "frozen": None if study.options.quick else lock,
        "root": str(study.out),
    }


def _whys(study: Study) -> dict[str, Any]:
    """Of the tables that are wanted."""
    if not study.why.is_file():
        return {}
    tables = {table.table for table in study.wanted.tables}
    found = read_recipe(study.why)
    return {name: why for name, why in found.items() if name.split("/")[0] in tables}


def _verdicts(record: Mapping[str, Any]) -> Table:
    table = Table("table", Column("claim", overflow="fold"), "verdict", "difference", "p", "n")
    for claim in record["claims"]:
        if claim["headline"]:
            low, high, mean = (claim[k] for k in ("low", "high", "difference"))
            told = "-" if mean is None else f"{mean:+.1f} [{low}, {high}]"
            p = "-" if claim["p"] is None else f"{claim['p']:.4f}"
            table.add_row(
                claim["table"], claim["claim"], claim["verdict"], told, p, str(claim["n"])
            )
    return table
