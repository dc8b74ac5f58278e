"""What is there of a dataset and what is not. Looks, and neither downloads nor writes.

Videos are matched by id (features/plan.py): the path below the videos folder without the suffix is
what the annotations say, with the split's `id_prefix` before it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from features.annotations import NO_QUESTIONS, QASample, load_annotations
from features.config import DatasetConfig, SplitConfig
from features.durable import file_sha256
from features.errors import AnnotationError, few
from features.manifest import load_checksums
from features.plan import VIDEO_SUFFIXES, video_files


@dataclass(frozen=True)
class SplitCheck:
    """One split: its files, its questions, and the videos they are about."""

    name: str
    config: SplitConfig
    absent: tuple[Path, ...] = ()
    """Annotation files that are not there."""
    error: str = ""
    """Why those that are there cannot be read."""
    questions: int | None = None
    """Questions found; None if they cannot be read."""
    asked: tuple[str, ...] = ()
    """Ids of the videos asked about, sorted."""
    missing: tuple[str, ...] = ()
    """Those of them without a file."""

    @property
    def paths(self) -> list[Path]:
        """Its annotation files."""
        return [path for path in (self.config.questions, self.config.answers) if path]

    def to_do(self) -> list[str]:
        """What keeps it from being used in full, and what to do; empty if nothing."""
        todo = [f"put the annotation file at {path}" for path in self.absent]
        if self.error:
            todo.append(self.error)
        if self.missing:
            todo.append(f"{len(self.missing):,} videos missing: {few(list(self.missing), 3)}")
        found = (self.questions, self.config.num_questions), (len(self.asked), self.config.videos)
        if self.questions is not None and any(want not in (None, got) for got, want in found):
            todo.append("not the numbers published; is the annotation file another version?")
        return [f"{self.name}: {line}" for line in todo]


@dataclass(frozen=True)
class DataCheck:
    """A dataset as it lies on disk."""

    dataset: DatasetConfig
    splits: tuple[SplitCheck, ...]
    files: dict[str, list[Path]]
    """Video files by id; none if there is no folder."""
    listed: dict[str, str] | None = None
    """sha256 by id from the dataset's manifest; None without one."""
    manifest_error: str = ""
    """Why the manifest cannot be read."""
    wrong: tuple[str, ...] | None = None
    """Listed videos with another sha256; None if nobody looked."""

    @property
    def asked(self) -> set[str]:
        """All videos that any split asks about."""
        return {video_id for split in self.splits for video_id in split.asked}

    @property
    def missing(self) -> list[str]:
        """Videos asked about without a file, sorted."""
        return sorted({video_id for split in self.splits for video_id in split.missing})

    @property
    def twice(self) -> list[str]:
        """Ids with more than one file, which extraction refuses."""
        return [video_id for video_id, paths in self.files.items() if len(paths) > 1]

    @property
    def unasked(self) -> list[str]:
        """Videos that no split asks about; none while a split cannot be read."""
        if not self.splits or any(split.questions is None for split in self.splits):
            return []
        return sorted(self.files.keys() - self.asked)

    def to_do(self) -> list[str]:
        """What keeps the dataset from being used in full, and what to do; empty if nothing."""
        todo = [line for split in self.splits for line in split.to_do()]
        if self.missing or not self.files:
            suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
            todo.append(
                f"put the videos below {self.dataset.videos} as <id> with one of {suffixes}"
            )
        if self.twice:
            todo.append(f"keep one file each of {few(self.twice, 3)}")
        if self.manifest_error:
            todo.append(self.manifest_error)
        if self.wrong:
            todo.append(f"get the files again that are not as listed: {few(list(self.wrong), 3)}")
        return todo


def check_data(dataset: DatasetConfig, split: str = "", checksums: bool = False) -> DataCheck:
    """Look at a dataset's annotation files and videos.

    Args:
        dataset: what to look at.
        split: look at this split only.
        checksums: hash the videos that the dataset's manifest lists.
    """
    files = video_files(dataset.videos) if dataset.videos.is_dir() else {}
    chosen = {name: c for name, c in dataset.splits.items() if split in ("", name)}
    check = DataCheck(dataset, tuple(_split(*item, files) for item in chosen.items()), files)
    if dataset.checksums is None:
        return check
    try:
        listed = load_checksums(dataset.checksums)
    except AnnotationError as error:
        return replace(check, manifest_error=str(error))
    return replace(check, listed=listed, wrong=_wrong(files, listed) if checksums else None)


def _split(name: str, config: SplitConfig, files: dict[str, list[Path]]) -> SplitCheck:
    check = SplitCheck(name, config)
    absent = tuple(path for path in check.paths if not path.is_file())
    if absent:
        return replace(check, absent=absent)
    try:
        samples = _samples(config)
    except AnnotationError as error:
        return replace(check, error=str(error))
    asked = tuple(sorted({sample.video_id for sample in samples}))
    missing = tuple(video_id for video_id in asked if video_id not in files)
    return replace(check, questions=len(samples), asked=asked, missing=missing)


def _samples(config: SplitConfig) -> list[QASample]:
    """A split's questions; none where one file serves all splits and has none for this one."""
    try:
        return load_annotations(config)
    except AnnotationError as error:
        if not config.part or error.what != NO_QUESTIONS:
            raise
    load_annotations(replace(config, part=""))  # but a file without any is an error
    return []


def _wrong(files: dict[str, list[Path]], listed: dict[str, str]) -> tuple[str, ...]:
    """Ids of files whose sha256 is not the one listed."""

    def as_listed(video_id: str) -> bool:
        try:
            return file_sha256(files[video_id][0]) == listed[video_id]
        except OSError:
            return False

    known = [video_id for video_id in listed if video_id in files]
    with ThreadPoolExecutor(8) as pool:  # waits for the disk more than for the hash
        right = track(
            pool.map(as_listed, known), "sha256", len(known), console=Console(stderr=True)
        )
        return tuple(video_id for video_id, good in zip(known, right, strict=True) if not good)
