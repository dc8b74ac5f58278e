"""What vLLM would be asked, built without vLLM; and a stand-in that answers by transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_hf import FAMILIES, write
from transformers import AutoModelForCausalLM, GenerationConfig

from eval.answering import Asked, Decoding, TorchEngine, seed_of
from eval.vllm_engine import (
    VllmEngine,
    check_base,
    engine_options,
    prompt_embeddings,
    sampling_options,
    save_llm,
)
from features.config import BaseConfig
from features.errors import ConfigError
from train.batch import Item
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video


@pytest.fixture(scope="module")
def base(mini_dir: Path) -> ImageLLM:
    return load_image_llm(BaseConfig("mini", str(mini_dir), image_size=32))


@pytest.fixture(scope="module")
def model(base: ImageLLM) -> VideoLLM:
    projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches())
    return VideoLLM.of(projector, base).eval()


@pytest.fixture(scope="module")
def asked(base: ImageLLM, model: VideoLLM) -> list[Asked]:
    prompter = Prompter.of(BaseConfig("mini", ""), base)
    generator = torch.Generator().manual_seed(0)
    made = []
    for number, question in enumerate(("what moves", "which colour is the first circle")):
        video = Video(*(torch.randn(n, 96, generator=generator) for n in (8, 16)))
        prompt = prompter.render(question, None, model.projector.num_tokens(8, 16))
        made.append(Asked(f"q{number}", 1, Item((), prompt, video)))
    return made


def test_prompts_are_embedded_as_a_whole_in_the_llms_dtype(
    model: VideoLLM, base: ImageLLM, asked: list[Asked]
) -> None:
    table = base.llm.get_input_embeddings().weight
    for each, rows in zip(asked, prompt_embeddings(model, asked), strict=True):
        ids = torch.from_numpy(each.item.prompt.input_ids)
        assert rows.shape == (len(ids), base.hidden_size)
        assert rows.dtype == base.llm.dtype
        text = ids != base.image_token_id
        assert torch.equal(rows[text], table[ids[text]])
        assert not torch.equal(rows[~text], table[ids[~text]])
        assert int((~text).sum()) == 24


def test_options_say_all_that_ends_or_draws_an_answer(base: ImageLLM, asked: list[Asked]) -> None:
    greedy = sampling_options(base, Decoding(7), asked[0])
    assert greedy == {
        "temperature": 0.0,
        "top_k": 0,
        "seed": None,
        "max_tokens": 7,
        "stop_token_ids": list(base.stop_ids),
        "ignore_eos": True,
        "detokenize": False,
    }
    drawn = [sampling_options(base, Decoding(7, 0.2, 50, 3), each) for each in asked]
    assert [one["seed"] for one in drawn] == [seed_of(3, each) for each in asked]
    assert drawn[0]["seed"] != drawn[1]["seed"]
    assert all(0 <= one["seed"] < 2**63 for one in drawn)
    assert (drawn[0]["temperature"], drawn[0]["top_k"]) == (0.2, 50)
    assert engine_options(base, Path("there"))["dtype"] == "float32"


def test_the_llm_alone_is_saved_whole(base: ImageLLM, tmp_path: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(save_llm(base, tmp_path / "llm"))
    saved, ours = again.state_dict(), base.llm.state_dict()
    assert saved.keys() == ours.keys()
    assert all(torch.equal(saved[name], ours[name]) for name in ours)


def test_without_vllm_the_error_says_what_to_do(
    model: VideoLLM, base: ImageLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"vLLM is not installed.*pip install.*engine torch"):
        VllmEngine(model, base, Decoding())


@pytest.mark.parametrize("name", ["qwen2-vl", "gemma3", "paligemma"])
def test_bases_that_count_or_look_otherwise_are_refused(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    facts = {"layer": FAMILIES[name].layer, "regrouping": FAMILIES[name].regrouping}
    base = load_image_llm(BaseConfig("tiny", str(tmp_path), image_size=32, **facts))
    with pytest.raises(ConfigError, match="cannot decode this base exactly"):
        check_base(base)


class StandIn:
    """Takes what vllm.LLM takes, and answers with transformers from the folder it is given."""

    def __init__(self, **options: Any) -> None:
        assert options["enable_prompt_embeds"]
        assert options["enable_prefix_caching"]
        assert options["skip_tokenizer_init"]
        self.llm: Any = AutoModelForCausalLM.from_pretrained(options["model"])

    def generate(self, prompts: list[Any], sampling: list[Any], use_tqdm: bool) -> list[Any]:
        return [self._one(*pair) for pair in zip(prompts, sampling, strict=True)]

    def _one(self, prompt: Any, how: Any) -> Any:
        embeds = prompt["prompt_embeds"][None]
        said = self.llm.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            generation_config=GenerationConfig(
                max_new_tokens=how.max_tokens,
                eos_token_id=how.stop_token_ids,
                pad_token_id=0,
                do_sample=False,
            ),
        )
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=said[0].tolist())])


def test_its_answers_are_read_as_the_torch_engines_are(
    model: VideoLLM, base: ImageLLM, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm: Any = ModuleType("vllm")
    vllm.LLM, vllm.SamplingParams = StandIn, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    for new_tokens in (1, 12):
        wanted = TorchEngine(model, base, Decoding(new_tokens))(asked)
        assert VllmEngine(model, base, Decoding(new_tokens))(asked) == wanted
    assert {answer.text for answer in wanted}
