"""LLaVA in its original layout against transformers' Llama and CLIP, put together by hand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_bases as tiny
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, LlamaConfig, LlamaForCausalLM, LlamaTokenizer

from extract.tower import load_tower
from features.config import BaseConfig
from features.errors import CheckpointError, RedVillmError
from features.tower_files import tower_digest
from train.aligners import LinearAligner, MLPAligner
from train.batch import Item, collate
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

H, D, NUM_PATCHES = tiny.LLAVA_HIDDEN, tiny.CLIP_WIDTH, 16
KINDS = ("mlp", "linear")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "clip"
    tiny.write_clip(folder)
    return folder


@pytest.fixture(scope="module")
def llavas(
    tmp_path_factory: pytest.TempPathFactory, clip_folder: Path
) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    root = tmp_path_factory.mktemp("llava")
    return {k: (root / k, tiny.write_llava(root / k, k, clip_folder)) for k in KINDS}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def base_of(folder: Path, prompt: str = "llava-1.5", **facts: object) -> BaseConfig:
    facts = {"image_size": tiny.CLIP_IMAGE, **facts}
    return BaseConfig("llava", str(folder), prompt=prompt, **facts)  # type: ignore[arg-type]


def relative(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got.detach().double() - wanted.double()).abs().max() / wanted.abs().max())


def clip_features(folder: Path, images: np.ndarray) -> Tensor:
    """transformers' own, from pixels normalised here."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
    model = CLIPModel.from_pretrained(folder).eval().vision_model
    with torch.no_grad():
        return model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]


def projected(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """mm_projector by matrix products in float64."""
    w = {k.removeprefix("model.mm_projector."): t.double() for k, t in tensors.items()}
    if "weight" in w:
        return x.double() @ w["weight"].T + w["bias"]
    inner = x.double() @ w["0.weight"].T + w["0.bias"]
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    return inner @ w["2.weight"].T + w["2.bias"]


def reference_llm(tensors: dict[str, Tensor]) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tensors["lm_head.weight"]),
        hidden_size=H,
        intermediate_size=tiny.LLAVA_MLP,
        num_hidden_layers=tiny.LLAVA_LAYERS,
        num_attention_heads=tiny.LLAVA_HEADS,
        num_key_value_heads=tiny.LLAVA_HEADS,
        rms_norm_eps=1e-5,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    )
    llm = LlamaForCausalLM(config).eval()
    llm.load_state_dict({k: t for k, t in tensors.items() if "mm_projector" not in k})
    return llm.double()


def reference_logits(
    folder: Path, tensors: dict[str, Tensor], features: Tensor, left: str, right: str
) -> Tensor:
    """As LLaVA does: either side by itself, the right one without its bos."""
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    before, after = (tokenizer(text)["input_ids"] for text in (left, right))
    assert before[0] == after[0] == 1
    wte = tensors["model.embed_tokens.weight"].double()
    embeds = torch.cat([wte[before], projected(tensors, features), wte[after[1:]]])
    with torch.no_grad():
        return reference_llm(tensors)(inputs_embeds=embeds[None]).logits[0]


def our_logits(base: BaseConfig, features: Tensor, question: str) -> Tensor:
    found = load_image_llm(base)
    projector = VideoProjector(found.aligner, found.hidden_size, ProjectorSwitches())
    model = VideoLLM.of(projector, found)
    count = projector.num_tokens(0, len(features))
    rendered = Prompter.of(base, found).render(question, None, count)
    video = Video(torch.zeros(0, features.shape[1]), features)
    batch = collate([Item(("image",), rendered, video)], found.pad_token_id)
    with torch.no_grad():
        return model.llm(inputs_embeds=model.embed(batch)).logits[0]


# Numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_an_image_equal_transformers(llavas, clip_folder, images, kind: str) -> None:
    folder, tensors = llavas[kind]
    base = base_of(folder)
    seen = load_tower(base, device="cpu").encode(images)[0].clone()
    features = clip_features(clip_folder, images)[0]
    wanted = reference_logits(
        folder, tensors, features, "USER: ", "\nwhat is there at home ASSISTANT:"
    )
    got = our_logits(base, seen, "what is there at home")
    assert wanted.std() > 0.5
    assert relative(got, wanted) <= 1e-4
    shifted = reference_logits(
        folder, tensors, features.roll(1, 0), "USER: ", "\nwhat is there at home ASSISTANT:"
    )
    assert relative(got, shifted) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_the_alignment_module_equals_its_formula(llavas, kind: str) -> None:
    folder, tensors = llavas[kind]
    found = load_image_llm(base_of(folder))
    assert isinstance(found.aligner, MLPAligner if kind == "mlp" else LinearAligner)
    assert (found.aligner.width, found.hidden_size) == (D, H)
    x = torch.randn(2, 5, D)
    got, exists = found.aligner(x, torch.ones(2, 5, dtype=torch.bool))
    assert exists.all()
    assert relative(got, projected(tensors, x)) <= 1e-5
    switches = ProjectorSwitches(temporal_module="random")
    projector = VideoProjector(found.aligner, H, switches)
    assert projector.num_tokens(100, 576) == 676
    assert not any(p.requires_grad for m in (found.llm, found.aligner) for p in m.parameters())


def test_the_tower_that_the_config_names(llavas, clip_folder, images, tmp_path: Path) -> None:
    folder = llavas["mlp"][0]
    tower = load_tower(base_of(folder), device="cpu")
    tokens = tower.encode(images)
    assert tokens.shape == (3, NUM_PATCHES, D)
    assert relative(tokens, clip_features(clip_folder, images)) <= 1e-5
    assert tower.digest == tower_digest(base_of(folder))
    named = base_of(folder, tower=f"clip:{clip_folder}")
    assert torch.equal(load_tower(named, device="cpu").encode(images), tokens)
    assert tower_digest(named) == tower.digest
    # a tower in the checkpoint itself comes before the one that is named
    tensors, eyes = llavas["mlp"][1], load_file(clip_folder / "model.safetensors")
    prefix = "model.vision_tower.vision_tower."
    inside = {prefix + k: t for k, t in eyes.items() if k.startswith("vision_model.")}
    name = prefix + "vision_model.embeddings.class_embedding"
    inside[name] = inside[name] + 1
    own = tiny.with_tensors(folder, tmp_path / "own", tensors | inside)
    assert tower_digest(base_of(own)) != tower.digest
    assert load_image_llm(base_of(own)).hidden_size == H


def test_a_tower_in_the_checkpoint_runs(llavas, clip_folder, images, tmp_path: Path) -> None:
    folder, tensors = llavas["mlp"]
    eyes = load_file(clip_folder / "model.safetensors")
    prefix = "model.vision_tower.vision_tower."
    inside = {prefix + k: t for k, t in eyes.items() if k.startswith("vision_model.")}
    own = tiny.with_tensors(folder, tmp_path / "own", tensors | inside)
    tower = load_tower(base_of(own), device="cpu")
    assert relative(tower.encode(images), clip_features(clip_folder, images)) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_bin_shards_give_the_same(llavas, clip_folder, tmp_path: Path, kind: str) -> None:
    folder, _ = llavas[kind]
    tiny.write_llava(tmp_path / "bin", kind, clip_folder, bin=True)
    assert not list((tmp_path / "bin").glob("*.safetensors"))
    features = torch.randn(NUM_PATCHES, D)
    wanted = our_logits(base_of(folder), features, "what")
    assert torch.equal(our_logits(base_of(tmp_path / "bin"), features, "what"), wanted)
    assert base_digest(base_of(tmp_path / "bin")) == base_digest(base_of(folder))
    shard = tmp_path / "bin" / "pytorch_model-00002-of-00002.bin"
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=re.escape(shard.name)):
        load_image_llm(base_of(tmp_path / "bin"))
    shard.unlink()
    with pytest.raises(CheckpointError, match=re.escape(shard.name)):
        load_image_llm(base_of(tmp_path / "bin"))


# Deltas -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def delta(llavas, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(LLaMA, delta over it)."""
    root = tmp_path_factory.mktemp("deltas")
    tiny.write_delta(llavas["linear"][0], root / "llama-7b", root / "LLaVA-7b-delta-v1-1")
    return root / "llama-7b", root / "LLaVA-7b-delta-v1-1"


