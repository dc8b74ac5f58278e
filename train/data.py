"""From stored features and annotations to optimizer steps.

One item of the DataLoader is one optimizer step: exactly the recipe's number of questions, cut into
micro-batches of similar length. Which questions form a step depends on the seed alone. A question
whose video cannot be used is counted by reason, never skipped in silence.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from features.annotations import QASample
from features.errors import StoreError
from features.pooling import window_pool
from features.store import FeatureStore
from train.prompt import IGNORE, PADDING_SEGMENT, Encoded, Prompter, Rendered

NOT_EXTRACTED = "not-extracted"
"""Why a question is lost whose video the store has never seen."""


@dataclass(frozen=True)
class Video:
    """One video's features, float32, valid rows only."""

    temporal: Float[Tensor, "T D"]
    spatial: Float[Tensor, "N D"]


class VideoReader:
    """Reads a store, pools patches in windows, and keeps videos in memory as long as they fit."""

    def __init__(
        self, store: FeatureStore, spatial_window: int = 1, cache_bytes: int = 1 << 30
    ) -> None:
        """Reads `store`; each process keeps up to `cache_bytes` (the first videos it meets)."""
        self._store = store
        self._failures = store.failures
        self._window = spatial_window
        self._cache: dict[str, Video] = {}
        self._cache_bytes = cache_bytes

    def lost(self, video_id: str) -> str | None:
        """Why the video cannot be used, or None."""
        if video_id in self._store:
            return None
        return self._failures.get(video_id, (NOT_EXTRACTED, ""))[0]

    def __getitem__(self, video_id: str) -> Video:
        if video_id in self._cache:
            return self._cache[video_id]
        stored = self._store[video_id]
        # torch, not numpy: ten times as fast from float16.
        temporal = torch.from_numpy(stored.temporal).float()
        spatial = torch.from_numpy(stored.spatial).float()
        if not (_is_finite(temporal) and _is_finite(spatial)):
            raise StoreError(
                "a stored feature is not finite",
                where=video_id,
                do="verify the store, extract again",
            )
        if self._window > 1:
            spatial = window_pool(spatial, self._window)
        video = Video(temporal, spatial)
        self._cache_bytes -= temporal.nbytes + spatial.nbytes
        if self._cache_bytes >= 0:
            self._cache[video_id] = video
        return video


def _is_finite(x: Float[Tensor, "_ D"]) -> bool:
    """A finite sum is proof, and takes a twentieth of the time."""
    return bool(x.sum().isfinite() or x.isfinite().all())


@dataclass(frozen=True)
class Item:
    """A question with its video, ready to be collated."""

    sample_id: str
    prompt: Rendered
    video: Video


