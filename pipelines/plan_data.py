"""How many videos and questions there are, how long they are, and who says so.

Annotation and video files are counted where they are on this machine; else the numbers published in
the dataset's recipe are taken, else those that the user gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console

from eval.judges.cost import text_tokens
from features.annotations import QASample, load_annotations
from features.config import Aspect, BaseConfig, DatasetConfig
from features.errors import ConfigError
from features.layouts import CheckpointParts
from features.plan import find_videos
from features.recipes import find_split
from pipelines.plan_base import local_checkpoint
from pipelines.plan_machine import Range
from pipelines.selection import annotated_ids

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


def token_counter(base: BaseConfig) -> tuple[Count, str]:
    """The base's own tokenizer where it is here, else an estimate; and which it is."""
    if folder := local_checkpoint(base.checkpoint):
        parts = CheckpointParts.open(folder, base.layout)
        tokenizer = None
        if parts.layout.name in ("llava", "llava-hf"):
            from train.llava import load_tokenizer

            tokenizer = load_tokenizer(parts)
        elif parts.layout.name == "qwen-vl":
            from train.qwen_vl import QwenTokenizer

            tokenizer = QwenTokenizer(folder / "qwen.tiktoken")
        if tokenizer is not None:
            known = tokenizer
            return lambda text: len(
                known(text, add_special_tokens=False)["input_ids"]
            ), "counted by the base's tokenizer"
    return lambda text: text_tokens(text, bytes_a_token=4), "about 4 bytes a token"


def questions_of(
    dataset: DatasetConfig, name: str, tokens: Count, given: int | None = None
) -> Questions:
    """How many questions a split has, and how long they are.

    Args:
        dataset: whose.
        name: of the split.
        tokens: how texts are counted.
        given: the user's number of questions, instead of any other.

    Raises:
        ConfigError: no such split, or nobody knows its size.
        AnnotationError: a file that is here is malformed.
    """
    split = find_split(dataset, name)
    wordings = 2 if split.format == "consistency" else 1
    if all(path.is_file() for path in (split.questions, split.answers) if path):
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
    if given is not None:
        videos = videos if count else max(1, given // 8)
        count, source, kept = given, "given", ()
    if not count or not videos:
        raise ConfigError(
            "nobody knows how many questions there are",
            where=f"dataset {dataset.name}, split {name}",
            got=f"no file {split.questions}, and no numbers in the recipe",
            wanted="annotation files, or num_questions and videos of the split",
            do="put the file there, or say --questions, --test_questions and --videos_count",
        )
    return Questions(name, split.aspects, count, videos, *lengths, wordings, source, kept)


def videos_of(
    dataset: DatasetConfig, count: int | None = None, seconds: float | None = None
) -> Videos:
    """How many videos `extract` would do for a dataset, and how large they are.

    Args:
        dataset: whose.
        count: the user's number, instead of any other.
        seconds: the user's mean length.

    Raises:
        ConfigError: nobody knows how many or how long.
        StoreError: two files of one id.
    """
    files = find_videos(dataset.videos) if dataset.videos.is_dir() else {}
    number, source = _count_videos(dataset, count, len(files))
    known = next((k for k in _SECONDS if dataset.name.startswith(k)), "")
    length = seconds or (_SECONDS[known][0] if known else 0.0)
    missing = [] if number else ["--videos_count"]
    missing += [] if length or files else ["--video_seconds"]
    if missing:
        raise ConfigError(
            "nobody knows how large this dataset is",
            where=f"dataset {dataset.name}",
            got=f"no videos in {dataset.videos}, and no numbers in the recipe",
            wanted=" and ".join(missing),
            do=f"say {' and '.join(missing)}, or put the videos there",
        )
    if files:
        mean = fmean(path.stat().st_size for path in files.values())
        source += f"; sizes of {len(files):,} files in {dataset.videos}"
        return Videos(number, length, Range.of(number * mean), True, source)
    source += f"; {length:g} s each" + (" as given" if seconds else f" ({_SECONDS[known][1]})")
    return Videos(number, length, Range(*_BYTES_A_SECOND) * (number * length), False, source)


def _count_videos(dataset: DatasetConfig, given: int | None, files: int) -> tuple[int, str]:
    if given is not None:
        return given, "given"
    splits = dataset.splits
    if splits and all(p.is_file() for s in splits.values() for p in (s.questions, s.answers) if p):
        asked = annotated_ids(dataset, Console(quiet=True)) or []
        return len(asked), "asked about in the annotation files"
    # Splits of other names ask about the same videos, as the three of VCGBench do.
    apart = sum(split.videos or 0 for name, split in splits.items() if name in _DISJOINT)
    same = [split.videos or 0 for name, split in splits.items() if name not in _DISJOINT]
    if published := apart + max(same, default=0):
        return published, "published (recipe; train, val and test added up)"
    return files, "files"
