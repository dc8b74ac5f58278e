"""What a batch of evaluations consists of: a checkpoint, a split, and features that fit both."""

from __future__ import annotations

import glob
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from eval.folders import META, eval_folder
from eval.generate import GenerateConfig, generate
from eval.translations import original_split
from features.config import BaseConfig, DatasetConfig
from features.durable import disk_errors
from features.errors import ConfigError, RedVillmError, StoreError
from features.places import StorePath, place
from features.recipes import find_split, load_recipe
from features.spec import FeatureSpec
from features.store import FeatureStore, read_spec
from train.checkpoint import find_projectors, read_projector_config

ALIASES = {"tgif-frameqa": "tgif-qa"}
"""Benchmarks that are known by another name than their dataset's recipe."""
NOT_ASKED = ("train", "val")
"""Beginnings of splits that a benchmark does not consist of unless they are named."""


@dataclass(frozen=True)
class Job:
    """One checkpoint and one split."""

    run: Path
    """Folder of a run, or of exported or imported projectors."""
    dataset: DatasetConfig
    split: str
    features: str
    """Root of the feature stores."""
    base: BaseConfig | None = None
    """The base; what the checkpoint recorded unless given."""
    store: str | None = None
    """The store; the one of the checkpoint's own spec unless given."""

    def __str__(self) -> str:
        return f"{self.run} on {self.dataset.name} {self.split}"

    @property
    def is_translated(self) -> bool:
        """Whether answers are meant that somebody translated; such are not made here."""
        return original_split(self.split) != self.split

    def absolute(self) -> Job:
        """The same from any folder: Ray's workers have one of their own on each node."""
        splits = {
            name: replace(
                split,
                questions=split.questions.absolute(),
                answers=split.answers.absolute() if split.answers else None,
            )
            for name, split in self.dataset.splits.items()
        }
        base = self.base
        with suppress(RedVillmError):  # whoever answers will say what is wrong
            base = base or read_projector_config(find_projectors(self.run)).base
        if base is not None and Path(base.checkpoint).is_dir():
            base = replace(base, checkpoint=str(Path(base.checkpoint).absolute()))
        return replace(
            self,
            base=base,
            run=self.run.absolute(),
            dataset=replace(self.dataset, splits=splits),
            features=_absolute(self.features),
            store=_absolute(self.store) if self.store is not None else None,
        )

    def answer(self, config: GenerateConfig, part: tuple[int, int] | None = None) -> Path:
        """Answer what is not answered yet (of one part); returns the folder of the answers.

        Raises:
            RedVillmError: see `generate`; or there are no features, or no translated answers.
        """
        if self.is_translated:
            folder = eval_folder(self.run, self.dataset.name, self.split)
            if not (folder / META).exists():
                do = "translate the answers, then `python -m pipelines predictions translated`"
                raise RedVillmError("no translated answers", where=folder, do=do)
            return folder
        trained = read_projector_config(find_projectors(self.run))
        store = self.open_store(trained.spec)
        config = replace(config, split=self.split)
        return generate(config, self.base or trained.base, self.dataset, self.run, store, part)

    def open_store(self, spec: FeatureSpec | None = None) -> FeatureStore:
        """The features of the dataset that the checkpoint can read.

        Raises:
            StoreError: there are none.
        """
        if self.store is not None:
            return FeatureStore(place(self.store))
        spec = spec or read_projector_config(find_projectors(self.run)).spec
        return FeatureStore(_store_of(spec, self.dataset.name, self.features))


def find_checkpoints(patterns: str) -> list[Path]:
    """Folders that blank-separated globs name, each once, sorted.

    Raises:
        ConfigError: a pattern names none.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns.split():
        folders = {Path(p) for p in glob.glob(pattern) if Path(p).is_dir()}
        if not folders:
            raise ConfigError("no run folder there", got=pattern, do="run `make train` first")
        found = {folder.resolve(): folder for folder in sorted(folders)} | found
    return sorted(found.values())


def load_benchmark(name: str) -> DatasetConfig:
    """The dataset of a benchmark, which goes by the recipe's name or by another.

    Raises:
        ConfigError: unknown.
    """
    return load_recipe("datasets", ALIASES.get(name, name), DatasetConfig)


def benchmark_parts(names: str) -> list[tuple[DatasetConfig, str]]:
    """The splits of blank-separated benchmarks: `vcgbench`, `msvd-qa:val`, a YAML file, ...

    Raises:
        ConfigError: unknown dataset or split.
    """
    parts: dict[tuple[str, str], tuple[DatasetConfig, str]] = {}
    for name in names.split():
        known, _, split = name.partition(":")
        dataset = load_benchmark(known)
        for each in pick_splits(dataset, split):
            parts.setdefault((dataset.name, each), (dataset, each))
    return list(parts.values())


def pick_splits(dataset: DatasetConfig, wanted: str) -> list[str]:
    """The splits that are meant: those named (`a+b`); `test` if there is one, or all asked ones.

    Raises:
        ConfigError: no such split.
    """
    if wanted:
        names = wanted.split("+")
    elif "test" in dataset.splits:
        names = ["test"]
    else:
        names = [name for name in dataset.splits if not name.startswith(NOT_ASKED)]
    for name in names:
        find_split(dataset, original_split(name))
    return names


def name_rows(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Runs by the name of their row: the seeds of an experiment stand together.

    `<dataset>/<experiment>/seed-<n>` is named by its experiment, or where several datasets have it,
    by both; any other folder by its own name, or where that repeats, by its path.
    """
    groups: dict[Path, list[Path]] = defaultdict(list)
    for run in runs:
        groups[run.parent if run.name.startswith("seed-") else run].append(run)
    short = Counter(group.name for group in groups)
    longer = Counter("/".join(group.parts[-2:]) for group in groups)

    def name(group: Path) -> str:
        if short[group.name] == 1:
            return group.name
        two = "/".join(group.parts[-2:])
        return two if longer[two] == 1 else group.as_posix()

    return {name(group): sorted(found) for group, found in groups.items()}


def open_stores(jobs: Iterable[Job]) -> dict[str, FeatureStore]:
    """A store of each dataset, for frame strips; datasets whose store is gone have none."""
    stores: dict[str, FeatureStore] = {}
    for job in jobs:
        if job.dataset.name not in stores:
            try:
                stores[job.dataset.name] = job.open_store()
            except RedVillmError:  # a report without frames is still a report
                continue
    return stores


def _absolute(path: str) -> str:
    found = place(path)
    return str(found.absolute()) if isinstance(found, Path) else str(found)


def _store_of(spec: FeatureSpec, dataset: str, features: str) -> StorePath:
    root = place(features) / dataset
    with disk_errors("cannot look for stores", root):
        found = sorted(p.parent for p in root.glob(f"*-{spec.fingerprint[:8]}/spec.json"))
    fitting = [path for path in found if read_spec(path).fingerprint == spec.fingerprint]
    if fitting:
        return fitting[0]
    raise StoreError(
        "no features of this dataset for this checkpoint",
        where=root,
        wanted=f"a store of spec {spec.fingerprint[:8]} (T = {spec.num_frames})",
        do=f"make extract DATASET={dataset} with the base and frames of the training",
    )
