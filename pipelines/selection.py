"""Which base, which dataset, which folders: the part of the command line all stages share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from features.annotations import load_annotations
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.describe import load_base
from features.errors import ConfigError
from features.recipes import load_recipe

OWN_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Selection:
    """What a stage works on and where things lie."""

    base: str = "mini"
    """Base: a recipe of pipelines/recipes/bases, a YAML file, or a checkpoint (folder, hub id)."""
    dataset: str = "demo"
    """Dataset recipe: a name in pipelines/recipes/datasets, or a YAML file. `train` takes several,
    as `one+other`."""
    videos: Path | None = None
    """Your own folder of videos, instead of a dataset recipe."""
    annotations: Path | None = None
    """Your own questions about `videos`: JSONL, see features/annotations.py."""
    num_frames: int | None = None
    """T: frames sampled a video; the base's own number unless given."""
    prompt: str | None = None
    """Prompt instead of the base's own: a name (`paper`: equation 4) or a template."""
    features: str = "data/features"
    """Root of the feature stores: a folder, or s3://bucket/prefix."""
    store: str | None = None
    """Folder (or prefix) of one store, where several fit; of several datasets `one+other`."""
    runs: Path = Path("runs")
    """Root of training runs, predictions and reports."""

    def each(self) -> list[Selection]:
        """One selection for each of several datasets.

        Raises:
            ConfigError: not as many stores as datasets, where any is named.
        """
        names = self.dataset.split("+") if self.videos is None else [self.dataset]
        if len(names) == 1:
            return [self]
        stores: list[str] | list[None] = [None] * len(names)
        if self.store is not None:
            stores = self.store.split("+")
        if len(stores) != len(names):
            wanted = f"{len(names)} stores, joined by +, or none"
            raise ConfigError("one store a dataset", got=self.store, wanted=wanted)
        pairs = zip(names, stores, strict=True)
        return [replace(self, dataset=name, store=store) for name, store in pairs]

    def load_base(self) -> BaseConfig:
        """The base, with the prompt that was asked for."""
        base = load_base(self.base)
        return base if self.prompt is None else replace(base, prompt=self.prompt)

    def load_dataset(self) -> DatasetConfig:
        """The dataset's recipe, or the one that `videos` and `annotations` amount to.

        Raises:
            ConfigError: unknown dataset, or `videos` is no folder.
        """
        if self.videos is None:
            dataset = load_recipe("datasets", self.dataset, DatasetConfig)
            if self.annotations is None:
                return dataset
            return replace(dataset, splits=_own_splits(self.annotations))
        if not self.videos.is_dir():
            raise ConfigError("no such folder of videos", where=self.videos, do="check --videos")
        splits = _own_splits(self.annotations) if self.annotations else {}
        return DatasetConfig(self.videos.resolve().name, self.videos, splits)


def _own_splits(annotations: Path) -> dict[str, SplitConfig]:
    """One JSONL serves all splits: rows say theirs in `split`, and are for training if silent."""
    return {name: SplitConfig("jsonl", annotations, part=name) for name in OWN_SPLITS}


def annotated_ids(dataset: DatasetConfig, console: Console) -> list[str] | None:
    """Ids of all videos that any split of the dataset asks about; None without annotations.

    A split whose files are not there is named and passed over: extraction can go on without it.
    """
    ids: set[str] = set()
    # `part` only divides one file among the splits; extraction wants all of it, once
    splits = {replace(split, part=""): name for name, split in dataset.splits.items()}
    found = 0
    for split, name in splits.items():
        absent = [path for path in (split.questions, split.answers) if path and not path.is_file()]
        if absent:
            console.print(f"[yellow]split {name}: no file {absent[0]}; its videos are left out[/]")
            continue
        ids |= {sample.video_id for sample in load_annotations(split)}
        found += 1
    return sorted(ids) if found else None
