"""What is trained on: datasets, each with the feature store that was made of its videos."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from features.annotations import QASample, annotations_digest, load_annotations
from features.config import BaseConfig, DatasetConfig
from features.errors import ConfigError, FingerprintError, StoreError
from features.places import StorePath
from features.spec import IMPORTED, FeatureSpec, record_digest
from features.store import FeatureStore
from features.tower_files import base_eyes

_HALF = "surrogatepass"
"""JSON can hold half a surrogate pair, also in an id."""


@dataclass(frozen=True)
class TrainingData:
    """A dataset and the store with its features."""

    dataset: DatasetConfig
    store: StorePath


@dataclass(frozen=True)
class OpenData:
    """The same, opened and checked against a base."""

    dataset: DatasetConfig
    features: FeatureStore
    _read: dict[str, list[QASample]] = field(default_factory=dict, repr=False, compare=False)
    """Questions by split, once they were asked for: files may change while hours pass."""

    def samples(self, split: str) -> list[QASample]:
        """The questions of a split, read once.

        Raises:
            ConfigError: the dataset has no such split.
        """
        if split not in self.dataset.splits:
            raise ConfigError(
                f"the dataset has no {'training' if split == 'train' else split} questions",
                where=f"dataset {self.dataset.name}",
                got=f"splits {sorted(self.dataset.splits)}",
                wanted=f"a split named {split}",
            )
        if split not in self._read:
            self._read[split] = load_annotations(self.dataset.splits[split])
        return self._read[split]

    def record(self, split: str) -> dict[str, Any]:
        """Questions and features, as digests."""
        return {
            "dataset": self.dataset.name,
            "questions": annotations_digest(self.samples(split)),
            "fingerprint": self.features.spec.fingerprint,
            "content": self.features.content_digest,
        }


def open_data(base: BaseConfig, data: Sequence[TrainingData]) -> list[OpenData]:
    """Open every store.

    Raises:
        FingerprintError: a store was not made by the base's eyes, or two stores not alike.
        ConfigError: the same dataset twice.
    """
    opened = [OpenData(one.dataset, FeatureStore.open(one.store)) for one in data]
    names = [one.dataset.name for one in opened]
    if len(set(names)) < len(names):
        raise ConfigError("a dataset is given twice", got=", ".join(names))
    first = opened[0].features
    for one in opened:
        check_store(base, one.features.spec, one.features.path)
        if one.features.spec != first.spec:
            raise FingerprintError(
                "these stores differ in how their features were made",
                got=f"{one.features.path}: {one.features.spec.fingerprint}",
                wanted=f"{first.path}: {first.spec.fingerprint}",
                do="extract both with the same base and options",
            )
    return opened


def samples_of(data: Sequence[OpenData], split: str) -> list[list[QASample]]:
    """The questions of each dataset; where there are several, ids get its name in front."""
    found = [one.samples(split) for one in data]
    if len(data) == 1:
        return found
    return [
        [replace(s, sample_id=f"{one.dataset.name}/{s.sample_id}") for s in samples]
        for one, samples in zip(data, found, strict=True)
    ]


def share_of(samples: Sequence[QASample], share: float) -> list[QASample]:
    """The questions about the first `share` of the videos, in the order of sha256 of their ids.

    So a smaller share is part of a larger one, whatever the file's order. Of 0 < share <= 1, the
    number of videos is rounded up.
    """
    ids = {sample.video_id for sample in samples}
    ordered = sorted(ids, key=lambda name: hashlib.sha256(name.encode(errors=_HALF)).digest())
    # In decimals: 0.1 of 30 videos are 3, not 3.0000000000000004 rounded up.
    chosen = set(ordered[: math.ceil(Decimal(str(share)) * len(ids))])
    return [sample for sample in samples if sample.video_id in chosen]


def content_of(data: Sequence[OpenData]) -> str:
    """The content digest of one store, or a digest over those of several."""
    digests = [one.features.content_digest for one in data]
    if len(digests) == 1:
        return digests[0]
    return record_digest(sorted(digests))


def check_store(base: BaseConfig, spec: FeatureSpec, store: StorePath) -> None:
    """Refuse features that were not made by the base's eyes.

    Of imported ones only that is asked which whoever imported them said of these eyes.

    Raises:
        FingerprintError: naming the first setting that differs.
    """
    imported = spec.tower.startswith(IMPORTED)
    for name, ours in base_eyes(base).items():
        theirs = getattr(spec, name)
        unknown = imported and (name in ("tower", "preprocessing") or theirs == IMPORTED)
        if ours != theirs and not unknown:
            raise FingerprintError(
                f"these features were made for another base: {name} differs",
                where=store,
                got=f"store: {theirs}",
                wanted=f"base {base.name}: {ours}",
                do="extract with this base, or train with the base of the store",
            )


def check_width(data: Sequence[OpenData], width: int) -> None:
    """Refuse features that are not as wide as the base's eyes see.

    Raises:
        StoreError: naming both widths.
    """
    for one in data:
        for video_id in one.features.ids[:1]:
            got = one.features[video_id].spatial.shape[1]
            if got != width:
                raise StoreError(
                    "features of another width than the base's vision tower gives",
                    where=one.features.path,
                    got=got,
                    wanted=width,
                    do="extract with this base",
                )
