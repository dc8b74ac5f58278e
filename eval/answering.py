"""The model side of answering: questions with their videos go in, answers come out.

An engine is whatever does that. The torch engine is exact and runs everywhere; eval/vllm_engine.py
is the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from features.spec import canonical_json
from train.batch import Item
from train.decode import Decoder, Sampling
from train.image_llm import ImageLLM
from train.video_llm import VideoLLM


@dataclass(frozen=True)
class Asked:
    """One question to answer."""

    sample_id: str
    wording: int
    """1, or 2 for the other wording of the same question."""
    item: Item


@dataclass(frozen=True)
class Answer:
    """What the LLM said."""

    text: str
    finish_reason: Literal["stop", "length"]
    """`length`: it was cut off at max_new_tokens."""
    num_tokens: int
    """Without the stop token."""


@dataclass(frozen=True)
class Decoding:
    """How an answer is chosen, whatever the engine."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0: the likeliest token always."""
    top_k: int = 50
    sampling_seed: int = 0


@runtime_checkable
class Engine(Protocol):
    """Answers questions; sorted by video, a video passes through the LLM once."""

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """An answer to each, in order."""
        ...


class TorchEngine:
    """The project's own decoding loop (train/decode.py)."""

    def __init__(self, model: VideoLLM, base: ImageLLM, decoding: Decoding) -> None:
        """Projectors in front of their base."""
        self._decode = Decoder(model, base.stop_ids, decoding.max_new_tokens)
        self._base, self._decoding = base, decoding

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """All in one batch."""
        sampling = self._sampling(asked) if self._decoding.temperature > 0 else None
        said = self._decode([each.item for each in asked], sampling)
        return [read_answer(self._base, ids) for ids in said]

    def _sampling(self, asked: Sequence[Asked]) -> Sampling:
        how = self._decoding
        draws = [_draws(seed_of(how.sampling_seed, each), how.max_new_tokens) for each in asked]
        return Sampling(how.temperature, how.top_k, torch.stack(draws))


def read_answer(base: ImageLLM, ids: Sequence[int]) -> Answer:
    """The text of an answer's tokens, of which the last is a stop token unless it was cut off."""
    kept = list(takewhile(lambda token: token not in base.stop_ids, ids))
    text = base.tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Answer(text, "stop" if len(kept) < len(ids) else "length", len(kept))


def seed_of(seed: int, asked: Asked) -> int:
    """A question's own seed: what it draws depends on nothing else that is asked."""
    record = canonical_json([seed, asked.sample_id, asked.wording])
    return int.from_bytes(sha256(record.encode()).digest()[:8]) >> 1


def _draws(seed: int, count: int) -> Float[Tensor, " K"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, generator=generator, dtype=torch.float64)
