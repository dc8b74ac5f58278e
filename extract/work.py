"""What every process of one extraction must know, whoever runs it.

A pass serves several stores at once: their specs share a tower and differ in T or preprocessing.
Light on purpose: a process that only waits for a decoder loads neither torch nor a store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from extract.decode_child import DecodeChild
from extract.video import DecodedVideo, DecodeRequest, View
from features.config import BaseConfig
from features.errors import VideoError
from features.places import StorePath
from features.plan import Plan, PlanRow, SourceVideo
from features.spec import FeatureSpec


@dataclass(frozen=True)
class Target:
    """One store to be filled."""

    store: StorePath
    spec: FeatureSpec
    plan: Plan


@dataclass(frozen=True)
class Unit:
    """Videos that are decoded and encoded together, and the shard they are in each store.

    Always all specs of the run, also where a store has its shard already: what shares a batch, and
    so the last bits, must not depend on when an earlier run was interrupted.
    """

    rows: tuple[PlanRow, ...]
    shards: tuple[tuple[int, int], ...]
    """(number of the target, shard), one for each view of a request."""
    pending: tuple[tuple[int, int], ...]
    """Those of them that are not committed yet."""


@dataclass(frozen=True)
class Work:
    """The stores of one pass and how to fill them."""

    targets: tuple[Target, ...]
    base: BaseConfig
    batch_size: int
    """Frames a ViT batch."""
    format: str
    """Shard format."""
    device: str
    compile: bool
    """Whether the tower is compiled."""
    thumbs: int
    """Thumbnails a video."""
    deadline_s: int
    """CPU seconds a video."""
    checksums: dict[str, str] = field(default_factory=dict)
    """sha256 of video files by id, where they are published."""

    def specs(self, unit: Unit) -> list[FeatureSpec]:
        """The specs that a unit serves, in the order of its shards."""
        return [self.targets[target].spec for target, _ in unit.shards]

    def request(self, unit: Unit, row: PlanRow) -> DecodeRequest | None:
        """What to ask the decoder for a planned video; None when there was no file to plan."""
        if row.size < 0:
            return None
        specs = self.specs(unit)
        return DecodeRequest(
            path=row.path,
            views=tuple(View(spec.num_frames, spec.preprocessing) for spec in specs),
            image_size=specs[0].image_size,
            thumbs=self.thumbs,
            deadline_s=self.deadline_s,
            sha256=self.checksums.get(row.video_id, ""),
        )

    def video_bytes(self) -> int:
        """The most bytes that one video's images take."""
        specs = [target.spec for target in self.targets]
        return sum(spec.num_frames * spec.image_size**2 * 3 for spec in specs)


def find_units(targets: Sequence[Target], pending: Sequence[Sequence[int]]) -> list[Unit]:
    """The units with something to do, in the order of their first shards.

    Shards of different stores that hold the same files in the same order are one unit. Stores that
    were planned alike, as those of one first run are, share all of them.

    Args:
        targets: the stores.
        pending: for each of them the shards to be done.
    """
    found: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    rows: dict[tuple[object, ...], tuple[PlanRow, ...]] = {}
    for number, target in enumerate(targets):
        again = Counter[object]()  # a retried shard may hold the very files of an earlier one
        for shard, planned in target.plan.shards().items():
            files = tuple((row.video_id, row.size, row.digest) for row in planned)
            again[files] += 1
            key = (files, again[files])
            found.setdefault(key, []).append((number, shard))
            rows[key] = planned
    todo = {(number, shard) for number, shards in enumerate(pending) for shard in shards}
    units = [
        Unit(rows[key], tuple(shards), tuple(shard for shard in shards if shard in todo))
        for key, shards in found.items()
    ]
    return sorted((unit for unit in units if unit.pending), key=lambda unit: unit.shards[0][::-1])


def decode_row(
    child: DecodeChild, row: SourceVideo, request: DecodeRequest | None
) -> DecodedVideo | VideoError:
    """One video's frames, or why it cannot be used: a failure is a value here."""
    if request is None:
        return VideoError("missing", "no file for this video", where=row.path or row.video_id)
    try:
        return child.decode(request)
    except VideoError as error:
        return error
