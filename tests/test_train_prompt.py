from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from features.config import BaseConfig
from features.errors import AnnotationError, ConfigError, RedVillmError
from features.prompts import TEMPLATES
from train.image_llm import load_image_llm
from train.prompt import IGNORE, Prompter
from train.splice import splice

WORDS = ["<pad>", "<s>", "</s>", "USER:", "<image>", "ASSISTANT:", "what", "moves", "a", "cross"]


def toy(text: str) -> dict[str, list[int]]:
    """One token a word, and a bos: expected ids are literals."""
    return {"input_ids": [1, *(WORDS.index(word) for word in text.split())]}


@pytest.fixture
def prompter() -> Prompter:
    return Prompter(toy, "USER: <image>\n{question} ASSISTANT:", image_token_id=4, eos_token_id=2)


def test_training_and_evaluation_render_the_same_prompt(prompter: Prompter) -> None:
    rendered = prompter.render("what moves ", " a cross", 3)
    assert rendered.input_ids.tolist() == [1, 3, 4, 4, 4, 6, 7, 5, 8, 9, 2]
    assert rendered.labels.tolist() == [IGNORE] * 8 + [8, 9, 2]
    assert rendered.segment_ids.tolist() == [0] * 5 + [1] * 6
    asked = prompter.render("what moves", None, 3)
    assert asked.input_ids.tolist() == rendered.input_ids[:8].tolist()
    assert (asked.labels == IGNORE).all()


@pytest.mark.parametrize(("count", "middle"), [(0, []), (1, [4]), (5, [4] * 5)])
def test_as_many_placeholders_as_asked_for(prompter: Prompter, count: int, middle) -> None:
    rendered = prompter.render("what", "a", count)
    assert rendered.input_ids.tolist() == [1, 3, *middle, 6, 5, 8, 2]
    assert rendered.labels[-2:].tolist() == [8, 2]
    assert (rendered.labels != IGNORE).sum() == 2
    assert rendered.segment_ids.tolist() == [0] * (2 + count) + [1] * 4


def test_a_long_answer_is_cut_and_says_so(prompter: Prompter) -> None:
    whole = prompter.encode("what", "a cross", room=8)
    assert (whole.truncated, whole.ids.tolist()) == (False, [1, 3, 4, 6, 5, 8, 9, 2])
    short = prompter.encode("what", "a cross", room=7)
    assert short.truncated
    cut = prompter.expand(short, 2)
    assert cut.input_ids.tolist() == [1, 3, 4, 4, 6, 5, 8, 9]
    assert cut.labels.tolist() == [IGNORE] * 6 + [8, 9]
    with pytest.raises(AnnotationError, match=r"no room.*sample 5.*got: 5 tokens.*fewer than 5"):
        prompter.encode("what", "a cross", room=5, where="sample 5")


def test_refusals(prompter: Prompter) -> None:
    with pytest.raises(AnnotationError, match=r"one image token.*where: q1.*got: 2"):
        prompter.render("what <image> moves", "a", 3, where="q1")
    letters = replace(prompter, tokenizer=lambda text: {"input_ids": [4, len(text)]})
    with pytest.raises(AnnotationError, match="merges the end of the prompt"):
        letters.render("what", "a", 3)


@pytest.mark.parametrize("prompt", ["USER: {question}", "<image> <image> {question}", "<image>"])
def test_a_bad_template_is_refused(prompt: str, mini_dir: Path) -> None:
    base = BaseConfig("mini", str(mini_dir), prompt=prompt)
    with pytest.raises(ConfigError, match="names its parts once"):
        Prompter.of(base, load_image_llm(base))


