from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from features.config import BaseConfig
from features.errors import CheckpointError
from train.batch import Item, collate
from train.image_llm import base_digest, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

NUM_PATCHES, IMAGE_TOKEN = 16, 4


def save_tiny(folder: Path, mini_dir: Path, tied: bool = False) -> LlavaForConditionalGeneration:
    """A random LLaVA with fewer key heads than heads, in the layout transformers writes."""
    torch.manual_seed(3)
    text = LlamaConfig(
        vocab_size=80,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_TOKEN,
        tie_word_embeddings=tied,
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    for file in mini_dir.glob("tokenizer*"):
        shutil.copy(file, folder)
    return model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, mini_dir: Path) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("tiny")
    return folder, save_tiny(folder, mini_dir)


def edited(source: Path, target: Path, edit) -> Path:
    shutil.copytree(source, target)
    tensors = edit(load_file(source / "model.safetensors"))
    save_file(tensors, target / "model.safetensors")
    return target


def base_of(folder: Path) -> BaseConfig:
    return BaseConfig("tiny", str(folder), image_size=32)


def image_logits(folder: Path, features: torch.Tensor, question: str) -> torch.Tensor:
    """Full logits of our model for one ordinary image, given as spatial features."""
    base = base_of(folder)
    image_llm = load_image_llm(base)
    projector = VideoProjector(image_llm.aligner, image_llm.hidden_size, ProjectorSwitches())
    model = VideoLLM.of(projector, image_llm)
    prompt = Prompter.of(base, image_llm).render(question, None, len(features))
    video = Video(torch.zeros(0, features.shape[1]), features)
    batch = collate([Item(("image",), prompt, video)], image_llm.pad_token_id)
    with torch.no_grad():
        return model.llm(inputs_embeds=model.embed(batch)).logits


def reference_logits(model, pixels: torch.Tensor, folder: Path, question: str) -> torch.Tensor:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"USER: <image>\n{question} ASSISTANT:")["input_ids"]
    at = ids.index(IMAGE_TOKEN)
    ids = [*ids[:at], *[IMAGE_TOKEN] * NUM_PATCHES, *ids[at + 1 :]]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits


def test_logits_of_an_image_equal_transformers(tiny, tmp_path: Path) -> None:
    folder, model = tiny
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
    question = "what colour is the circle"
    wanted = reference_logits(model, pixels, folder, question)
    got = image_logits(folder, hidden[0, 1:], question)
    assert wanted.abs().max() > 1
    assert (got - wanted).abs().max() <= 1e-5

    def nest(tensors):  # as transformers names the parts in memory since 4.52
        names = {"language_model.model.": "model.language_model.", "language_model.lm": "lm"}
        names |= {"multi_modal": "model.multi_modal", "vision": "model.vision"}
        return {
            next(new + k.removeprefix(old) for old, new in names.items() if k.startswith(old)): v
            for k, v in tensors.items()
        }

    nested = edited(folder, tmp_path / "nested", nest)
    assert "lm_head.weight" in load_file(nested / "model.safetensors")
    assert torch.equal(image_logits(nested, hidden[0, 1:], question), got)
    assert base_digest(base_of(nested)) == base_digest(base_of(folder))


def test_splice_without_a_video_equals_the_text_model(tiny) -> None:
    folder, model = tiny
    base = base_of(folder)
    image_llm = load_image_llm(base)
    rendered = Prompter.of(base, image_llm).render("what colour is the circle", None, 0)
    assert IMAGE_TOKEN not in rendered.input_ids
    projector = VideoProjector(image_llm.aligner, image_llm.hidden_size, ProjectorSwitches())
    nothing = Video(torch.zeros(0, 32), torch.zeros(0, 32))
    batch = collate([Item(("text",), rendered, nothing)], image_llm.pad_token_id)
    with torch.no_grad():
        embeds = VideoLLM.of(projector, image_llm).embed(batch)
        got = image_llm.llm(inputs_embeds=embeds).logits
        wanted = model(input_ids=batch.input_ids).logits
    assert (got - wanted).abs().max() <= 1e-5


def test_all_is_frozen_and_of_the_dtype_asked_for(tiny) -> None:
    image_llm = load_image_llm(base_of(tiny[0]), dtype=torch.bfloat16)
    modules = (image_llm.llm, image_llm.aligner)
    assert not any(p.requires_grad for m in modules for p in m.parameters())
    assert {p.dtype for p in image_llm.llm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in image_llm.aligner.parameters()} == {torch.float32}
    assert image_llm.llm.config._attn_implementation == "sdpa"
    assert (image_llm.image_token_id, image_llm.stop_ids, image_llm.pad_token_id) == (4, (2,), 0)


def test_tied_and_old_checkpoints(tmp_path: Path, mini_dir: Path) -> None:
    model = save_tiny(tmp_path / "tied", mini_dir, tied=True)
    assert not any("lm_head" in k for k in load_file(tmp_path / "tied" / "model.safetensors"))

    def add_table(tensors):
        name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
        return {**tensors, name: torch.ones(6)}

    old = edited(tmp_path / "tied", tmp_path / "old", add_table)
    llm = load_image_llm(base_of(old)).llm
    assert torch.equal(llm.lm_head.weight, model.lm_head.weight)
    assert llm.lm_head.weight is llm.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if "layers.1.mlp.up" not in k}, "up_proj.weight"),
        (lambda t: {**t, "language_model.model.extra": torch.ones(1)}, "model.extra"),
        (lambda t: {**t, "language_model.lm_head.weight": torch.ones(3, 3)}, r"\(3, 3\)"),
        (
            lambda t: {**t, "lm_head.weight": t["language_model.lm_head.weight"].clone()},
            "one tensor under two names.*lm_head.weight and",
        ),
        (lambda t: {**t, "perceiver.latents": torch.ones(1)}, r"superfluous.*perceiver\.latents"),
        (
            lambda t: {k: v for k, v in t.items() if "linear_2.bias" not in k},
            "missing.*linear_2.bias",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "projector" not in k},
            "alignment module.*linear_1",
        ),
    ],
)
def test_wrong_tensors_are_refused_by_name(tiny, tmp_path: Path, edit, words: str) -> None:
    folder = edited(tiny[0], tmp_path / "edited", edit)
    with pytest.raises(CheckpointError, match=words):
        load_image_llm(base_of(folder))


def test_another_layout_and_another_image_token_are_refused(tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny[0], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_token_index": 7}))
    with pytest.raises(CheckpointError, match=r"image token.*<image> is 4.*wanted: 7"):
        load_image_llm(base_of(folder))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["GPT"]}))
    with pytest.raises(CheckpointError, match="architecture GPT"):
        load_image_llm(base_of(folder))


def test_another_alignment_module_has_another_digest(tiny, tmp_path: Path) -> None:
    name = "multi_modal_projector.linear_1.bias"
    other = edited(tiny[0], tmp_path / "other", lambda t: {**t, name: t[name] + 1})
    digests = [base_digest(base_of(folder)) for folder in (other, tiny[0])]
    assert digests[0] != digests[1]
    assert {len(digest) for digest in digests} == {64}
