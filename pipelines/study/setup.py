"""What a study's options make of its recipe: bases, videos, features, splits, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from eval.generate import GenerateConfig
from extract.options import ExtractConfig
from extract.run import extract_all, list_specs
from features.catalog import store_path
from features.config import DatasetConfig
from features.describe import load_base
from features.durable import escape_name, only_one
from features.errors import ConfigError
from features.places import StorePath
from features.recipes import load_recipe, recipe_path
from features.spec import ComputeDtype
from features.store import read_spec
from pipelines.demo_data import write_demo
from pipelines.eval_jobs import benchmark_parts
from pipelines.evaluation import Executor, Judging
from pipelines.experiment import load_experiment
from pipelines.selection import annotated_ids
from pipelines.study.cells import Cell, Use, plan_cells, table_names
from pipelines.study.freeze import freeze, read_frozen, with_test_seed
from pipelines.study.recipe import load_study
from pipelines.study.work import Part, Task, TaskMaker
from train.options import TrainConfig
from train.projectors import ProjectorSwitches

CELLS = "study-cells"
"""Folder of all studies' runs, below the root of runs."""
RED_VILLM = ProjectorSwitches()
OFFLINE = "offline-em-f1-2"
"""The judge whose studies need not name theirs."""


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
    validation: str | None = None
    """What quick runs and the learning rate are scored on, instead of the study's: of the same
    kind as the benchmarks. Tables that need it are left out where there is none."""
    experiment: str = "red-villm"
    """Recipe whose training options, prompt and dtype every cell starts from."""
    tables: str = ""
    """Tables that are run now, separated by blanks (`3 4 5`); all unless given."""
    quick: bool = False
    """A look within minutes: one seed, short training, validation videos. No result."""
    seeds: int | None = None
    """Seeds of every row instead of the study's: few where a base trains for days, six where there
    is one base, for fewer than six pairs decide no claim."""
    freeze: bool = False
    """Fix world, recipes and bases, which draws new test videos, and end."""
    features: str = "data/features"
    """Root of the feature stores: a folder, or s3://bucket/prefix."""
    runs: Path = Path("runs")
    """Root of runs; results of a study are in <runs>/experiments, its runs in <runs>/study-cells,
    where studies that ask for the same training find one another's."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the ViT, as `extract` has it; features of another are others."""
    executor: Executor = "auto"
    """auto: Ray, unless one worker is asked for."""
    workers: int | None = None
    """Cells at once; one for every GPU (or CPU) unless given."""


