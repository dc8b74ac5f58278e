"""`python -m pipelines store <verb>`: stores checked, described, copied, exchanged and tidied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.filesize import decimal
from rich.progress import track
from rich.table import Column, Table

from features.errors import StoreError
from features.places import StorePath, place
from pipelines.stages import Stage, console

Format = Literal["zarr", "hdf5"]


@dataclass(frozen=True)
class VerifyOptions:
    """Read every byte of stores against its checksums."""

    stores: list[str]
    """Folders of the stores."""


@dataclass(frozen=True)
class InfoOptions:
    """What a store is and holds."""

    store: str
    """Folder of the store."""
    json: bool = False
    """JSON for machines instead of a table."""


@dataclass(frozen=True)
class ConvertOptions:
    """The same store in another file format, without decoding."""

    store: str
    """Folder of the store to read."""
    target: str
    """Folder of the store to make, or to bring up to date."""
    format: Format
    """Files of the shards written."""


@dataclass(frozen=True)
class MergeOptions:
    """Bring the videos of partial runs into one store."""

    target: str
    """Folder of the store to make or to extend."""
    sources: list[str]
    """Folders of stores of the same spec."""
    format: Format = "zarr"
    """Files of the shards written."""


@dataclass(frozen=True)
class ImportOptions:
    """Video-ChatGPT's pickles into a store."""

    target: str
    """Folder of the store to make or to extend."""
    pickles: Path
    """Folder with `<video id>.pkl` files."""
    base: str
    """Base whose eyes made the features (Video-ChatGPT's: llava-lightning-7b)."""
    num_frames: int = 100
    """T: temporal rows of each pickle; those behind them are spatial."""
    format: Format = "zarr"
    """Files of the shards written."""


@dataclass(frozen=True)
class ExportOptions:
    """A store into Video-ChatGPT's pickles."""

    store: str
    """Folder of the store."""
    folder: Path
    """Folder for the pickles."""


@dataclass(frozen=True)
class GcOptions:
    """List what kills left behind, and with --delete remove it."""

    store: str
    """Folder of the store."""
    delete: bool = False
    """Remove what is listed; without it nothing is touched."""
    older_than_hours: float = 24.0
    """Leave alone what changed since: it may belong to a run that is under way."""


def run_verify(options: VerifyOptions) -> int:
    """`verify`: 2 when anything is wrong; a store that cannot be read does not stop the others."""
    bad = 0
    for text in options.stores:
        try:
            problems = _verify(text)
        except StoreError as error:
            problems = (str(error),)
        for problem in problems:
            console.print(f"{text}: {problem}", style="red", markup=False)
        bad += bool(problems)
    return 2 if bad else 0


def _verify(text: str) -> tuple[str, ...]:
    from features.garbage import find_garbage
    from features.store import verify_store

    store = place(text)
    check, garbage = verify_store(store, _progress("verifying")), find_garbage(store)
    verdict = f"{len(check.problems)} problems" if check.problems else "sound"
    console.print(
        f"{text}: {verdict}; {check.num_videos:,} videos, {check.num_failures:,} failures; "
        f"content {check.content_digest[:16]}"
    )
    if garbage:
        size = decimal(sum(found.num_bytes for found in garbage))
        console.print(f"{text}: {len(garbage)} leftovers ({size}) do no harm: see `store gc`")
    return check.problems


def run_info(options: InfoOptions) -> None:
    """`info`."""
    from features.store_info import store_info

    info = store_info(place(options.store))
    if options.json:
        print(json.dumps(asdict(info), indent=2))
        return
    spec = info.spec
    table = Table(title=info.store, show_header=False)
    for name, value in {
        "eyes": f"{spec['tower']}, layer {spec['layer']}, {spec['image_size']} px",
        "frames": f"T = {spec['num_frames']}, {spec['preprocessing']}, {spec['decoder_policy']}",
        "features": f"N = {info.patches}, D = {info.width}, {spec['store_dtype']} "
        f"(computed in {spec['compute_dtype']})",
        "weights": spec["weights_digest"][:16],
        "fingerprint": spec["fingerprint"][:16],
        "content": info.content_digest[:16],
        "videos": f"{info.ok:,} with features, {info.waiting:,} waiting",
        "failed": _counts(info.failed),
        "shards": f"{_counts(info.shards)}, in {info.parts} parts of the plan",
        "superseded shards": str(info.superseded_shards),
        "decoders": _counts(info.decoders),
        "on disk": f"{decimal(info.num_bytes)}, of it garbage {decimal(info.garbage_bytes)}",
    }.items():
        table.add_row(name, value)
    console.print(table, markup=False)


