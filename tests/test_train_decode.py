"""Decoding of many questions at once against each by itself, prefilled anew for every token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bases import write_clip, write_llava, write_qwen_vl
from tiny_hf import FAMILIES, write

from features.config import BaseConfig
from train.batch import Item, collate
from train.decode import Decoder, Sampling, _arrange
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


def mini(mini_dir: Path, **change: str) -> BaseConfig:
    return BaseConfig("mini", str(mini_dir), image_size=32, **change)  # type: ignore[arg-type]


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


def test_the_original_bases_answer_as_one_at_a_time(tmp_path: Path) -> None:
    write_qwen_vl(tmp_path / "qwen", chat=True)
    write_clip(tmp_path / "clip")
    write_llava(tmp_path / "llava", clip_folder=tmp_path / "clip")
    chat = {"prompt": "qwen-chatml", "stop": ("<|im_end|>",), "image_token": "<imgpad>"}
    for base in (
        BaseConfig("qwen", str(tmp_path / "qwen"), image_size=64, **chat),  # type: ignore[arg-type]
        BaseConfig("llava", str(tmp_path / "llava"), image_size=32),
    ):
        asker = Asker(base)
        items = asker.items((4, 3), patches=16)
        assert same_beginning(asker, items, asker.decoder(items)) > 20


@pytest.mark.parametrize(
    ("prompt", "video_last"),
    [
        ("USER: <image>\n{question} ASSISTANT:", True),  # video_order alternating
        ("USER: {question} ASSISTANT: <image>", False),  # nothing stands behind the video
        ("<image>{question} ASSISTANT:", False),
    ],
)
def test_the_video_may_stand_anywhere(mini_dir: Path, prompt: str, video_last: bool) -> None:
    asker = Asker(mini(mini_dir, prompt=prompt), video_last)
    items = asker.items()
    assert same_beginning(asker, items, asker.decoder(items)) == len(items) * NEW


def test_each_video_is_prefilled_once_though_its_questions_are_cut_over_batches(
    mini_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(mini(mini_dir))
    items = asker.items((5, 1, 3, 2))
    whole = asker.decoder(items)
    passes: list[int] = []
    hidden = VideoLLM.hidden

    def counted(self: VideoLLM, batch: Any, cache: Any = None) -> Any:
        passes.append(batch.input_ids.shape[1])
        return hidden(self, batch, cache)

    monkeypatch.setattr(VideoLLM, "hidden", counted)
    decoder = Decoder(asker.model, (-1,), NEW)
    cut = [answer for i in range(0, len(items), 3) for answer in decoder(items[i : i + 3])]
    assert cut == whole
    assert len(passes) == 4
    assert passes == [int((items[i].prompt.segment_ids == 0).sum()) for i in (0, 5, 6, 9)]


def test_a_finished_answer_costs_nothing_more_and_changes_no_other(
    mini_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = Asker(mini(mini_dir))
    items = asker.items((4, 1, 2, 1, 1))
    free = asker.decoder(items)
    stops = {free[0][1], free[4][0], free[7][2]}
    sizes: list[tuple[int, int]] = []
    body: Any = asker.llm.llm.model
    forward = type(body).forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(body), "forward", watched)
    got = Decoder(asker.model, stops, NEW)(items)
    for answer, whole in zip(got, free, strict=True):
        ends = [n for n, token in enumerate(whole) if token in stops]
        assert answer == (whole[: ends[0] + 1] if ends else whole)
    lengths = [len(answer) for answer in got]
    assert len(set(lengths)) > 2
    steps = sizes[-(max(lengths) - 1) :]  # those behind the questions, a token each
    for n, (rows, width) in enumerate(steps, start=1):
        assert rows * width >= sum(length > n for length in lengths)
    assert steps[-1] < steps[0]
    assert sum(r * w for r, w in steps) < len(steps) * steps[0][0] * steps[0][1]


def test_rows_are_neither_all_padding_nor_all_video(mini_dir: Path) -> None:
    asker = Asker(mini(mini_dir))

    def rows(*counts: int) -> list[int]:
        items = asker.items(counts)
        shared = [int((item.prompt.segment_ids == 0).sum()) for item in items]
        found = _arrange(items, shared)
        assert sorted(q for row in found for q in row) == list(range(len(items)))
        assert all(len({id(items[q].video) for q in row}) == 1 for row in found)
        return [len(row) for row in found]

    assert rows(10, 10, 10) == [10, 10, 10]
    assert rows(1, 1, 1) == [1, 1, 1]
    assert rows(12, 1, 1, 1, 1, 1, 1) == [2] * 6 + [1] * 6  # 12 x (2 + 1) < 7 x (12 + 1)


def test_drawn_tokens_follow_the_distribution_and_their_own_numbers_alone(mini_dir: Path) -> None:
    asker = Asker(mini(mini_dir))
    item = asker.items((1,))[0]
    with torch.no_grad():
        hidden = asker.model.hidden(collate([item], 0)).last_hidden_state[0, -1]
        logits = asker.model.logits(hidden)
    temperature = float(logits.std())
    wanted = (logits / temperature).softmax(0)
    likeliest = wanted.topk(5).indices
    wanted = wanted[likeliest] / wanted[likeliest].sum()
    decoder = Decoder(asker.model, (-1,), 1)
    draws = (torch.arange(400, dtype=torch.float64)[:, None] + 0.5) / 400
    said = torch.tensor(decoder([item] * 400, Sampling(temperature, 5, draws)))[:, 0]
    for token, share in zip(likeliest, wanted, strict=True):
        assert abs((said == token).double().mean() - share) <= 1 / 400
    assert set(said.tolist()) == set(likeliest.tolist())
    alone = [decoder([item], Sampling(temperature, 5, draws[n : n + 1]))[0][0] for n in (3, 333)]
    assert alone == said[[3, 333]].tolist()


@pytest.mark.parametrize("name", ["llava-next", "gemma3", "paligemma2", "qwen2-vl"])
def test_half_precision_decodes_what_padding_and_masks_leave_finite(
    name: str, tmp_path: Path
) -> None:
    asker = Asker(hf_base(name, tmp_path / name))
    items = asker.items((3, 1, 2))
    wanted = asker.decoder(items)
    asker.llm.llm.half()
    got = Decoder(asker.model, (-1,), NEW)(items)
    same = [a == b for pair in zip(wanted, got, strict=True) for a, b in zip(*pair, strict=True)]
    assert sum(same) > len(same) / 2  # NaN would make all tokens one