class Study:
    """A study with everything that its options name."""

    def __init__(self, options: ExperimentsConfig, judging: Judging, console: Console) -> None:
        self.options, self.console = options, console
        self.recipe = load_study(options.study)
        self.family = options.base or self.recipe.base
        start = load_experiment(options.experiment)
        members = self.recipe.families.get(self.family, (self.family,))
        self.bases = {name: load_base(name) for name in members}
        if start.prompt is not None:
            self.bases = {n: replace(b, prompt=start.prompt) for n, b in self.bases.items()}
        if start.num_frames or start.switches != RED_VILLM:
            do = "give a recipe without them, such as red-villm or red-villm-long"
            got = f"{start.switches}, num_frames {start.num_frames}"
            raise ConfigError("a study's rows say switches and frames", got=got, do=do)
        self.start = start.part(TrainConfig)
        self.answers = GenerateConfig(dtype=start.dtype)
        named = options.dataset or self.recipe.dataset
        self.dataset = load_recipe("datasets", named, DatasetConfig)
        judges = judging.make()
        if len(judges) != 1:
            raise ConfigError("a study has one judge", got=judging.judge, do="name one")
        self.judge, self.again = judges[0]
        test = options.benchmarks or self.recipe.benchmarks or f"{self.dataset.name}:test"
        scored = benchmark_parts(test)
        self.parts = {"test": scored, "val": self._val_parts(_is_qa(scored))}
        self.stores: dict[tuple[str, str, int], StorePath] = {}
        self.tables = table_names(self.recipe, options.tables)

    @property
    def out(self) -> Path:
        """Folder of this study on this base, dataset and benchmarks, with this judge."""
        options, recipe, judge = self.options, self.recipe, self.judge.record
        own = {
            "study": (recipe.name, "paper"),
            "base": (self.family, recipe.base),
            "dataset": (self.dataset.name, recipe.dataset),
            "benchmarks": (options.benchmarks or "", ""),
            "experiment": (options.experiment, "red-villm"),
            "compute_dtype": (options.compute_dtype, "float32"),
            "judge": ("" if judge.label == OFFLINE else judge.slug, ""),
            "seeds": (f"{options.seeds}-seeds" if options.seeds else "", ""),
            "quick": ("quick" if options.quick else "", ""),
        }
        names = [escape_name(name) for name, usual in own.values() if name != usual]
        return options.runs / "-".join(["experiments", *names])

    @property
    def lock(self) -> Path:
        """Beside the recipe."""
        return recipe_path("studies", self.options.study).with_suffix(".lock.json")

    @property
    def budgets(self) -> list[str]:
        """Those of the base, in the order of the first table; none in a quick study."""
        base = next(iter(self.bases.values()))
        wanted = self.recipe.tables[0].budgets
        return [] if self.options.quick else [name for name in wanted if name in base.budgets]

    @property
    def is_rendered(self) -> bool:
        """Whether the videos are made here."""
        return self.recipe.render is not None and self.dataset.name == self.recipe.dataset

    @property
    def is_as_frozen(self) -> bool:
        """Whether nothing that the lock covers was replaced by an option."""
        options = self.options
        usual = ExperimentsConfig.experiment, ExperimentsConfig.compute_dtype, None
        own = (options.experiment, options.compute_dtype, options.benchmarks) == usual
        return self.is_rendered and own and not options.quick

    def freeze(self) -> None:
        """Fix everything that a result could be steered by.

        Raises:
            ConfigError: that is not what the study is meant for.
        """
        if not self.is_rendered or self.family != self.recipe.base:
            own = f"base {self.recipe.base}, dataset {self.recipe.dataset}"
            got = f"base {self.family}, dataset {self.dataset.name}"
            do = "give another study's recipe (STUDY=my.yaml), or no BASE and DATASET"
            raise ConfigError("a study is frozen for its own base", got=got, wanted=own, do=do)
        freeze(self.lock, self.recipe, self.bases, self.judge.record.label)
        self.console.print(f"frozen: {self.lock}; commit it, then run the study")

    def render(self) -> dict[str, Any] | None:
        """The videos, if they are made here; returns the lock of what is scored, if there is one.

        A quick run may change what it likes: it sees no test videos then.

        Raises:
            ConfigError: something that was frozen has changed.
        """
        if self.recipe.render is None or not self.is_rendered:
            return None
        try:
            lock = read_frozen(self.lock, self.recipe, self.bases, self.judge.record.label)
        except ConfigError:
            if not self.options.quick:
                raise
            lock = None
        world = replace(self.recipe.render, test_videos=0)
        if lock is not None:
            world = with_test_seed(self.recipe.render, lock)
        root = self.dataset.videos.parent
        self.console.print(f"videos: {root}")
        with only_one(root, "renders these videos"):
            write_demo(root, world)
        return lock if self.is_as_frozen else None

    def cells(self) -> dict[Use, Cell]:
        """What has to be trained; tables without anything to be scored on are left out."""
        tables = [
            t for t in self.recipe.tables if self.parts["val" if self.options.quick else t.split]
        ]
        if not tables:
            do = "name the split that choices are made on: --validation"
            raise ConfigError("there is nothing to score cells on", where="val", do=do)
        recipe = replace(self.recipe, tables=tuple(tables))
        options = self.options
        return plan_cells(recipe, self.bases, self.start, options.quick, options.seeds)

    def tasks(self, cells: Mapping[Use, Cell]) -> dict[Use, Task]:
        """What to do for each use that has its features; equal ones have one fingerprint.

        Features are extracted for the tables that are run now; others have theirs from before, or
        no task yet.
        """
        self._extract(cells)
        runs = self.options.runs / CELLS
        make = TaskMaker(self.dataset, self.answers, self.judge.record.label, runs)
        made = {}
        for use, cell in cells.items():
            names = [self.dataset.name, *(d.name for d, _ in self.parts[cell.split])]
            keys = {name: (use.base, name, cell.num_frames) for name in names}
            if not self.stores.keys() >= {*keys.values()}:
                continue
            stores = {name: self.stores[key] for name, key in keys.items()}
            parts = [Part(d, split, stores[d.name]) for d, split in self.parts[cell.split]]
            made[use] = make(cell, self.bases[use.base], stores[self.dataset.name], parts)
        return made

    def _extract(self, cells: Mapping[Use, Cell]) -> None:
        """A store for each (base, dataset, T) of the tables wanted; a base's T in one pass."""
        splits = {cell.split for cell in cells.values()}
        scored = [d for split in sorted(splits) for d, _ in self.parts[split]]
        datasets = {d.name: d for d in [self.dataset, *scored]}
        for name, dataset in product(dict.fromkeys(use.base for use in cells), datasets.values()):
            config = self._extraction(name, dataset, cells)
            if config.specs:
                wanted = annotated_ids(dataset, self.console)
                for summary in extract_all(config, self.bases[name], dataset, wanted):
                    spec = read_spec(summary.store)
                    self.stores[name, dataset.name, spec.num_frames] = summary.store

    def _extraction(
        self, base: str, dataset: DatasetConfig, cells: Mapping[Use, Cell]
    ) -> ExtractConfig:
        """With the T that are wanted now, and those of which there are stores."""
        options = self.options
        every = {c.num_frames for use, c in cells.items() if use.base == base}
        now = {c.num_frames for u, c in cells.items() if u.base == base and u.table in self.tables}
        config = ExtractConfig(
            options.features,
            specs=" ".join(map(str, sorted(every))),
            compute_dtype=options.compute_dtype,
            executor=options.executor,
        )
        if now == every:
            return config
        there = {
            spec.num_frames
            for spec in list_specs(config, self.bases[base])
            if (store_path(options.features, dataset.name, base, spec) / "spec.json").exists()
        }
        return replace(config, specs=" ".join(map(str, sorted(now | there))))

    def _val_parts(self, qa: bool) -> list[tuple[DatasetConfig, str]]:
        """What choices are made on; nothing where the dataset has no fitting split."""
        own = self.options.dataset is None and self.options.benchmarks is None
        named = self.options.validation or (self.recipe.validation if own else "")
        if not named and "val" not in self.dataset.splits:
            return []
        parts = benchmark_parts(named or f"{self.dataset.name}:val")
        if _is_qa(parts) == qa:
            return parts
        if self.options.validation:
            wanted = "questions of the benchmarks' kind"
            raise ConfigError("validation of another kind", got=named, wanted=wanted)
        return []


def _is_qa(parts: list[tuple[DatasetConfig, str]]) -> bool:
    """Whether answers are right or wrong; of the five aspects otherwise."""
    return any("qa" in dataset.splits[split].aspects for dataset, split in parts)
