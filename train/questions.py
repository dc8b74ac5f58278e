"""The questions of a training or validation split with their features, tokenised once.

A question whose video cannot be used is counted by reason, never skipped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from features.annotations import QASample
from train.batch import Item
from train.packing import pack
from train.prompt import Encoded, Prompter
from train.videos import VideoReader

Row = tuple[int, ...]
"""Indices of questions about one video that share a row."""


@dataclass(frozen=True)
class Source:
    """Questions, and the store with the videos that they are about."""

    samples: Sequence[QASample]
    videos: VideoReader


class QuestionDataset(Dataset[Item]):
    """The questions that can be asked; `lost` counts by reason those that cannot."""

    def __init__(
        self,
        sources: Sequence[Source],
        prompter: Prompter | tuple[Prompter, Prompter],
        num_tokens: Callable[[int, int], int],
        num_frames: int,
        max_length: int,
    ) -> None:
        """Tokenises everything, so that a bad sample is found before the first step.

        Args:
            sources: questions with answers, and their features. Ids differ between sources.
            prompter: the base's prompt; of two the first is for even rows of the annotations and
                the second for odd ones.
            num_tokens: (T', N) -> number of video tokens (VideoProjector.num_tokens).
            num_frames: T of the stores; a text's room is what a full clip leaves.
            max_length: longest sequence, in tokens; a longer answer loses its end (`truncated`).

        Raises:
            AnnotationError: a sample that cannot be rendered at all.
        """
        prompters = prompter if isinstance(prompter, tuple) else (prompter, prompter)
        asked = [
            (sample, source.videos, prompters[row % 2])
            for source in sources
            for row, sample in enumerate(source.samples)
        ]
        # The order of the annotation file is to decide nothing (but which prompt, of two).
        asked.sort(key=lambda question: question[0].sample_id)
        reasons = [videos.lost(sample.video_id) for sample, videos, _ in asked]
        self.lost = Counter(why for why in reasons if why is not None)
        self._questions = [q for q, why in zip(asked, reasons, strict=True) if why is None]
        self.samples = [sample for sample, _, _ in self._questions]
        self.videos = [f"{id(videos)}/{s.video_id}" for s, videos, _ in self._questions]
        """Which video each question is about: equal where it is the same one of the same store."""
        self._num_tokens = num_tokens
        self._encoded: list[Encoded] = []
        if self.samples:
            sample, videos, _ = self._questions[0]
            num_patches = videos[sample.video_id].spatial.shape[0]
            self._video_tokens = num_tokens(num_frames, num_patches)
            room = max_length + 1 - self._video_tokens
            self._encoded = [
                prompter.encode(s.question, s.answer, room, f"sample {s.sample_id}")
                for s, _, prompter in self._questions
            ]
        self.truncated = sum(encoded.truncated for encoded in self._encoded)

    def counts(self) -> dict[str, Any]:
        """How many questions were asked for, used, lost (by reason) and truncated."""
        return {
            "asked": len(self.samples) + self.lost.total(),
            "used": len(self.samples),
            "lost": dict(self.lost),
            "truncated": self.truncated,
        }

    def cost(self, row: Row) -> int:
        """Tokens of a row whose clip is full, about."""
        return self._video_tokens + sum(len(self._encoded[index].ids) for index in row)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: Row) -> Item:
        sample, videos, _ = self._questions[row[0]]
        video = videos[sample.video_id]
        count = self._num_tokens(video.temporal.shape[0], video.spatial.shape[0])
        rendered = [self._questions[i][2].expand(self._encoded[i], count) for i in row]
        prompt = pack(rendered, where=f"video {sample.video_id}")
        return Item(tuple(self.samples[i].sample_id for i in row), prompt, video)