BEHIND = {
    "paper": "User: {question}<image> Assistant:",
    "llava-1.5": "USER: {question}\n<image> ASSISTANT:",
    "vicuna-v1-start-end": "USER: {question}\n<im_start><image><im_end> ASSISTANT:",
    "qwen-raw": "{question}\nPicture 1: <img><image></img> Answer:",
    "qwen-chatml-zh": "<|im_start|>user\n{question}\nPicture 1: <img><image></img><|im_end|>\n",
    "qwen2-vl": "user\n{question}<|vision_start|><image><|vision_end|><|im_end|>\n",
    "gemma3": "user\n\n\n{question}\n\n<start_of_image><image><end_of_image><end_of_turn>\n",
}


@pytest.mark.parametrize("name", BEHIND)
def test_the_video_goes_behind_the_question_with_its_tags(name: str, mini_dir: Path) -> None:
    base = BaseConfig("mini", str(mini_dir), prompt=name)
    llm = load_image_llm(base)
    swapped = Prompter.of(base, llm, video_last=True).template
    assert BEHIND[name] in swapped
    assert sorted(swapped) == sorted(TEMPLATES[name]), "nothing is lost or added"
    assert Prompter.of(base, llm).template == TEMPLATES[name]


@pytest.mark.parametrize("prompt", ["{question}<image>", "<image> Q: {question}", "paligemma"])
def test_a_video_away_from_the_question_cannot_go_behind_it(prompt: str, mini_dir: Path) -> None:
    base = BaseConfig("mini", str(mini_dir), prompt=prompt)
    with pytest.raises(ConfigError, match=r"cannot change places.*base mini"):
        Prompter.of(base, load_image_llm(base), video_last=True)


def test_the_video_behind_the_question_renders_to_literal_ids(prompter: Prompter) -> None:
    behind = replace(prompter, template="USER: {question}\n<image> ASSISTANT:")
    rendered = behind.render("what moves", "a cross", 3)
    assert rendered.input_ids.tolist() == [1, 3, 6, 7, 4, 4, 4, 5, 8, 9, 2]
    assert rendered.labels.tolist() == [IGNORE] * 8 + [8, 9, 2]
    assert rendered.segment_ids.tolist() == [0] * 7 + [1] * 4
    assert behind.encode("what moves", "a cross").image_at == 4


def test_both_orders_of_the_embedded_base_hold_the_same_tokens(base: BaseConfig) -> None:
    llm = load_image_llm(base)
    first, last = (Prompter.of(base, llm, video_last=x) for x in (False, True))
    orders = [p.render("what colour is the circle", "red", 5) for p in (first, last)]
    before, behind = (order.input_ids.tolist() for order in orders)
    text = llm.tokenizer("USER: what colour is the circle")["input_ids"]
    assert behind[: len(text)] == text
    assert behind[len(text) : len(text) + 5] == [llm.image_token_id] * 5
    assert sorted(before) == sorted(behind)
    assert [order.labels[order.labels != IGNORE].tolist() for order in orders] == [
        behind[-2:],
        behind[-2:],
    ]


def test_splice_scatters_valid_tokens_in_order() -> None:
    ids = torch.tensor([[1, 4, 4, 2], [4, 3, 0, 0]])
    embeds = torch.arange(2 * 4 * 2.0).reshape(2, 4, 2)
    tokens = -torch.arange(2 * 3 * 2.0).reshape(2, 3, 2) - 1
    valid = torch.tensor([[True, False, True], [False, True, False]])
    wanted = embeds.clone()
    wanted[0, 1], wanted[0, 2], wanted[1, 0] = tokens[0, 0], tokens[0, 2], tokens[1, 1]
    assert torch.equal(splice(embeds, ids, 4, tokens, valid), wanted)
    half = splice(embeds.bfloat16(), ids, 4, tokens, valid)
    assert half.dtype == torch.bfloat16


def test_splice_compares_the_counts_of_every_row() -> None:
    ids = torch.tensor([[4, 4, 4], [4, 0, 0]])  # 4 placeholders, 4 tokens, one in the wrong row
    valid = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(RedVillmError, match=r"row 0.*got: 2 video tokens.*wanted: 3,"):
        splice(torch.zeros(2, 3, 5), ids, 4, torch.zeros(2, 2, 5), valid)
