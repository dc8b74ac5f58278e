"""Qwen-VL's language side against formulas written from shared/reference/qwen-vl.md, in float64."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from math import ceil, sqrt
from pathlib import Path

import pytest
import regex
import tiny_bases as tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.config import BaseConfig
from features.errors import CheckpointError
from train.aligners import Aligner
from train.batch import Item, collate
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

V, H, QUERIES = "transformer.visual.", tiny.HIDDEN, tiny.QUERY_SIDE**2
COUNTS = (50, 75, 100, 150, 200)
READINGS = ("resampler", "resampler-grid", "tokenwise")
RANKS = tiny.qwen_ranks()
FIRST = len(RANKS)  # id of <|endoftext|>
IMG, IMG_END, IMGPAD = FIRST + 214, FIRST + 215, FIRST + 216


def base_of(folder: Path, prompt: str = "qwen-raw", **facts: object) -> BaseConfig:
    facts = {"layer": -1, "image_size": tiny.IMAGE, "image_token": "<imgpad>", **facts}
    return BaseConfig("qwen", str(folder), prompt=prompt, **facts)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("qwen") / "Qwen-VL"
    return folder, tiny.write_qwen_vl(folder)


@pytest.fixture(scope="module")
def loaded(qwen) -> ImageLLM:
    return load_image_llm(base_of(qwen[0]))


def relative(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got.detach().double() - wanted).abs().max() / wanted.abs().max())


def rows(count: int, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(batch, count, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


def valid(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.bool)


# The alignment module -----------------------------------------------------------------------------


def norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def on_grid(table: Tensor, count: int) -> Tensor:
    """The first `count` rows, in raster order, of a table resized to ceil(sqrt(count))²."""
    side = ceil(sqrt(count))
    grid = table.float().T.reshape(1, H, tiny.QUERY_SIDE, tiny.QUERY_SIDE)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return grid[0].flatten(1).T[:count].double()


def aligned(tensors: dict[str, Tensor], x: Tensor, reading: str) -> Tensor:
    """(S, D) -> (R, H) by matrix products."""
    w = {k.removeprefix(V).removeprefix("attn_pool."): t.double() for k, t in tensors.items()}
    kv = norm(x.double() @ w["kv_proj.weight"].T, w, "ln_kv")
    weights = w["attn.in_proj_weight"].split(H)
    biases = w["attn.in_proj_bias"].split(H)
    v = kv @ weights[2].T + biases[2]
    if reading == "tokenwise":
        mixed = v
    else:
        positions = on_grid(w["pos_embed"], len(x))
        k = (kv + positions) @ weights[1].T + biases[1]
        if reading == "resampler":
            q = norm(w["query"], w, "ln_q") + w["pos_embed"]
        else:
            q = norm(on_grid(w["query"], len(x)), w, "ln_q") + positions
        q = q @ weights[0].T + biases[0]
        parts = []
        for head in range(H // 128):
            at = slice(128 * head, 128 * (head + 1))
            seen = torch.softmax(q[:, at] @ k[:, at].T / sqrt(128), dim=-1)
            parts.append(seen @ v[:, at])
        mixed = torch.cat(parts, dim=-1)
    mixed = mixed @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
    return norm(mixed, w, "ln_post") @ w["proj"]


def stock(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The published module on a square number of rows, with torch's own attention."""
    w = {k.removeprefix(V).removeprefix("attn_pool."): t.double() for k, t in tensors.items()}
    attn = nn.MultiheadAttention(H, H // 128, batch_first=True).double()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    attn.load_state_dict({name: w[f"attn.{name}"] for name in names})
    side = int(sqrt(len(x)))
    assert side**2 == len(x)
    grid = w["pos_embed"].float().reshape(1, 4, 4, H).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    positions = grid.permute(0, 2, 3, 1).reshape(side * side, H).double()
    kv = norm(x.double() @ w["kv_proj.weight"].T, w, "ln_kv")
    q = norm(w["query"], w, "ln_q") + w["pos_embed"]
    seen = attn(q[None], (kv + positions)[None], kv[None], need_weights=False)[0][0]
    return norm(seen, w, "ln_post").detach() @ w["proj"]


def module(loaded: ImageLLM, reading: str) -> Aligner:
    """The alignment module of a projector in this reading."""
    switches = ProjectorSwitches(resampler=reading)  # type: ignore[arg-type]
    found = VideoProjector(loaded.aligner, H, switches).alignment
    assert found is not None
    return found


@pytest.mark.parametrize("count", [16, 64, 100, 256])
def test_squares_equal_the_stock_module(qwen, loaded, count: int) -> None:
    x = rows(count)
    wanted = stock(qwen[1], x[0])
    assert relative(aligned(qwen[1], x[0], "resampler"), wanted) < 1e-12
    got, exists = loaded.aligner(x, valid(1, count))
    assert exists.all()
    assert relative(got[0], wanted) <= 1e-4


@pytest.mark.parametrize("count", [1, 2, 5, *COUNTS])
@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_equals_its_formula(qwen, loaded, reading: str, count: int) -> None:
    aligner = module(loaded, reading)
    x = rows(count)
    got, exists = aligner(x, valid(1, count))
    wanted = aligned(qwen[1], x[0], reading)
    assert exists.all()
    assert (
        aligner.num_tokens(count) == len(wanted) == (QUERIES if reading == READINGS[0] else count)
    )
    assert got.shape == (1, len(wanted), H)
    assert relative(got[0], wanted) <= 1e-4


def test_the_readings_differ(loaded) -> None:
    x = rows(QUERIES)  # where all give the same number of tokens
    found = [module(loaded, reading)(x, valid(1, QUERIES))[0] for reading in READINGS]
    assert torch.allclose(found[0], found[1], atol=1e-5)  # the queries' own grid: A is B
    assert not torch.allclose(found[0], found[2], atol=0.1)
    x = rows(100)
    assert module(loaded, READINGS[1])(x, valid(1, 100))[0].shape == (1, 100, H)


@pytest.mark.parametrize("reading", READINGS)
def test_padding_has_no_influence(loaded, reading: str) -> None:
    aligner, counts = module(loaded, reading), (100, 3, 50, 1)
    x = rows(100, batch=4)
    real = torch.arange(100)[None] < torch.tensor(counts)[:, None]
    outs = []
    for garbage in (0.0, 1e4):
        tokens, exists = aligner(torch.where(real[..., None], x, garbage), real)
        assert exists.sum(dim=1).tolist() == [aligner.num_tokens(n) for n in counts]
        outs.append([t[e] for t, e in zip(tokens, exists, strict=True)])
    for i, count in enumerate(counts):
        alone, _ = aligner(x[i : i + 1, :count], valid(1, count))
        for out in outs:
            assert relative(out[i], alone[0].detach().double()) <= 1e-5


@pytest.mark.parametrize("reading", READINGS)
def test_nan_padding_and_absent_streams_in_a_projector(loaded, reading: str) -> None:
    switches = ProjectorSwitches(resampler=reading)  # type: ignore[arg-type]
    projector = VideoProjector(loaded.aligner, H, switches)
    temporal, spatial = rows(50, 3), rows(64, 3, seed=1)
    counts = torch.tensor([50, 7, 0])
    there = torch.arange(50)[None] < counts[:, None]
    holes = torch.where(there[..., None], temporal, float("nan"))
    tokens, exists = projector(holes, there, spatial, valid(3, 64))
    wanted = [projector.num_tokens(n, 64) for n in counts.tolist()]
    assert exists.sum(dim=1).tolist() == wanted
    assert tokens[exists].isfinite().all()
    tokens[exists].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in projector.parameters())
    alone, _ = projector(temporal[1:2, :7], valid(1, 7), spatial[1:2], valid(1, 64))
    assert relative(tokens[1][exists[1]], alone[0].detach().double()) <= 1e-5


