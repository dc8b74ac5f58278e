"""Questions that share a row are computed as if each were alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import MistralConfig, MistralForCausalLM

from features.config import BaseConfig
from features.errors import ConfigError
from train.attention import FLEX, block_mask, full_masks, use_block_masks
from train.batch import Item, collate
from train.image_llm import load_image_llm
from train.packing import pack, visible
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import IGNORE, Prompter
from train.video_llm import VideoLLM
from train.videos import Video

T, N = 8, 16
QA = [
    ("what colour is the circle", "red"),
    ("where is the square after it moves", "top left"),
    ("is there a red cross", "yes"),
]


@pytest.fixture(scope="module")
def base(mini_dir: Path):
    return load_image_llm(BaseConfig("mini", str(mini_dir), image_size=32))


@pytest.fixture(scope="module")
def model(base) -> VideoLLM:
    return VideoLLM.of(VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches()), base)


def questions(base, frames: int = T, seed: int = 0) -> list[Item]:
    """Three questions about one clip."""
    generator = torch.Generator().manual_seed(seed)
    width = base.aligner.width
    video = Video(
        torch.randn(frames, width, generator=generator), torch.randn(N, width, generator=generator)
    )
    prompter = Prompter.of(BaseConfig("mini", ""), base)
    rendered = [prompter.render(q, a, frames + N) for q, a in QA]
    return [Item((f"q{i}",), prompt, video) for i, prompt in enumerate(rendered)]


def packed(items: list[Item]) -> Item:
    names = tuple(name for item in items for name in item.sample_ids)
    return Item(names, pack([item.prompt for item in items]), items[0].video)


def test_a_packed_row_restarts_positions_and_keeps_labels(base) -> None:
    items = questions(base)
    row = packed(items).prompt
    shared = int((items[0].prompt.segment_ids == 0).sum())
    assert len(row.input_ids) == shared + sum(len(i.prompt.input_ids) - shared for i in items)
    for number, item in enumerate(items, start=1):
        mine = (row.segment_ids == 0) | (row.segment_ids == number)
        for name in ("input_ids", "labels", "position_ids"):
            assert np.array_equal(getattr(row, name)[mine], getattr(item.prompt, name))
    assert pack([items[0].prompt]) is items[0].prompt


def test_loss_and_gradients_of_a_packed_row_equal_the_questions_alone(model, base) -> None:
    def gradient(rows: list[Item]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss, count = model.loss(collate(rows, base.pad_token_id))
        loss.backward()
        assert count == sum(len(a.split()) + 1 for _, a in QA) * 2
        return loss.item(), torch.cat([p.grad.flatten() for p in model.projector.parameters()])

    clips = [questions(base), questions(base, frames=3, seed=1)]
    alone, wanted = gradient([item for items in clips for item in items])
    together, found = gradient([packed(items) for items in clips])  # and padded to one another
    assert together == pytest.approx(alone, rel=1e-6)
    assert (found - wanted).norm() <= 5e-6 * wanted.norm()


def test_no_question_sees_another(model, base) -> None:
    """Another first question changes nothing of what is computed of the second one."""
    items = questions(base)
    other = replace(items[0], prompt=replace(items[0].prompt))
    ids = other.prompt.input_ids.copy()
    ids[-1] = ids[-2]
    changed = replace(items[0], prompt=replace(items[0].prompt, input_ids=ids))
    hidden = []
    for first in (items[0], changed):
        batch = collate([packed([first, items[1]])], base.pad_token_id)
        with torch.no_grad():
            found = model.hidden(batch).last_hidden_state
        hidden.append((found[batch.segment_ids == 2], found[batch.segment_ids == 1]))
    assert torch.equal(hidden[0][0], hidden[1][0])
    assert not torch.equal(hidden[0][1], hidden[1][1])


def brute_force(segments: list[int]) -> list[list[bool]]:
    count = range(len(segments))
    return [
        [segments[k] >= 0 and k <= q and segments[k] in (0, segments[q]) for k in count]
        for q in count
    ]


SEGMENTS = [[0, 0, 1, 1, 2, 2, 2], [0, 0, 0, 1, 1, -1, -1], [-1, -1, 0, 0, 1, 1, 1]]


def test_the_mask_by_its_definition() -> None:
    found = visible(torch.tensor(SEGMENTS))
    assert found.tolist() == [brute_force(segments) for segments in SEGMENTS]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_the_block_mask_of_flex_attention_is_the_same(base) -> None:
    """Attention with it equals attention with the dense mask; only a GPU trains with it."""
    items = questions(base)
    batch = collate([packed(items), items[0]], base.pad_token_id)
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, batch.input_ids.shape[1], 16)
    dense = full_masks(batch, "causal", base.image_token_id, base.llm.config, torch.float32)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense)
    with torch.no_grad():
        found = flex_attention(q, k, v, block_mask=block_mask(batch))
    real = (batch.segment_ids >= 0)[:, None, :, None].expand_as(wanted)
    assert (found - wanted)[real].abs().max() < 1e-6


def test_a_sliding_window_is_counted_in_positions() -> None:
    """As far from the video as if the question were alone, however many stand between."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
    )
    llm = MistralForCausalLM(config).eval()
    embeds = torch.randn(1, 14, 32)
    row = {
        "segment_ids": torch.tensor([[0] * 4 + [1] * 5 + [2] * 5]),
        "position_ids": torch.tensor([[*range(4), *range(4, 9), *range(4, 9)]]),
    }
    items = collate([_tokens(row)], 0)
    mask = full_masks(items, "causal", -1, config, torch.float32)
    with torch.no_grad():
        found = llm.model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=row["position_ids"]
        ).last_hidden_state
        for start in (4, 9):
            alone = torch.cat([embeds[:, :4], embeds[:, start : start + 5]], dim=1)
            wanted = llm.model(inputs_embeds=alone).last_hidden_state[:, 4:]
            assert (found[:, start : start + 5] - wanted).abs().max() < 1e-5


