"""Questions in batches that share their videos, and the same one at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from benchmarks.results import Measured
from benchmarks.train_world import SCALES as WORLDS
from benchmarks.train_world import TrainScale, make_world
from eval.generate import GenerateConfig
from features.device import intra_op_threads
from features.store import FeatureStore
from train.batch import Item, collate
from train.decode import Decoder
from train.image_llm import load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import VideoReader

BATCH_SIZE = GenerateConfig.batch_size
"""As `eval` has it by default."""


@dataclass(frozen=True)
class DecodeScale:
    """How much is measured."""

    name: str
    world: TrainScale
    questions: int = 10
    """About each video."""
    new_tokens: int = 32
    alone: int = 30
    """Questions that are also asked one at a time."""
    exact_videos: int = 7
    """Whose questions are decoded in float64."""
    exact_alone: int = 20
    """Of them asked one at a time."""


SCALES = {
    scale.name: scale
    for scale in (
        DecodeScale("full", replace(WORLDS["full"], videos=50)),
        DecodeScale(
            "quick", replace(WORLDS["quick"], videos=10), alone=10, exact_videos=2, exact_alone=4
        ),
        DecodeScale(
            "tiny",
            replace(WORLDS["tiny"], videos=5),
            questions=4,
            new_tokens=6,
            alone=8,
            exact_videos=3,
            exact_alone=8,
        ),
    )
}


class DecodeWorld:
    """A Video LLM of random weights, and the questions."""

    def __init__(self, root: Path, scale: DecodeScale, dtype: torch.dtype) -> None:
        world = make_world(root, scale.world)
        base = load_image_llm(world.base, dtype=dtype)
        _make_talkative(base.llm)
        projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches())
        self.model = VideoLLM.of(projector, base).eval()
        prompter, videos = Prompter.of(world.base, base), VideoReader(FeatureStore(world.store))
        rng = np.random.default_rng(0)
        self.items: list[Item] = []
        for number in range(scale.world.videos):
            video = videos[f"v_{number:05d}"]
            count = projector.num_tokens(len(video.temporal), len(video.spatial))
            asked = []
            for _ in range(scale.questions):
                # Words of the rehearsal's tokenizer, one token each; the first few are special.
                words = rng.integers(10, scale.world.vocabulary - 2, rng.integers(8, 21))
                text = " ".join(f"w{word}" for word in words)
                asked.append(Item((), prompter.render(text, None, count), video))
            self.items += sorted(asked, key=lambda item: len(item.prompt.input_ids))
        llm: Any = base.llm
        llm.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=scale.new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None
        )

    def together(self, items: Sequence[Item], new_tokens: int) -> Iterator[list[list[int]]]:
        """All, in batches, by the project's own decoding. Nothing ends an answer early."""
        decoder = Decoder(self.model, (), new_tokens)
        for start in range(0, len(items), BATCH_SIZE):
            yield decoder(items[start : start + BATCH_SIZE])

    @torch.inference_mode()
    def alone(self, item: Item) -> tuple[list[int], Tensor]:
        """One by transformers' `generate`: its tokens, and the logits of each, (K, V)."""
        batch = collate([item], 0)
        llm: Any = self.model.llm
        found = llm.generate(
            inputs_embeds=self.model.embed(batch),
            attention_mask=batch.attention_mask,
            return_dict_in_generate=True,
            output_logits=True,
        )
        return found.sequences[0].tolist(), torch.cat(found.logits)


def measure_speed(root: Path, scale: DecodeScale) -> Measured:
    """Seconds a question in float32 each way, and where the two ways' answers part."""
    world = DecodeWorld(root, scale, torch.float32)
    places = _sample(len(world.items), scale.alone)
    answers: list[list[int]] = []
    single: dict[int, tuple[list[int], Tensor]] = {}
    spent = {"together": 0.0, "alone": 0.0}
    with intra_op_threads(world.model):
        list(world.together(world.items[:BATCH_SIZE], 2))  # warm
        world.alone(world.items[0])
        batches = world.together(world.items, scale.new_tokens)
        while len(answers) < len(world.items):
            began = time.perf_counter()
            answers += next(batches)
            middle = time.perf_counter()
            # Behind each batch, so that a machine that is slow for a while slows both.
            for place in places[len(single) :]:
                if place < len(answers):
                    single[place] = world.alone(world.items[place])
            spent["together"] += middle - began
            spent["alone"] += time.perf_counter() - middle
    _check_varied(answers)
    ours, theirs = spent["together"] / len(answers), spent["alone"] / len(places)
    margins = [
        _margin(answers[place], *said)
        for place, said in single.items()
        if answers[place] != said[0]
    ]
    return Measured(
        {
            "speedup_over_one_at_a_time": theirs / ours,
            "float32_margin_max": max(margins, default=0.0),
            "float32_divergences": float(len(margins)),
            "float32_compared": float(len(places)),
            "ms_a_question": 1e3 * ours,
        },
        {"together_a_question": ours, "alone_a_question": theirs},
    )


def measure_float64(root: Path, scale: DecodeScale) -> Measured:
    """Share of answers that are the same to the last token both ways in float64."""
    world = DecodeWorld(root, scale, torch.float64)
    items = world.items[: scale.exact_videos * scale.questions]
    with intra_op_threads(world.model):
        answers = [a for batch in world.together(items, scale.new_tokens) for a in batch]
        places = _sample(len(items), scale.exact_alone)
        same = [answers[place] == world.alone(items[place])[0] for place in places]
    _check_varied(answers)
    return Measured({"token_identical": sum(same) / len(same)})


def _make_talkative(llm: Any) -> None:
    """Other random weights: as they come the LLM says the same few words whatever it is asked."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in llm.named_parameters():
            if weight.ndim == 2:
                spread = 1.0 if "embed" in name else 1.5 * weight.shape[1] ** -0.5
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))


def _sample(count: int, wanted: int) -> list[int]:
    chosen = np.random.default_rng(1).choice(count, min(count, wanted), replace=False)
    return sorted(int(place) for place in chosen)


def _margin(ours: list[int], theirs: list[int], logits: Tensor) -> float:
    """How much likelier their token was than the next at the first one that differs."""
    first = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    top = logits[first].topk(2).values
    return float(top[0] - top[1])


def _check_varied(answers: Sequence[list[int]]) -> None:
    """Answers that are all alike would prove nothing."""
    if len({tuple(answer) for answer in answers}) < 0.9 * len(answers):
        raise RuntimeError("most questions got the same answer: nothing is compared")