@pytest.mark.parametrize("count", [100, 50])
@pytest.mark.parametrize("reading", READINGS)
def test_the_order_of_frames_matters(loaded, reading: str, count: int) -> None:
    aligner, x = module(loaded, reading), rows(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = aligner(x, valid(1, count))[0]
        after = aligner(x[:, order], valid(1, count))[0]
    if reading == "tokenwise":
        assert torch.allclose(after, before[:, order], atol=1e-5)
    else:
        assert (after - before).abs().max() > 0.1 * before.abs().max()
        if reading == "resampler-grid":
            assert not torch.allclose(after, before[:, order], atol=0.1)


@pytest.mark.parametrize("reading", READINGS)
def test_the_temporal_module_starts_as_the_alignment_module(qwen, loaded, reading: str) -> None:
    switches = ProjectorSwitches(resampler=reading)  # type: ignore[arg-type]
    projector = VideoProjector(loaded.aligner, H, switches)
    assert projector.temporal is not None
    assert projector.alignment is not None
    x = rows(64)
    tokens, exists = projector(x, valid(1, 64), x, valid(1, 64))
    half = tokens.shape[1] // 2
    assert exists.all()
    assert torch.equal(tokens[:, :half], tokens[:, half:])
    assert relative(tokens[0, :half], aligned(qwen[1], x[0], reading)) <= 1e-4
    ours, theirs = (
        {p.data_ptr() for p in m.parameters()} for m in (projector.temporal, projector.alignment)
    )
    assert not ours & theirs
    assert not ours & {p.data_ptr() for p in loaded.aligner.parameters()}
    assert all(p.requires_grad for p in projector.parameters())
    assert not any(p.requires_grad for p in loaded.aligner.parameters())
    # what the facts call the alignment module is trained, its table is not
    names = {name for name, _ in projector.alignment.named_parameters()}
    assert not any("pos_embed" in name for name in names)
    with torch.no_grad():
        for parameter in projector.temporal.parameters():
            parameter.add_(0.1)
    again, _ = projector(x, valid(1, 64), x, valid(1, 64))
    assert torch.equal(again[:, half:], tokens[:, half:])
    assert not torch.allclose(again[:, :half], tokens[:, :half], atol=1e-2)
    # making it changed nothing in the base
    assert relative(loaded.aligner(x, valid(1, 64))[0][0], stock(qwen[1], x[0])) <= 1e-4


def test_gradients_and_sizes(qwen, loaded) -> None:
    names = ("attn_pool.", "ln_post.", "proj")
    trained = sum(
        t.numel()
        for k, t in qwen[1].items()
        if k.startswith(tuple(V + n for n in names)) and not k.endswith("pos_embed")
    )
    for reading in READINGS[:2]:
        projector = VideoProjector(loaded.aligner, H, ProjectorSwitches(resampler=reading))  # type: ignore[arg-type]
        assert sum(p.numel() for p in projector.parameters()) == 2 * trained
        tokens, _ = projector(rows(50), valid(1, 50), rows(64), valid(1, 64))
        tokens.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in projector.parameters())
    projector = VideoProjector(loaded.aligner, H, ProjectorSwitches(resampler="tokenwise"))
    tokens, _ = projector(rows(50), valid(1, 50), rows(64), valid(1, 64))
    assert tokens.shape[1] == projector.num_tokens(50, 64) == 114
    tokens.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in projector.parameters())