def _tokens(row: dict[str, torch.Tensor]) -> Item:
    from train.prompt import Rendered

    count = row["segment_ids"].shape[1]
    ids, labels = np.ones(count, np.int64), np.full(count, IGNORE)
    parts = {name: tensor[0].numpy() for name, tensor in row.items()}
    rendered = Rendered(ids, labels, parts["segment_ids"], parts["position_ids"])
    return Item(("a", "b"), rendered, Video(torch.zeros(1, 2), torch.zeros(1, 2)))


def test_questions_without_a_common_prefix_are_refused(base) -> None:
    prompter = Prompter.of(BaseConfig("mini", "", prompt="{question} <image> ASSISTANT:"), base)
    prompts = [prompter.render(q, a, T + N) for q, a in QA]
    with pytest.raises(ConfigError, match=r"share no prefix.*clip.*questions_per_row 1"):
        pack(prompts, where="clip")


def test_flex_attention_in_the_llm_computes_the_same(mini_dir: Path) -> None:
    """Forward only: its backward needs CUDA. transformers compiles it, on the CPU too."""
    base = load_image_llm(BaseConfig("mini", str(mini_dir), image_size=32))
    switches = ProjectorSwitches()
    model = VideoLLM.of(VideoProjector(base.aligner, base.hidden_size, switches), base)
    items = questions(base)
    batch = collate([packed(items), items[0]], base.pad_token_id)
    with torch.no_grad():
        wanted = model.hidden(batch).last_hidden_state
        use_block_masks(base.llm, base.attention)
        assert base.llm.config._attn_implementation == FLEX
        found = model.hidden(batch).last_hidden_state
    real = batch.segment_ids >= 0
    assert (found - wanted)[real].abs().max() < 1e-5 * wanted.abs().max()