def test_a_delta_and_its_llama_are_the_merged_model(llavas, delta) -> None:
    llama, change = delta
    below, merged = tiny.read_tensors(llama), llavas["linear"][1]
    assert len(below["lm_head.weight"]) == len(merged["lm_head.weight"]) - 3
    features = torch.randn(NUM_PATCHES, D)
    wanted = reference_logits(
        llavas["linear"][0], merged, features, "USER: ", "\nwhat is there at home ASSISTANT:"
    )
    base = base_of(change, delta_base=str(llama))
    assert relative(our_logits(base, features, "what is there at home"), wanted) <= 1e-4
    found = load_image_llm(base)
    for name, tensor in found.llm.state_dict().items():
        assert relative(tensor, merged[name]) <= 1e-6
    for name in ("lm_head.weight", "model.embed_tokens.weight"):  # absolute rows, exactly
        assert torch.equal(found.llm.state_dict()[name][-3:], merged[name][-3:])
    # the files stay as they were
    assert torch.equal(tiny.read_tensors(llama)["lm_head.weight"], below["lm_head.weight"])


def test_a_delta_alone_is_refused(delta) -> None:
    with pytest.raises(CheckpointError, match=r"delta.*delta_base"):
        load_image_llm(base_of(delta[1]))


def test_a_delta_in_the_hub_cache_is_refused(delta, tmp_path: Path) -> None:
    """A hub id resolves to `models--<owner>--<name>/snapshots/<commit>`."""
    snapshot = tmp_path / "models--liuhaotian--LLaVA-7b-delta-v1-1" / "snapshots" / "c0ffee"
    shutil.copytree(delta[1], snapshot)
    with pytest.raises(CheckpointError, match=r"delta.*delta_base"):
        load_image_llm(base_of(snapshot))


def test_a_delta_for_another_llama_is_refused(delta, tmp_path: Path) -> None:
    llama, change = delta
    tensors = tiny.read_tensors(llama)
    wide = tensors | {"lm_head.weight": torch.ones(900, H)}
    other = tiny.with_tensors(llama, tmp_path / "wide", wide)
    with pytest.raises(CheckpointError, match=r"another LLaMA.*lm_head\.weight"):
        load_image_llm(base_of(change, delta_base=str(other)))
    flat = tensors | {"model.norm.weight": torch.ones(1, H)}
    other = tiny.with_tensors(llama, tmp_path / "flat", flat)
    with pytest.raises(CheckpointError, match=r"another LLaMA.*model\.norm\.weight"):
        load_image_llm(base_of(change, delta_base=str(other)))


def test_only_vocabulary_tables_may_be_larger_in_a_delta(delta, tmp_path: Path) -> None:
    """The facts: same-shape tensors add, larger embed_tokens / lm_head add in their block."""
    llama, change = delta
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = tiny.read_tensors(llama)
    narrow = tensors | {name: tensors[name][:-8]}
    other = tiny.with_tensors(llama, tmp_path / "narrow", narrow)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_image_llm(base_of(change, delta_base=str(other)))


def test_a_llama_that_lacks_a_layer_is_refused(delta, tmp_path: Path) -> None:
    """What the LLaMA lacks is absolute, but only a LLaVA's own tensors can be that."""
    llama, change = delta
    name = "model.layers.1.mlp.up_proj.weight"
    less = {k: t for k, t in tiny.read_tensors(llama).items() if k != name}
    other = tiny.with_tensors(llama, tmp_path / "less", less)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_image_llm(base_of(change, delta_base=str(other)))


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "tensor", "words"),
    [
        ("mlp", "model.layers.1.mlp.up_proj.weight", None, "missing.*1.mlp.up_proj.weight"),
        ("mlp", "model.norm.weight", None, "missing.*model.norm.weight"),
        ("mlp", "lm_head.weight", None, "missing.*lm_head.weight"),
        ("mlp", "model.mm_projector.2.bias", None, r"missing.*(mm_projector\.2|linear_2)\.bias"),
        ("mlp", "model.mm_projector.0.weight", None, r"mm_projector\.0\.weight"),
        ("linear", "model.mm_projector.weight", None, r"mm_projector\.weight"),
        ("linear", "model.mm_projector.bias", None, r"missing.*(mm_projector|linear)\.bias"),
        ("mlp", "model.extra", torch.ones(1), "superfluous.*model.extra"),
        ("mlp", "extra", torch.ones(1), "superfluous.*extra"),
        ("mlp", "model.mm_projector.4.bias", torch.ones(H), r"superfluous.*4\.bias"),
        (
            "linear",
            "model.mm_projector.2.bias",
            torch.ones(H),
            r"superfluous.*\b(2|linear_2)\.bias",
        ),
        ("mlp", "model.norm.weight", torch.ones(47), r"model.norm.weight \(47,\), wanted \(48,\)"),
        ("mlp", "lm_head.weight", torch.ones(99, H), r"lm_head.weight \(99, 48\)"),
        ("mlp", "model.mm_projector.2.weight", torch.ones(H, 47), r"weight \(48, 47\)"),
        ("linear", "model.mm_projector.bias", torch.ones(47), r"bias \(47,\), wanted \(48,\)"),
    ],
)
def test_wrong_tensors_are_refused_by_name(
    llavas, tmp_path: Path, kind: str, name: str, tensor, words: str
) -> None:
    folder, tensors = llavas[kind]
    edited = {k: t for k, t in tensors.items() if k != name}
    if tensor is not None:
        edited[name] = tensor
    with pytest.raises(CheckpointError, match=words):
        load_image_llm(base_of(tiny.with_tensors(folder, tmp_path / "edited", edited)))


