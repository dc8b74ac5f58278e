"""How many videos and questions there are, how long they are, and who says so.

Annotation and video files are counted where they are on this machine; else the numbers published in
the dataset's recipe are taken, else those that the user gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.console import Console

from eval.judges.cost import text_tokens
from features.annotations import QASample, load_annotations
from features.config import Aspect, BaseConfig, DatasetConfig, SplitConfig
from features.errors import ConfigError
from features.layouts import CheckpointParts
from features.plan import find_videos
from features.recipes import find_split
from pipelines.plan_base import local_checkpoint
from pipelines.plan_machine import Range
from pipelines.selection import annotated_ids
from train.llava import load_tokenizer
from train.qwen_vl import QwenTokenizer

Count = Callable[[str], int]
"""Tokens of a text."""
_LOOKED_AT = 2000
"""Questions whose length is measured."""
_DISJOINT = ("train", "val", "test")
_TEXTS = {"videoinstruct": (16.0, 90.0), "vcgbench": (15.0, 80.0), "consistency": (15.0, 80.0)}
"""Tokens of a question and its reference answer, about, by format."""
_SHORT = (11.0, 3.0)
"""The same of every other format: question answering in a word or two."""
_SECONDS = {
    "activitynet": (117.0, "648 hours / 19,994 videos"),
    "vcgbench": (117.0, "as ActivityNet"),
    "msrvtt": (15.0, "41.2 hours / 10,000 clips"),
    "msvd": (10.0, "clips of about 10 s"),
    "tgif": (3.1, "3.1 s on average"),
}
"""Mean length of a published set's videos, by the beginning of its name."""
_BYTES_A_SECOND = (80e3, 300e3)
"""Of web video."""


@dataclass(frozen=True)
class Questions:
    """One split."""

    split: str
    aspects: tuple[Aspect, ...]
    count: int
    videos: int
    question: float
    """Mean tokens of a question."""
    answer: float
    """Mean tokens of a reference answer."""
    wordings: int
    """Of each question."""
    source: str
    samples: tuple[QASample, ...] = ()
    """Where the files are here."""


@dataclass(frozen=True)
class Videos:
    """All videos that a dataset asks about."""

    count: int
    seconds: float
    """Mean length; 0 where only the files know."""
    nbytes: Range
    """Of all files."""
    here: bool
    """Whether there are files, so that decoding can be measured."""
    source: str
    decode_s: float | None = None
    """CPU seconds of decoding one, where that was measured."""


def is_here(split: SplitConfig) -> bool:
    """Whether its annotation files are on this machine."""
    return all(path.is_file() for path in (split.questions, split.answers) if path)


def token_counter(base: BaseConfig) -> tuple[Count, str]:
    """The base's own tokenizer where it is here, else an estimate; and which it is."""
    folder = local_checkpoint(base.checkpoint)
    parts = CheckpointParts.open(folder, base.layout) if folder else None
    tokenizer: Any = None
    if parts and parts.layout.name in ("llava", "llava-hf"):
        tokenizer = load_tokenizer(parts)
    elif parts and parts.layout.name == "qwen-vl":
        tokenizer = QwenTokenizer(parts.folder / "qwen.tiktoken")
    if tokenizer is None:
        return lambda text: text_tokens(text, bytes_a_token=4), "about 4 bytes a token"

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count, "counted by the base's tokenizer"


def questions_of(dataset: DatasetConfig, name: str, tokens: Count) -> Questions:
    """How many questions a split has, and how long they are.

    Raises:
        ConfigError: no such split, or nobody knows its size.
        AnnotationError: a file that is here is malformed.
    """
    split = find_split(dataset, name)
    wordings = 2 if split.format == "consistency" else 1
    if is_here(split):
        samples = load_annotations(split)
        some = samples[:: max(1, len(samples) // _LOOKED_AT)]
        lengths = (
            fmean(tokens(s.question) for s in some),
            fmean(tokens(s.answer) for s in some),
        )
        videos, source = len({s.video_id for s in samples}), f"counted in {split.questions}"
        count, kept = len(samples), tuple(samples)
    else:
        lengths, kept = _TEXTS.get(split.format, _SHORT), ()
        count, videos, source = split.num_questions or 0, split.videos or 0, "published (recipe)"
    if not count or not videos:
        raise ConfigError(
            "nobody knows how many questions there are",
            where=f"dataset {dataset.name}, split {name}",
            got=f"no file {split.questions}, and no numbers in the recipe",
            do="put the file there, or num_questions and videos into the dataset's recipe",
        )
    return Questions(name, split.aspects, count, videos, *lengths, wordings, source, kept)


def videos_of(dataset: DatasetConfig, seconds: float | None = None) -> Videos:
    """How many videos `extract` would do for a dataset, and how large they are.

    Args:
        dataset: whose.
        seconds: the user's mean length, where no files are here.

    Raises:
        ConfigError: nobody knows how many or how long.
        StoreError: two files of one id.
    """
    files = find_videos(dataset.videos) if dataset.videos.is_dir() else {}
    number, source = _count_videos(dataset, len(files))
    if files:
        mean = fmean(path.stat().st_size for path in files.values())
        source += f"; sizes of {len(files):,} files in {dataset.videos}"
        return Videos(number, 0.0, Range.of(number * mean), True, source)
    known = next((k for k in _SECONDS if dataset.name.startswith(k)), "")
    length, why = (seconds, "given") if seconds else _SECONDS.get(known, (0.0, ""))
    if not number or length <= 0:
        raise ConfigError(
            "nobody knows how large this dataset is",
            where=f"dataset {dataset.name}",
            got=f"no videos in {dataset.videos}",
            wanted="their number and length",
            do="put them there, or say --video_seconds and put `videos` of each split into the "
            "dataset's recipe",
        )
    nbytes = Range(*_BYTES_A_SECOND) * (number * length)
    return Videos(number, length, nbytes, False, f"{source}; {length:g} s each ({why})")


def _count_videos(dataset: DatasetConfig, files: int) -> tuple[int, str]:
    splits = dataset.splits
    if splits and all(map(is_here, splits.values())):
        asked = annotated_ids(dataset, Console(quiet=True)) or []
        return len(asked), "asked about in the annotation files"
    # Splits of other names ask about the same videos, as the three of VCGBench do.
    apart = sum(split.videos or 0 for name, split in splits.items() if name in _DISJOINT)
    same = [split.videos or 0 for name, split in splits.items() if name not in _DISJOINT]
    if published := apart + max(same, default=0):
        return published, "published (recipe; splits added up)"
    return files, "files"