def run_convert(options: ConvertOptions) -> None:
    """`convert`."""
    from features.convert import convert

    target = place(options.target)
    source = place(options.store)
    _say(target, convert(source, target, options.format, _progress("converting")))


def run_merge(options: MergeOptions) -> None:
    """`merge`."""
    from features.merge import merge

    target = place(options.target)
    sources = [place(source) for source in options.sources]
    _say(target, merge(target, sources, options.format, _progress("merging")))


def run_import(options: ImportOptions) -> None:
    """`import`."""
    from features.describe import load_base
    from features.exchange import import_pickles

    target, base = place(options.target), load_base(options.base)
    shown = _progress("importing")
    filled = import_pickles(
        target, options.pickles, base, options.num_frames, format=options.format, track=shown
    )
    _say(target, filled)


def run_export(options: ExportOptions) -> None:
    """`export`."""
    from features.exchange import export_pickles

    shown = _progress("exporting")
    written = export_pickles(place(options.store), options.folder, track=shown)
    console.print(f"{options.folder}: {written:,} pickles written, the others were there")


def run_gc(options: GcOptions) -> None:
    """`gc`."""
    from features.garbage import find_garbage, remove_garbage, superseded_commits

    store = place(options.store)
    found = find_garbage(store)
    old = [garbage for garbage in found if garbage.hours >= options.older_than_hours]
    table = Table(Column("leftover", overflow="fold"), "what", "size", "hours old")
    for garbage in old:
        name = f"{garbage.path.parent.name}/{garbage.path.name}"
        table.add_row(name, garbage.why, decimal(garbage.num_bytes), f"{garbage.hours:,.0f}")
    if old:
        console.print(table)
    if options.delete:
        remove_garbage(old)
    size = decimal(sum(garbage.num_bytes for garbage in old))
    done = "removed" if options.delete else "to be removed with --delete"
    console.print(f"{store}: {len(old)} leftovers, {size}, {done}")
    if len(found) > len(old):
        console.print(f"{len(found) - len(old)} younger ones left alone: a run may be under way")
    kept = superseded_commits(store)
    if kept:
        console.print(f"{len(kept)} shards of superseded rows kept: the plan still asks for them")


def _say(target: StorePath, filled: Any) -> None:
    """What a copy did, and what the target now is."""
    from features.store import FeatureStore
    from features.store_info import shard_formats

    store = FeatureStore(target)
    console.print(
        f"{target}: {filled.shards:,} shards written ({filled.videos:,} videos), "
        f"{filled.left:,} still pending; now {len(store):,} videos with features in "
        f"{_counts(shard_formats(target))} shards, content {store.content_digest[:16]}"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _progress(what: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    return partial(track, description=what, console=console, transient=True)


def _verb(options: type[Any], run: Callable[..., int | None], *positionals: str) -> Stage:
    return Stage(lambda: (options,), run, positionals)


VERBS = {
    "verify": _verb(VerifyOptions, run_verify, "stores"),
    "info": _verb(InfoOptions, run_info, "store"),
    "convert": _verb(ConvertOptions, run_convert, "store", "target"),
    "merge": _verb(MergeOptions, run_merge, "target", "sources"),
    "import": _verb(ImportOptions, run_import, "target", "pickles"),
    "export": _verb(ExportOptions, run_export, "store", "folder"),
    "gc": _verb(GcOptions, run_gc, "store"),
}