def named_tower(folder: Path, target: Path, tower: object) -> BaseConfig:
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "mm_vision_tower": tower}))
    return base_of(target)


def test_towers_that_do_not_fit_are_refused(llavas, clip_folder, tmp_path: Path) -> None:
    folder = llavas["mlp"][0]
    with pytest.raises(CheckpointError, match="mm_vision_tower"):
        load_tower(named_tower(folder, tmp_path / "none", None), device="cpu")
    with pytest.raises(CheckpointError, match="nowhere"):
        load_tower(named_tower(folder, tmp_path / "lost", "/nowhere"), device="cpu")
    name = "vision_model.encoder.layers.1.mlp.fc1.bias"
    eyes = load_file(clip_folder / "model.safetensors")

    def edited(label: str, tensors: dict[str, Tensor]) -> BaseConfig:
        clip = tiny.with_tensors(clip_folder, tmp_path / f"clip-{label}", tensors)
        return named_tower(folder, tmp_path / label, str(clip))

    less = edited("less", {k: t for k, t in eyes.items() if k != name})
    with pytest.raises(CheckpointError, match=r"missing.*layers\.1\.mlp\.fc1\.bias"):
        load_tower(less, device="cpu")
    more = edited("more", {**eyes, "vision_model.head": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"not expected.*head"):
        load_tower(more, device="cpu")
    unknown = edited("unknown", {**eyes, "other.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"superfluous.*other\.weight"):
        load_tower(unknown, device="cpu")
    # a config of one width over tensors of another
    wrong = edited("wrong", eyes)
    config = json.loads((clip_folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 48
    (tmp_path / "clip-wrong" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"class_embedding.*\(32,\), wanted \(48,\)"):
        load_tower(wrong, device="cpu")


def test_a_tower_of_another_width_is_refused(llavas, tmp_path: Path, images) -> None:
    """mm_projector takes 32, the named CLIP gives 48; the features never fit."""
    tiny.write_clip(tmp_path / "clip", width=48)
    base = named_tower(llavas["mlp"][0], tmp_path / "wide", str(tmp_path / "clip"))
    tower = load_tower(base, device="cpu")  # the extraction cannot know
    assert tower.width == 48
    found = load_image_llm(base)
    assert found.aligner.width == 32
    with pytest.raises((RedVillmError, RuntimeError, TypeError)):
        our_logits(base, tower.encode(images)[0].clone(), "what")


def test_without_a_tokenizer_there_is_a_refusal(llavas, tmp_path: Path) -> None:
    """transformers would quietly make a Llama tokenizer of three tokens."""
    folder = Path(shutil.copytree(llavas["mlp"][0], tmp_path / "mute"))
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_image_llm(base_of(folder))


@pytest.mark.parametrize("says_bos", [True, False])
def test_the_tokenizer_as_published(llavas, tmp_path: Path, says_bos: bool) -> None:
    """LLaVA publishes tokenizer.model and no tokenizer.json; a Llama's bos is on by default."""
    folder, _ = llavas["mlp"]
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    (old / "tokenizer.json").unlink()
    tiny.write_sentencepiece(old)
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    config |= {"tokenizer_class": "LlamaTokenizer", "legacy": False, "padding_side": "right"}
    config |= {"add_bos_token": True, "add_eos_token": False} if says_bos else {}
    (old / "tokenizer_config.json").write_text(json.dumps(config))
    text = "USER: what is there at home ASSISTANT:"
    wanted = LlamaTokenizer.from_pretrained(folder)(text)["input_ids"]
    found = load_image_llm(base_of(old))
    assert found.tokenizer(text)["input_ids"] == wanted
    assert wanted[0] == 1
    assert (found.stop_ids, found.pad_token_id) == ((2,), 0)


# Prompts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(llavas) -> ImageLLM:
    return load_image_llm(base_of(llavas["mlp"][0]))


def test_ids_and_stops(loaded) -> None:
    assert "<image>" not in loaded.tokenizer.get_vocab()
    assert loaded.image_token_id == -200
    assert loaded.stop_ids == (2,)
    assert loaded.pad_token_id == 0


PROMPTS = {
    "paper": ("User: ", "What is it? Assistant:"),
    "llava-1.5": ("USER: ", "\nWhat is it? ASSISTANT:"),
    "vicuna-v1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: ",
        "\nWhat is it? ASSISTANT:",
    ),
}


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_split_as_llava_splits_them(llavas, loaded, name: str, count: int) -> None:
    folder = llavas["mlp"][0]
    prompter = Prompter.of(base_of(folder, name), loaded)
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    left, right = (tokenizer(text)["input_ids"] for text in PROMPTS[name])
    assert left[0] == right[0] == 1
    wanted = [*left, *[-200] * count, *right[1:]]
    asked = prompter.render(" What is it? ", None, count)
    assert asked.input_ids.tolist() == wanted
    assert wanted.count(1) == 1
    assert asked.segment_ids.tolist() == [0] * (len(left) + count) + [1] * (len(right) - 1)
    taught = prompter.render("What is it?", "a Cat", count)
    assert taught.input_ids[: len(wanted)].tolist() == wanted
    answer = taught.labels[taught.labels != -100].tolist()
    assert answer[-1] == 2
    assert tokenizer.decode(answer[:-1]) == "a Cat"
    whole = tokenizer(PROMPTS[name][1] + " a Cat")["input_ids"][1:]
    assert taught.input_ids.tolist() == [*left, *[-200] * count, *whole, 2]


def test_paper_is_equation_4_verbatim(llavas, loaded) -> None:
    prompter = Prompter.of(base_of(llavas["mlp"][0], "paper"), loaded)
    assert prompter.template == "User: <image>{question} Assistant:"
    ids = prompter.render("what is it", None, 3).input_ids.tolist()
    at = ids.index(-200)
    decode = loaded.tokenizer.decode
    assert decode(ids[1:at]) == "User: "
    assert decode(ids[at + 3 :]) == "what is it Assistant:"


def test_start_and_end_tokens(clip_folder, tmp_path: Path) -> None:
    """mm_use_im_start_end: LLaVA puts <im_start> and <im_end> around its image."""
    tensors = tiny.write_llava(tmp_path / "llava", "linear", clip_folder, start_end=True)
    base = base_of(tmp_path / "llava", "USER: <im_start><image><im_end>\n{question} ASSISTANT:")
    found = load_image_llm(base)
    vocabulary = found.tokenizer.get_vocab()
    start, end = vocabulary["<im_start>"], vocabulary["<im_end>"]
    assert (start, end) == (len(vocabulary) - 2, len(vocabulary) - 1)
    ids = Prompter.of(base, found).render("what", None, 4).input_ids.tolist()
    at = ids.index(start)
    assert ids[at : at + 6] == [start, *[-200] * 4, end]
    assert ids.count(1) == 1
    features = torch.randn(NUM_PATCHES, D)
    wanted = reference_logits(
        tmp_path / "llava", tensors, features, "USER: <im_start>", "<im_end>\nwhat ASSISTANT:"
    )
    assert relative(our_logits(base, features, "what"), wanted) <= 1e-4


def test_a_misspelt_save_is_no_llava(llavas, tmp_path: Path) -> None:
    """transformers' own LLaVA has the same model_type; the architecture decides."""
    folder, tensors = llavas["mlp"]
    other = tiny.with_tensors(folder, tmp_path / "other", tensors)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlavaForConditionalGeneration"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"superfluous.*model"):
        load_image_llm(base_of(other))
    save_file({"x": torch.ones(1)}, other / "model.safetensors")
    config["architectures"] = ["LlavaLlamaForCausalLM"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"superfluous.*got: x "):
        load_image_llm(base_of(other))