@pytest.mark.parametrize("reading", READINGS)
def test_a_random_temporal_module(loaded, reading: str) -> None:
    switches = ProjectorSwitches(temporal_module="random", resampler=reading)  # type: ignore[arg-type]
    x = rows(50)
    outs = []
    for seed in (1, 1, 2):
        projector = VideoProjector(loaded.aligner, H, switches, seed)
        assert projector.temporal is not None
        with torch.no_grad():
            outs.append(projector.temporal(x, valid(1, 50))[0])
        assert outs[-1].isfinite().all()
        assert outs[-1].std() > 0.01
    assert torch.equal(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2], atol=1e-3)
    copied = module(loaded, reading)(x, valid(1, 50))[0]
    assert not torch.allclose(outs[0], copied, atol=1e-2)
    if reading != "tokenwise":
        table = projector.temporal.get_buffer("pos_embed")  # computed, so it stays
        assert torch.equal(table, loaded.aligner.get_buffer("pos_embed"))


# The LLM ------------------------------------------------------------------------------------------


def qwen_logits(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Qwen in float64 from embeddings (L, H), one step after another."""
    w = {k: t.double() for k, t in tensors.items()}
    length, heads = len(x), tiny.LLM_HEADS
    size = H // heads

    def rms(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[name + ".weight"]

    at = torch.arange(length, dtype=torch.float64)[:, None]
    angle = at / 10000 ** (torch.arange(0, size, 2, dtype=torch.float64) / size)

    def rotate(x: Tensor) -> Tensor:  # (heads, L, size)
        one, two = x[..., : size // 2], x[..., size // 2 :]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)

    hidden = torch.full((length, length), float("-inf"), dtype=torch.float64).triu(1)
    for i in range(tiny.LLM_LAYERS):
        name = f"transformer.h.{i}."
        mixed = rms(x, name + "ln_1") @ w[name + "attn.c_attn.weight"].T
        mixed = mixed + w[name + "attn.c_attn.bias"]
        q, k, v = (
            part.reshape(length, heads, size).transpose(0, 1)
            for part in (mixed[:, :H], mixed[:, H : 2 * H], mixed[:, 2 * H :])
        )
        scores = rotate(q) @ rotate(k).transpose(1, 2) / sqrt(size) + hidden
        seen = (torch.softmax(scores, dim=-1) @ v).transpose(0, 1).reshape(length, H)
        x = x + seen @ w[name + "attn.c_proj.weight"].T
        inner = rms(x, name + "ln_2")
        up, gate = inner @ w[name + "mlp.w1.weight"].T, inner @ w[name + "mlp.w2.weight"].T
        x = x + (up * gate * torch.sigmoid(gate)) @ w[name + "mlp.c_proj.weight"].T
    return rms(x, "transformer.ln_f") @ w["lm_head.weight"].T


PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_pairs(text: str) -> list[int]:
    """Plain text to ids: again and again the neighbours whose merge has the lowest rank."""
    ids: list[int] = []
    for piece in regex.findall(PATTERN, text):
        parts = [bytes([b]) for b in piece.encode()]
        while True:
            pairs = [(RANKS.get(a + b), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]  # noqa: B905, RUF007
            pairs = [(rank, i) for rank, i in pairs if rank is not None]
            if not pairs:
                break
            i = min(pairs)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [RANKS[part] for part in parts]
    return ids


def test_text_logits_equal_the_formula(qwen, loaded) -> None:
    ids = loaded.tokenizer("What does the man do? 他在做什么?")["input_ids"]
    assert len(ids) > 20
    with torch.no_grad():
        got = loaded.llm(input_ids=torch.tensor([ids])).logits[0]
    wanted = qwen_logits(qwen[1], qwen[1]["transformer.wte.weight"].double()[ids])
    assert wanted.std() > 0.5
    assert relative(got, wanted) <= 1e-4
    swapped = {
        k.replace("mlp.w1", "mlp.w").replace("mlp.w2", "mlp.w1").replace("mlp.w.", "mlp.w2."): t
        for k, t in qwen[1].items()
    }
    wrong = qwen_logits(swapped, qwen[1]["transformer.wte.weight"].double()[ids])
    assert relative(got, wrong) > 0.1


def test_image_logits_equal_the_formula(qwen, loaded) -> None:
    folder, tensors = qwen
    features = rows(tiny.GRID**2, seed=5)[0]
    switches = ProjectorSwitches(features="spatial_features")
    projector = VideoProjector(loaded.aligner, H, switches)
    model = VideoLLM.of(projector, loaded)
    count = projector.num_tokens(0, len(features))
    rendered = Prompter.of(base_of(folder), loaded).render("What is it?", None, count)
    batch = collate(
        [Item(("image",), rendered, Video(torch.zeros(0, tiny.WIDTH), features))],
        loaded.pad_token_id,
    )
    with torch.no_grad():
        got = model.llm(inputs_embeds=model.embed(batch)).logits[0]
    left, right = byte_pairs("Picture 1: "), byte_pairs("\nWhat is it? Answer:")
    wte = tensors["transformer.wte.weight"].double()
    tokens = stock(tensors, features)
    embeds = torch.cat([wte[[*left, IMG]], tokens, wte[[IMG_END, *right]]])
    assert batch.input_ids[0].tolist() == [*left, IMG, *[IMGPAD] * QUERIES, IMG_END, *right]
    assert relative(got, qwen_logits(tensors, embeds)) <= 1e-4


def test_dtype_and_frozen(qwen) -> None:
    found = load_image_llm(base_of(qwen[0]), dtype=torch.bfloat16)
    assert {p.dtype for p in found.llm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in found.aligner.parameters()} == {torch.float32}
    assert not any(p.requires_grad for m in (found.llm, found.aligner) for p in m.parameters())
    assert found.llm.model.rotary_emb.inv_freq.dtype == torch.float32
    assert found.hidden_size == H
    assert found.aligner.width == tiny.WIDTH


# Tokenizer and prompts ----------------------------------------------------------------------------

TEXTS = [
    "What's the man doing in the video? 12345",
    "用户在做什么?他们'RE  走  \n\n  了。",
    "emoji 👩‍👩‍👧 \u200d😀 é à ñ\r\n\t x",
    "   leading and trailing   ",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_merges_by_rank(loaded, text: str) -> None:
    ids = loaded.tokenizer(text)["input_ids"]
    assert ids == byte_pairs(text)
    assert loaded.tokenizer(text, add_special_tokens=False)["input_ids"] == ids  # no bos
    assert loaded.tokenizer.decode(ids) == text
    assert loaded.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_merges_happen_and_text_is_composed(loaded) -> None:
    tokenizer = loaded.tokenizer
    assert tokenizer("the")["input_ids"] == [RANKS[b"the"]]
    assert tokenizer("用户")["input_ids"] == [RANKS["用户".encode()]]
    apart = unicodedata.normalize("NFD", "é ñ 한")
    assert apart != "é ñ 한"
    assert tokenizer(apart) == tokenizer("é ñ 한")
    assert tokenizer.decode(tokenizer("😀")["input_ids"][:2]) == "\ufffd"


def test_special_ids_follow_the_ranks(loaded) -> None:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names += [f"<|extra_{i}|>" for i in range(205)]
    names += ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"]
    names += ["<img>", "</img>", "<imgpad>"]
    assert [151643 + names.index(n) for n in ("<img>", "</img>", "<imgpad>")] == [
        *(151857, 151858, 151859)
    ]  # as the facts have them
    assert loaded.tokenizer.get_vocab() == {name: FIRST + i for i, name in enumerate(names)}
    for i, name in enumerate(names):
        assert loaded.tokenizer(f"a{name}b")["input_ids"] == [
            *byte_pairs("a"),
            FIRST + i,
            *byte_pairs("b"),
        ]
        assert loaded.tokenizer.decode([FIRST + i]) == name
        assert loaded.tokenizer.decode([FIRST + i], skip_special_tokens=True) == ""
    assert loaded.tokenizer.decode([tiny.VOCAB - 1]) == ""  # a row of the padding
    assert (loaded.tokenizer.eos_token_id, loaded.pad_token_id) == (FIRST, FIRST)
    assert loaded.stop_ids == (FIRST,)
    assert loaded.image_token_id == IMGPAD


PICTURE = "Picture 1: <img>%s</img>\n"
PROMPTS = {
    "paper": "User: %sWhat? Assistant:",
    "qwen-raw": PICTURE + "What? Answer:",
    "qwen-raw-zh": PICTURE + "What? 回答:",
    "qwen-chatml": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n" + PICTURE + "What?<|im_end|>\n<|im_start|>assistant\n",
    "qwen-chatml-zh": "<|im_start|>system\n你是一个乐于助人的助手。<|im_end|>\n"
    "<|im_start|>user\n" + PICTURE + "What?<|im_end|>\n<|im_start|>assistant\n",
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_render_to_their_text(qwen, name: str) -> None:
    base = base_of(qwen[0], name, stop=("<|im_end|>", "<|im_start|>"))
    found = load_image_llm(base)
    assert found.stop_ids == (FIRST + 2, FIRST + 1)
    assert found.pad_token_id == FIRST
    prompter = Prompter.of(base, found)
    asked = prompter.render(" What? ", None, 5)
    wanted = PROMPTS[name] % ("<imgpad>" * 5)
    assert found.tokenizer.decode(asked.input_ids.tolist()) == wanted
    assert asked.input_ids.tolist().count(IMGPAD) == 5
    left, right = re.split("(?:<imgpad>)+", wanted)
    ids = asked.input_ids.tolist()
    start = ids.index(IMGPAD)
    assert ids == [
        *found.tokenizer(left)["input_ids"],
        *[IMGPAD] * 5,
        *found.tokenizer(right)["input_ids"],
    ]
    assert asked.segment_ids.tolist() == [0] * (start + 5) + [1] * (len(ids) - start - 5)
    taught = prompter.render("What?", "一只猫 cat", 5)
    assert taught.input_ids[: len(ids)].tolist() == ids
    answer = taught.labels[taught.labels != -100].tolist()
    assert answer[-1] == FIRST + 2
    blank = "" if name.startswith("qwen-chatml") else " "
    assert found.tokenizer.decode(answer) == blank + "一只猫 cat<|im_end|>"


def test_the_chat_version_and_an_unknown_stop(qwen, tmp_path: Path) -> None:
    tiny.write_qwen_vl(tmp_path / "Qwen-VL-Chat", chat=True)
    base = base_of(tmp_path / "Qwen-VL-Chat", "qwen-chatml", stop=("<|im_end|>", "<|im_start|>"))
    assert load_image_llm(base).stop_ids == (FIRST + 2, FIRST + 1)
    assert base_digest(base) == base_digest(base_of(qwen[0])) == load_image_llm(base).digest
    with pytest.raises(CheckpointError, match=r"stop token.*</s>"):
        load_image_llm(base_of(qwen[0], stop=("</s>",)))


# Refusals -----------------------------------------------------------------------------------------

LAYER, POOL = "transformer.h.1.", V + "attn_pool."


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("transformer.wte.weight", None, r"missing.*(wte|embed_tokens)\.weight"),
        ("transformer.ln_f.weight", None, r"missing.*(ln_f|norm)\.weight"),
        ("lm_head.weight", None, r"missing.*lm_head\.weight"),
        (LAYER + "mlp.w1.weight", None, r"missing.*1\.mlp\.w1\.weight"),
        (LAYER + "attn.c_attn.bias", None, r"missing.*1\.attn\.c_attn\.bias"),
        (LAYER + "attn.c_proj.bias", torch.ones(H), r"superfluous.*1\.\w+\.[co]_proj\.bias"),
        (LAYER + "mlp.extra", torch.ones(1), r"superfluous.*1\.mlp\.extra"),
        ("transformer.extra.weight", torch.ones(1), r"superfluous.*transformer\.extra\.weight"),
        ("something", torch.ones(1), "superfluous.*something"),
        (LAYER + "mlp.w2.weight", torch.ones(95, H), r"1\.mlp\.(w2|gate_proj).*\(95, 256\)"),
        (LAYER + "attn.c_attn.bias", torch.ones(3 * H - 3), r"shape.*1\.\w+\.\w+\.bias \(25"),
        (LAYER + "attn.c_attn.bias", torch.ones(4), r"1\.\w+\.\w+\.bias"),
        (POOL + "query", None, "query"),
        (POOL + "kv_proj.weight", None, "kv_proj.weight"),
        (POOL + "pos_embed", None, "missing.*pos_embed"),
        (POOL + "ln_q.bias", None, "missing.*ln_q.bias"),
        (POOL + "attn.in_proj_bias", None, r"missing.*(in_proj_bias|q_proj\.bias)"),
        (POOL + "kv_proj.bias", torch.ones(H), r"superfluous.*kv_proj\.bias"),
        (POOL + "extra", torch.ones(1), "superfluous.*extra"),
        (POOL + "ln_kv.weight", torch.ones(H - 1), r"ln_kv.weight \(255,\), wanted \(256,\)"),
        (POOL + "pos_embed", torch.ones(15, H), r"pos_embed \(15, 256\), wanted \(16, 256\)"),
        (POOL + "attn.in_proj_bias", torch.ones(3 * H + 3), r"bias \(257,\), wanted \(256,\)"),
        (POOL + "attn.in_proj_bias", torch.ones(4), r"in_proj_bias|q_proj\.bias"),
        (V + "proj", None, "missing.*proj"),
        (V + "proj", torch.ones(H, H - 1), r"proj.*\(25[56], 25[56]\), wanted"),
        (V + "ln_post.weight", None, r"missing.*ln_post\.weight"),
    ],
)
def test_wrong_tensors_are_refused_by_name(qwen, tmp_path: Path, name, tensor, words) -> None:
    folder, tensors = qwen
    edited = {k: t for k, t in tensors.items() if k != name}
    if tensor is not None:
        edited[name] = tensor
    with pytest.raises(CheckpointError, match=words):
        load_image_llm(base_of(tiny.with_tensors(folder, tmp_path / "edited", edited)))


def test_queries_that_are_no_square_are_refused(qwen, tmp_path: Path) -> None:
    folder, tensors = qwen
    edited = {k: t[:15] if k.endswith(("query", "pos_embed")) else t for k, t in tensors.items()}
    with pytest.raises(CheckpointError, match=r"query|pos_embed"):
        load_image_llm(base_of(tiny.with_tensors(folder, tmp_path / "edited", edited)))


def test_torn_files_are_refused(qwen, tmp_path: Path) -> None:
    torn = Path(shutil.copytree(qwen[0], tmp_path / "torn"))
    shard = torn / "model-00001-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match=re.escape(shard.name)):
        load_image_llm(base_of(torn))
    shard.unlink()
    with pytest.raises(CheckpointError, match=re.escape(shard.name)):
        load_image_llm(base_of(torn))
    shard.write_bytes(whole)
    config = json.loads((torn / "config.json").read_text())
    del config["rotary_emb_base"]
    (torn / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="rotary_emb_base"):
        load_image_llm(base_of(torn))


@pytest.mark.parametrize("damage", ["no file", "empty", "no base64", "half a line", "a digit less"])
def test_a_damaged_tokenizer_is_refused(qwen, tmp_path: Path, damage: str) -> None:
    torn = Path(shutil.copytree(qwen[0], tmp_path / "torn"))
    ranks = torn / "qwen.tiktoken"
    text = ranks.read_bytes()
    if damage == "no file":
        ranks.unlink()
    else:
        wrong = {"empty": b"", "no base64": b"*** 5\n" + text, "half a line": text.rstrip()[:-4]}
        ranks.write_bytes(wrong.get(damage, text.rstrip()[:-1]))
    with pytest.raises(CheckpointError, match=r"qwen\.tiktoken"):
        load_image_llm(base_of(torn))


def test_a_tokenizer_that_lost_whole_lines_is_refused(qwen, tmp_path: Path) -> None:
    """Every special id would shift; the config's `image_start_id` tells what `<img>` must be."""
    torn = Path(shutil.copytree(qwen[0], tmp_path / "torn"))
    lines = (torn / "qwen.tiktoken").read_bytes().splitlines(keepends=True)
    (torn / "qwen.tiktoken").write_bytes(b"".join(lines[:-5]))
    with pytest.raises(CheckpointError):
        load_image_llm(base_of(torn))
