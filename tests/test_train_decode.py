"""Decoding of many questions at once against each by itself, prefilled anew for every token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_hf import FAMILIES, write

from features.config import BaseConfig
from train.batch import Item, collate
from train.decode import Decoder
from train.image_llm import load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

NEW = 6
WORDS = ["what", "colour", "is", "the", "circle", "red", "first", "last", "moves", "where"]


class Asker:
    """A base in float64 with clips of several lengths and many questions about each."""

    def __init__(self, base: BaseConfig, video_last: bool = False) -> None:
        self.llm = load_image_llm(base, dtype=torch.float64)
        with torch.no_grad():  # or an LLM whose head is its table only repeats the last word
            self.llm.llm.get_input_embeddings().weight.mul_(0.05)
        switches = ProjectorSwitches(temporal_module="random")
        projector = VideoProjector(self.llm.aligner, self.llm.hidden_size, switches)
        self.model = VideoLLM.of(projector, self.llm).eval()
        self.prompter = Prompter.of(base, self.llm, video_last)
        self.decoder = Decoder(self.model, (-1,), NEW)

    def items(self, counts: tuple[int, ...] = (5, 1, 3), patches: int = 4) -> list[Item]:
        rng = np.random.default_rng(0)
        generator = torch.Generator().manual_seed(1)
        items = []
        for number, count in enumerate(counts):
            temporal = torch.randn(
                2 + 3 * (number % 3), self.llm.aligner.width, generator=generator
            )
            spatial = torch.randn(patches, self.llm.aligner.width, generator=generator)
            video = Video(temporal, spatial)
            tokens = self.model.projector.num_tokens(len(temporal), patches)
            for _ in range(count):
                question = " ".join(rng.choice(WORDS, rng.integers(1, 9)))
                items.append(Item((), self.prompter.render(question, None, tokens), video))
        return items


def one_at_a_time(asker: Asker, item: Item, count: int = NEW) -> list[int]:
    """No cache, no padding, no batch: prompt and answer so far in one go for every token."""
    prompt, said = item.prompt, []  # type: ignore[var-annotated]
    while len(said) < count:
        more = np.asarray(said, np.int64)
        whole = replace(
            prompt,
            input_ids=np.concatenate([prompt.input_ids, more]),
            labels=np.concatenate([prompt.labels, more]),
            segment_ids=np.concatenate([prompt.segment_ids, np.ones_like(more)]),
            position_ids=np.arange(len(prompt.input_ids) + len(more)),
        )
        with torch.no_grad():
            batch = collate([replace(item, prompt=whole)], 0)
            hidden = asker.model.hidden(batch).last_hidden_state[0, -1]
            said.append(int(asker.model.logits(hidden).argmax()))
        if said[-1] == asker.llm.image_token_id:
            break  # a random LLM may say the placeholder, which this reference cannot read
    return said


def same_beginning(asker: Asker, items: list[Item], answers: list[list[int]]) -> int:
    compared = 0
    for item, answer in zip(items, answers, strict=True):
        wanted = one_at_a_time(asker, item)
        assert answer[: len(wanted)] == wanted
        compared += len(wanted)
    return compared


def hf_base(name: str, folder: Path) -> BaseConfig:
    write(name, folder)
    facts = {"layer": FAMILIES[name].layer, "regrouping": FAMILIES[name].regrouping}
    return BaseConfig("tiny", str(folder), image_size=32, normalisation="half", **facts)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_as_one_at_a_time(name: str, tmp_path: Path) -> None:
    asker = Asker(hf_base(name, tmp_path / name))
    items = asker.items()
    answers = asker.decoder(items)
    assert same_beginning(asker, items, answers) > len(items) * NEW // 2
    assert len({tuple(a) for a in answers}) > 3


@pytest.mark.parametrize("window", [2, 5, 9])
@pytest.mark.parametrize("name", ["gemma3", "paligemma2", "llava-next"])
def test_windows_shorter_than_the_prompt_are_measured_in_the_questions_own_tokens(
    name: str, window: int, tmp_path: Path
) -> None:
    base = hf_base(name, tmp_path / name)
    asker = Asker(base)
    asker.llm.llm.config.sliding_window = window
    for layer in asker.llm.llm.model.layers:
        if getattr(layer.self_attn, "sliding_window", None):
            layer.self_attn.sliding_window = window
    items = asker.items((4, 2))
    answers = asker.decoder(items)
    same_beginning(asker, items, answers)
    asker.llm.llm.config.sliding_window = 10**6  # else the window would not matter here
    assert Decoder(asker.model, (-1,), NEW)(items) != answers