class QuestionDataset(Dataset[Item]):
    """The questions that can be asked; `lost` counts by reason those that cannot."""

    def __init__(
        self,
        samples: Sequence[QASample],
        videos: VideoReader,
        prompter: Prompter,
        num_tokens: Callable[[int, int], int],
        num_frames: int,
        max_length: int,
    ) -> None:
        """Tokenises everything, so that a bad sample is found before the first step.

        Args:
            samples: questions with answers.
            videos: their features.
            prompter: the base's prompt.
            num_tokens: (T', N) -> number of video tokens (VideoProjector.num_tokens).
            num_frames: T of the store; a text's room is what a full clip leaves.
            max_length: longest sequence, in tokens; a longer answer loses its end (`truncated`).

        Raises:
            AnnotationError: a sample that cannot be rendered at all.
        """
        # The order of the annotation file is to decide nothing.
        samples = sorted(samples, key=lambda sample: sample.sample_id)
        reasons = [videos.lost(sample.video_id) for sample in samples]
        self.lost = Counter(why for why in reasons if why is not None)
        self.samples = [s for s, why in zip(samples, reasons, strict=True) if why is None]
        self._videos, self._prompter, self._num_tokens = videos, prompter, num_tokens
        self._encoded: list[Encoded] = []
        if self.samples:
            num_patches = videos[self.samples[0].video_id].spatial.shape[0]
            room = max_length + 1 - num_tokens(num_frames, num_patches)
            self._encoded = [
                prompter.encode(s.question, s.answer, room, f"sample {s.sample_id}")
                for s in self.samples
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

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        video = self._videos[sample.video_id]
        count = self._num_tokens(video.temporal.shape[0], video.spatial.shape[0])
        rendered = self._prompter.expand(self._encoded[index], count)
        return Item(sample.sample_id, rendered, video)


class StepSampler(Sampler[list[int]]):
    """Indices of each optimizer step: seeded permutations end to end, cut into full steps.

    A step may straddle two epochs; what is left at the very end is `dropped`. The order is a
    function of the arguments alone, so a position in it is a step number.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        epochs: int,
        seed: int,
        max_steps: int | None = None,
    ) -> None:
        self._num_samples, self._batch_size = num_samples, batch_size
        self._epochs, self._seed = epochs, seed
        whole = num_samples * epochs // batch_size
        self._num_steps = whole if max_steps is None else min(whole, max_steps)
        self.dropped = num_samples * epochs - self._num_steps * batch_size

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[int]]:
        waiting: list[int] = []
        left = self._num_steps
        for epoch in range(self._epochs):
            waiting += (
                np.random.default_rng([self._seed, epoch]).permutation(self._num_samples).tolist()
            )
            while left and len(waiting) >= self._batch_size:
                left -= 1
                yield waiting[: self._batch_size]
                waiting = waiting[self._batch_size :]


@dataclass(frozen=True)
class Batch:
    """A micro-batch. Padding has segment -1 and label -100; features of absent rows are 0."""

    sample_ids: tuple[str, ...]
    input_ids: Int[Tensor, "B L"]
    labels: Int[Tensor, "B L"]
    """Not shifted."""
    segment_ids: Int[Tensor, "B L"]
    position_ids: Int[Tensor, "B L"]
    temporal: Float[Tensor, "B T D"]
    temporal_valid: Bool[Tensor, "B T"]
    spatial: Float[Tensor, "B N D"]
    spatial_valid: Bool[Tensor, "B N"]
    num_answer_tokens: int
    side: Literal["right", "left"] = "right"
    """Where the padding is."""

    @property
    def attention_mask(self) -> Int[Tensor, "B L"]:
        """1 where there is a token."""
        return (self.segment_ids != PADDING_SEGMENT).long()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(
    items: Sequence[Item], pad_token_id: int, side: Literal["right", "left"] = "right"
) -> Batch:
    """Pad to the longest: on the right for training, on the left for generation."""
    prompts = [item.prompt for item in items]
    labels = _pad_ids([p.labels for p in prompts], IGNORE, side)
    temporal, temporal_valid = _pad_rows([item.video.temporal for item in items])
    spatial, spatial_valid = _pad_rows([item.video.spatial for item in items])
    return Batch(
        sample_ids=tuple(item.sample_id for item in items),
        input_ids=_pad_ids([p.input_ids for p in prompts], pad_token_id, side),
        labels=labels,
        segment_ids=_pad_ids([p.segment_ids for p in prompts], PADDING_SEGMENT, side),
        position_ids=_pad_ids([np.arange(len(p.input_ids)) for p in prompts], 0, side),
        temporal=temporal,
        temporal_valid=temporal_valid,
        spatial=spatial,
        spatial_valid=spatial_valid,
        num_answer_tokens=int((labels[:, 1:] != IGNORE).sum()),
        side=side,
    )


def _pad_ids(
    rows: Sequence[Int[np.ndarray, " _"]], value: int, side: Literal["right", "left"]
) -> Int[Tensor, "B L"]:
    padded = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[slice(0, len(row)) if side == "right" else slice(len(target) - len(row), None)] = row
    return torch.from_numpy(padded)


def _pad_rows(
    rows: Sequence[Float[Tensor, "_ D"]],
) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def cut_step(
    items: Sequence[Item], pad_token_id: int, max_questions: int, max_tokens: int
) -> list[Batch]:
    """Cut a step into micro-batches of similar length, longest first.

    Args:
        items: the step's questions.
        pad_token_id: fills input_ids.
        max_questions: most questions a micro-batch.
        max_tokens: most tokens a micro-batch, padding included; a longer question goes alone.
    """
    groups: list[list[Item]] = []
    for item in sorted(items, key=lambda item: -len(item.prompt.input_ids)):
        # The first of a group is its longest.
        size = len(groups[-1]) + 1 if groups else 0
        fits = size and size * len(groups[-1][0].prompt.input_ids) <= max_tokens
        if fits and size <= max_questions:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [collate(group, pad_token_id) for group in groups]


def make_loader(
    dataset: QuestionDataset,
    sampler: StepSampler,
    pad_token_id: int,
    max_questions: int,
    max_tokens: int,
    num_workers: int = 0,
) -> StatefulDataLoader[list[Batch]]:
    """One item an optimizer step: the list of its micro-batches."""
    cut = partial(
        cut_step, pad_token_id=pad_token_id, max_questions=max_questions, max_tokens=max_tokens
    )
    with warnings.catch_warnings():
        # torchdata 0.11 calls a function that torch 2.14 deprecates.
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")
        return StatefulDataLoader(
            dataset, batch_sampler=sampler, collate_fn=cut, num_workers=num_workers
        )
