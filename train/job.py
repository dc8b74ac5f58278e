"""What a training run is made of, with every `auto` decided, and the questions it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console

from features.annotations import QASample
from features.config import BaseConfig, Budget
from features.errors import ConfigError
from features.spec import SCHEMA_VERSION
from train.image_llm import ImageLLM, base_digest
from train.options import LAST_BITS, NO_INFLUENCE, TrainConfig
from train.projectors import VideoProjector
from train.prompt import Prompter
from train.questions import QuestionDataset, Source
from train.sources import OpenData, check_width, samples_of, share_of
from train.steps import StepSampler
from train.videos import VideoReader


@dataclass(frozen=True)
class Job:
    """What a run is made of, with every `auto` decided."""

    config: TrainConfig
    budget: Budget
    base: BaseConfig
    data: Sequence[OpenData]
    device: torch.device
    dtype: torch.dtype
    console: Console

    @property
    def name(self) -> str:
        """Of what is trained on, as in the run's path."""
        return "+".join(one.dataset.name for one in self.data)

    def samples(self, split: str) -> list[list[QASample]]:
        """The questions of each dataset; of the `train` split about the share of its videos.

        Raises:
            ConfigError: no such split.
        """
        found = samples_of(self.data, split)
        if split != "train":
            return found
        return [share_of(samples, self.config.data) for samples in found]

    def record(self) -> dict[str, Any]:
        """Everything that decides the result, as plain YAML values."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in NO_INFLUENCE}
        how = {name: settings.pop(name) for name in LAST_BITS}
        base = {k: v for k, v in asdict(self.base).items() if k not in ("budgets", "licence")}
        base["stop"] = list(self.base.stop)  # as YAML gives it back
        splits = ("train", "val") if self.config.val_every else ("train",)
        return {
            "schema": SCHEMA_VERSION,
            "train": settings | asdict(self.budget),
            "device": {"type": self.device.type, "llm_dtype": str(self.dtype)},
            "base": base | {"digest": base_digest(self.base)},
            "how": how,
            "data": {split: [one.record(split) for one in self.data] for split in splits},
        }


def questions_of(
    job: Job, base: ImageLLM, projector: VideoProjector, split: str
) -> QuestionDataset:
    """The questions of a split with their features.

    Raises:
        ConfigError: no such split.
        StoreError: the features are not as wide as the base's eyes see.
    """
    config = job.config
    check_width(job.data, base.aligner.width)
    if config.questions_per_row > 1 and base.attention == "bidirectional-prefix":
        raise ConfigError(
            "this base's video sees the question, so that questions cannot share it",
            where=f"base {base.name}",
            got=f"questions_per_row {config.questions_per_row}",
            wanted="1",
        )
    memory = config.cache_bytes // len(job.data)
    sources = [
        Source(samples, VideoReader(one.features, config.switches, memory))
        for one, samples in zip(job.data, job.samples(split), strict=True)
    ]
    return QuestionDataset(
        sources,
        _prompters(job, base),
        projector.num_tokens,
        job.data[0].features.spec.num_frames,
        config.max_length,
    )


def _prompters(job: Job, base: ImageLLM) -> Prompter | tuple[Prompter, Prompter]:
    """The base's prompt; alternating as Video-ChatGPT's conversion script does it."""
    first = Prompter.of(job.base, base)
    if job.config.video_order == "first":
        return first
    return Prompter.of(job.base, base, video_last=True), first


def limits_of(job: Job, base: ImageLLM) -> tuple[int, int, int]:
    """Padding's id, most questions and most tokens of a micro-batch."""
    return base.pad_token_id, job.config.micro_batch, job.config.micro_tokens


def say_questions(job: Job, dataset: QuestionDataset, sampler: StepSampler) -> None:
    """What is trained on and what is not.

    Raises:
        ConfigError: not enough for one optimizer step.
    """
    console, budget = job.console, job.budget
    say_lost(job, dataset, "training")
    if dataset.truncated:
        console.print(f"{dataset.truncated:,} answers lost their end to max_length")
    if not len(sampler) and budget.epochs:
        raise ConfigError(
            "not enough questions for one optimizer step",
            got=f"{len(dataset)} questions x {budget.epochs} epochs",
            wanted=f"at least batch_size = {budget.batch_size}",
        )
    console.print(
        f"{len(dataset):,} questions x {budget.epochs} epochs = {len(sampler):,} steps of "
        f"{budget.batch_size}; {sampler.dropped} left over at the end are dropped"
    )


def say_lost(job: Job, dataset: QuestionDataset, kind: str) -> None:
    """How many questions cannot be asked, and why."""
    if dataset.lost:
        reasons = ", ".join(f"{code} {n:,}" for code, n in sorted(dataset.lost.items()))
        lost, asked = dataset.lost.total(), dataset.counts()["asked"]
        job.console.print(f"lost {lost:,} of {asked:,} {kind} questions: {reasons}")
