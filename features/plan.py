"""The plan: which video goes to which row of which shard, fixed before anything is decoded.

Because membership of shards depends on the plan alone, any number of workers, kills and resumes
end in the same bytes. Parts are append-only; a part's hash covers what was planned and not where
the files lie, so a moved mount invalidates nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from features.durable import disk_errors, publish_new
from features.errors import StoreError
from features.places import StorePath, list_names
from features.spec import record_digest
from features.tables import encode_table, read_table

STATUS_OK = "ok"
STATUS_MISSING = "missing"
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".avi", ".gif", ".mov", ".m4v"})
_EDGE = 64 * 1024
_COLUMNS = {
    "video_id": "string",
    "path": "string",
    "size": "int64",
    "digest": "string",
    "shard": "int64",
    "row": "int64",
}


@dataclass(frozen=True)
class SourceVideo:
    """A video file as it is now."""

    video_id: str
    """Its name in annotations: the POSIX path below the dataset's folder without the suffix."""
    path: str
    """Where it lies now ("" when nobody knows)."""
    size: int
    """Bytes; -1 when there is no file that can be read."""
    digest: str
    """sha256 (hex) of size, first and last 64 KiB; "" when it cannot be read."""


@dataclass(frozen=True)
class PlanRow(SourceVideo):
    """One planned video, and the file as it was when it was planned."""

    part: int
    """Part of the plan, from 1."""
    shard: int
    """Shard number, unique over all parts."""
    row: int
    """Row in the shard."""


@dataclass(frozen=True)
class Plan:
    """All rows of all parts, in the order of shards and rows."""

    rows: tuple[PlanRow, ...] = ()
    part_hashes: dict[int, str] = field(default_factory=dict)
    """Hash of each part by number."""

    @cached_property
    def _by_shard(self) -> dict[int, tuple[PlanRow, ...]]:
        shards: dict[int, list[PlanRow]] = {}
        for row in self.rows:
            shards.setdefault(row.shard, []).append(row)
        return {shard: tuple(rows) for shard, rows in shards.items()}

    def shards(self) -> dict[int, tuple[PlanRow, ...]]:
        """Rows of each shard by shard number."""
        return self._by_shard

    def shard_hash(self, shard: int) -> str:
        """Hash of the part that holds a shard."""
        return self.part_hashes[self._by_shard[shard][0].part]

    def latest(self) -> dict[str, PlanRow]:
        """The row that counts for each video: that of the latest part."""
        return {row.video_id: row for row in self.rows}


def source_video(video_id: str, path: Path | None) -> SourceVideo:
    """Describe a file by its size and its two ends; reading 100 GB to plan them would be waste.

    The digest is sha256 over the size in decimal, a newline, the first and the last 64 KiB. A
    change in the middle that keeps the size goes unnoticed.
    """
    if path is None:
        return SourceVideo(video_id, "", -1, "")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}\n".encode())
            digest.update(file.read(_EDGE))
            file.seek(max(0, size - _EDGE))
            digest.update(file.read(_EDGE))
    except OSError:  # extraction finds out why and records it; once it can be read it has changed
        return SourceVideo(video_id, str(path), -1, "")
    return SourceVideo(video_id, str(path), size, digest.hexdigest())


def find_videos(root: Path) -> dict[str, Path]:
    """All video files below a folder by id, sorted; links are followed, hidden files are not seen.

    Raises:
        StoreError: no such folder, or two files with the same id (`a.mp4` and `a.mkv`).
    """
    found = video_files(root)
    for paths in found.values():
        if len(paths) > 1:
            names = [path.name for path in paths]
            raise StoreError("two files for one video id", where=root, got=names)
    return {video_id: paths[0] for video_id, paths in found.items()}


def video_files(root: Path) -> dict[str, list[Path]]:
    """As `find_videos`, but with all files of an id: one each, if all is well.

    Raises:
        StoreError: no such folder.
    """
    if not root.is_dir():
        raise StoreError("no folder with videos there", where=root)
    found: dict[str, list[Path]] = {}
    with disk_errors("cannot look through the folder", root):
        for path in _walk(root):
            found.setdefault(path.relative_to(root).with_suffix("").as_posix(), []).append(path)
    return dict(sorted(found.items()))


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return  # a link back up: a ring
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, (*above, real))
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            yield path


def load_plan(store: StorePath) -> Plan:
    """The plan of a store; empty when nothing was planned yet.

    Raises:
        StoreError: a part is missing, damaged or was edited.
    """
    rows: list[PlanRow] = []
    hashes: dict[int, str] = {}
    folder = store / "plan"
    with disk_errors("cannot list the plan", folder):
        names = [name for name in list_names(folder) if re.fullmatch(r"\d{4}\.parquet", name)]
    for part, name in enumerate(names, start=1):
        path = folder / name
        if int(path.stem) != part:
            raise StoreError("a part of the plan is missing", where=folder, wanted=part)
        records, facts = read_table(path)
        new = tuple(PlanRow(part=part, **record) for record in records)
        if facts["hash"] != _part_hash(new):
            raise StoreError("a part of the plan was edited", where=path, do="restore the file")
        rows.extend(new)
        hashes[part] = facts["hash"]
    return Plan(tuple(rows), hashes)


def extend_plan(
    store: StorePath,
    videos: Sequence[SourceVideo],
    videos_per_shard: int,
    statuses: Mapping[str, str],
    retry_failed: bool = False,
) -> Plan:
    """Plan what is new or worth another try, as one new part, and return the whole plan.

    A video that is not done and whose file changed, a missing one that is there now, and under
    `retry_failed` every failed one gets a row in the new part, which wins from now on. A file that
    has gone since it was planned changes nothing. Safe when many jobs call it at once.

    Args:
        store: the store's folder.
        videos: the files as they are now; their paths replace those in the plan.
        videos_per_shard: rows a shard.
        statuses: `read_statuses(store)`: the statuses of the videos that are done.
        retry_failed: plan failed videos again even if their files did not change.

    Raises:
        StoreError: the same id twice, an id that is no text, a changed file of a finished video.
    """
    _check_videos(videos, videos_per_shard)
    while True:
        new = _next_part(load_plan(store), videos, videos_per_shard, statuses, retry_failed)
        # When another job published this part first, look at the plan again.
        if not new or _publish(store, new[0].part, new):
            return _with_paths(load_plan(store), videos)


def preview_plan(
    store: StorePath,
    videos: Sequence[SourceVideo],
    videos_per_shard: int,
    statuses: Mapping[str, str],
    retry_failed: bool = False,
) -> Plan:
    """The plan that `extend_plan` would return; nothing is written, and there may be no store."""
    _check_videos(videos, videos_per_shard)
    plan = load_plan(store)
    new = _next_part(plan, videos, videos_per_shard, statuses, retry_failed)
    hashes = {new[0].part: _part_hash(new)} if new else {}
    return _with_paths(Plan(plan.rows + new, plan.part_hashes | hashes), videos)


def _next_part(
    plan: Plan,
    videos: Sequence[SourceVideo],
    videos_per_shard: int,
    statuses: Mapping[str, str],
    retry_failed: bool,
) -> tuple[PlanRow, ...]:
    """The rows to be added to a plan."""
    known = plan.latest()
    wanted = [v for v in videos if _is_due(v, known.get(v.video_id), statuses, retry_failed)]
    part = len(plan.part_hashes) + 1
    return _place(wanted, part, max(plan.shards(), default=-1) + 1, videos_per_shard)


def _with_paths(plan: Plan, videos: Sequence[SourceVideo]) -> Plan:
    """The plan with the files where they lie now."""
    paths = {video.video_id: video.path for video in videos if video.path}
    rows = tuple(replace(row, path=paths.get(row.video_id, row.path)) for row in plan.rows)
    return replace(plan, rows=rows)


def _is_due(
    video: SourceVideo, planned: PlanRow | None, statuses: Mapping[str, str], retry_failed: bool
) -> bool:
    if planned is None:
        return True
    status = statuses.get(video.video_id)
    failed = status not in (None, STATUS_OK)
    changed = video.size >= 0 and (video.size, video.digest) != (planned.size, planned.digest)
    if changed and status == STATUS_OK:
        raise StoreError(
            "the file of a finished video changed",
            where=f"{video.video_id} ({video.path})",
            got=f"{video.size} bytes, {video.digest[:12]}",
            wanted=f"{planned.size} bytes, {planned.digest[:12]}",
            do="restore the file, give it another name, or extract into another store",
        )
    back = status == STATUS_MISSING and video.size >= 0
    return changed or back or (failed and retry_failed)


def _check_videos(videos: Sequence[SourceVideo], videos_per_shard: int) -> None:
    if videos_per_shard < 1:
        raise StoreError("a shard holds at least one video", got=videos_per_shard)
    seen: set[str] = set()
    for video in videos:
        if video.video_id in seen:
            raise StoreError("the same video id twice", where=video.path, got=video.video_id)
        seen.add(video.video_id)
        if not video.video_id:
            raise StoreError("a video without an id", where=video.path)
        try:
            (video.video_id + video.path).encode()
        except UnicodeEncodeError as error:
            name = ascii(video.path or video.video_id)
            raise StoreError("a name that is not UTF-8", where=name, do="rename it") from error


def _place(
    videos: Sequence[SourceVideo], part: int, first_shard: int, videos_per_shard: int
) -> tuple[PlanRow, ...]:
    ordered = sorted(videos, key=lambda video: video.video_id)
    return tuple(
        PlanRow(
            **asdict(video),
            part=part,
            shard=first_shard + index // videos_per_shard,
            row=index % videos_per_shard,
        )
        for index, video in enumerate(ordered)
    )


def _publish(store: StorePath, part: int, rows: Sequence[PlanRow]) -> bool:
    records = [{name: getattr(row, name) for name in _COLUMNS} for row in rows]
    data = encode_table(records, _COLUMNS, {"hash": _part_hash(rows)})
    return publish_new(store / "plan" / f"{part:04d}.parquet", data, "plan")


def _part_hash(rows: Sequence[PlanRow]) -> str:
    planned = [[row.video_id, row.size, row.digest, row.shard, row.row] for row in rows]
    return record_digest(planned)
