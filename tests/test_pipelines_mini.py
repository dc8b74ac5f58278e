from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from pipelines import world, world_text, world_zh
from pipelines.mini import MiniConfig, make_mini
from pipelines.mini.align import plant, ridge
from pipelines.mini.gates import overlap
from pipelines.mini.joint import sample_images
from pipelines.mini.language import Level, Reader, Row, sample_text
from pipelines.mini.save import make_model, make_tokenizer
from pipelines.mini.vit import patch_labels, preprocess
from pipelines.worlds import BILINGUAL, DEMO, STORIES, World

SHIPPED = Path(__file__).parents[1] / "assets" / "mini"
STORIES_BASE = SHIPPED.with_name("mini-stories")
CHINESE_BASE = SHIPPED.with_name("mini-zh")


@pytest.fixture(scope="module")
def reader() -> Reader:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    return Reader(make_model(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def processor() -> LlavaProcessor:
    return LlavaProcessor.from_pretrained(SHIPPED)


def test_planted_projector_is_the_linear_map(reader: Reader) -> None:
    projector = reader.model.model.multi_modal_projector
    features, words = torch.randn(500, 96), torch.randn(500, 128)
    weight, bias = ridge(features, words)
    plant(projector, weight, bias)
    with torch.no_grad():
        rank = torch.linalg.svd(weight)
        best = rank.U[:, :64] * rank.S[:64] @ rank.Vh[:64]
        torch.testing.assert_close(projector(features), features @ best.T + bias, atol=1e-4, rtol=0)


def test_patch_labels_name_the_object_in_its_cell_alone() -> None:
    scene = world.Scene(
        (world.Thing("square", "green", *world.CELLS["top-right"], world.SMALL),), shade=0
    )
    labels = patch_labels(scene).reshape(4, 4, 4)
    assert (labels[:2, 2:] == [2, 2, 2, 1]).all()
    assert not labels[2:].any()
    assert not labels[:, :2].any()


def test_preprocess_equals_the_shipped_image_processor(processor: LlavaProcessor) -> None:
    rng = np.random.default_rng(0)
    frames = world.render(world.sample_story(rng))[::8]
    theirs = processor.image_processor(list(frames), return_tensors="pt")["pixel_values"]
    assert (preprocess(frames) - theirs).abs().max() < 0.04  # a bit or two of 255


def test_packed_questions_do_not_see_each_other(reader: Reader) -> None:
    rng = np.random.default_rng(1)
    rows = [sample_text(reader, rng, Level()) for _ in range(3)]
    apart = [Row(row.prefix, [ask]) for row in rows for ask in row.asks]
    with torch.no_grad():
        together, _ = reader.score(rows)
        separate, _ = reader.score(apart)
    torch.testing.assert_close(together, separate, atol=1e-5, rtol=0)


def test_tokenizer_is_lossless_on_the_worlds_text(processor: LlavaProcessor) -> None:
    rng, tokenizer = np.random.default_rng(2), processor.tokenizer
    for _ in range(100):
        for ask in world.qa(world.sample_story(rng), rng, 3, 3):
            for text in (ask.question, ask.answer):
                ids = tokenizer(text).input_ids
                assert ids[0] == tokenizer.bos_token_id
                assert tokenizer.unk_token_id not in ids
                assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert set(world_text.vocabulary()) <= set(tokenizer.get_vocab())


@pytest.mark.parametrize(
    ("of", "folder"), [(DEMO, SHIPPED), (STORIES, STORIES_BASE)], ids=["demo", "stories"]
)
def test_tokenizers_of_english_worlds_are_the_shipped_ones(
    of: World, folder: Path, tmp_path: Path
) -> None:
    make_tokenizer(of).save_pretrained(tmp_path)
    made = (tmp_path / "tokenizer.json").read_bytes()
    assert made == (folder / "tokenizer.json").read_bytes()


@pytest.fixture(scope="module")
def bilingual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, LlavaProcessor, str]:
    """A base of a few steps as it is in memory, and as it is read back from its files."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(BILINGUAL)
    folder = tmp_path_factory.mktemp("bilingual") / "base"
    reader = Reader(make_model(tokenizer, BILINGUAL), tokenizer, BILINGUAL)
    make_mini(MiniConfig(folder, 0, 1, 1, 20, 3, gate_videos=3, world="bilingual"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    return reader, LlavaProcessor.from_pretrained(folder), card


def test_chinese_words_are_found_without_blanks_and_joined_without_blanks(
    bilingual: tuple[Reader, LlavaProcessor, str],
) -> None:
    reader, processor, _ = bilingual
    tokenizer = processor.tokenizer
    for kind, template in world_zh.CHINESE.questions.items():
        slots = {"shape": "triangle", "event": "grows", "cell": "top-left", "colour": "red"}
        meant = template.format(**{k: world_zh.phrase(v) for k, v in slots.items()}).split()
        asked = world_zh.question(kind, {k: v for k, v in slots.items() if f"{{{k}}}" in template})
        ids = tokenizer(asked).input_ids
        assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", *meant]
        assert reader.ids(asked) == ids[1:]
        assert tokenizer.decode(ids, skip_special_tokens=True) == asked
    rng = np.random.default_rng(4)
    for _ in range(100):
        story = world.sample_story(rng)
        asks = [*BILINGUAL.qa(story, rng, 4, 4), BILINGUAL.caption(story.scene_at(9), rng)]
        for text in [text for ask in asks for text in (ask.question, ask.answer)]:
            ids = tokenizer(text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert ids[1:] == reader.ids(text)
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    mixed = "changes colour 红色 circle"
    ids = tokenizer("changes colour红色circle").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == mixed
    prompt = "USER: <image>\n有没有红色的方形 ASSISTANT: 没有</s>"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids)
    asked = ["有没有", "红色", "的", "方形", "ASSISTANT:", "没有", "</s>"]
    assert tokens == ["<s>", "USER:", "<image>", *asked]
    with pytest.raises(KeyError):
        reader.ids("橙色的圆形")  # no word of the world


def test_words_of_one_meaning_start_one_step_apart(
    bilingual: tuple[Reader, LlavaProcessor, str],
) -> None:
    reader, _, _ = bilingual
    table = reader.embeddings.weight.detach()
    steps = [
        table[reader.vocab[second]] - table[reader.vocab[first]]
        for second, first in BILINGUAL.twins
    ]
    assert len(steps) == len(world_zh.CHINESE.words)
    for step in steps:
        torch.testing.assert_close(step, steps[0])
    assert 0.15 < steps[0].std() < 0.25
    assert torch.equal(reader.model.lm_head.weight, table)
    assert len(table) < 96, "Muon would take the tables of words for matrices"


def test_a_bilingual_base_is_gated_in_each_language(
    bilingual: tuple[Reader, LlavaProcessor, str],
) -> None:
    _, _, card = bilingual
    for name in ("colour on images", "least squares temporal on videos"):
        lines = {tongue: f"| {name}, {tongue} | " for tongue in ("English", "Chinese")}
        for line in lines.values():
            (row,) = [found for found in card.splitlines() if found.startswith(line)]
            assert row.endswith("| >= 95 |" if name.startswith("colour") else "| >= 75 |")
    assert "python -m pipelines mini --world bilingual --out assets/mini-zh" in card


def test_same_seed_trains_the_same_base(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = MiniConfig(tmp_path / name, seed, 1, 1, 20, 3, gate_videos=2)
        gates = make_mini(config)
        assert all(0 <= value <= 100 for value in gates.values())
        weights = (tmp_path / name / "model.safetensors").read_bytes()
        digests.append(hashlib.sha256(weights).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_defaults_draw_what_they_drew_when_the_shipped_base_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the stages' generators stood after so many steps before there were other worlds."""
    real, made = np.random.default_rng, {}

    def generator(seed: list[int]) -> np.random.Generator:
        return made.setdefault(tuple(seed), real(seed))

    monkeypatch.setattr(np.random, "default_rng", generator)
    make_mini(MiniConfig(tmp_path / "base", 0, 2, 3, 30, 4, gate_videos=3))
    states = {stage: repr(rng.bit_generator.state).encode() for (_, stage), rng in made.items()}
    assert {n: hashlib.sha256(state).hexdigest()[:16] for n, state in states.items()} == {
        1: "5dc04325882d0984",
        2: "122db5eb5b72bd96",
        3: "333c9e617d47f87a",
        4: "32fef3c7d8295116",
        5: "a020abd2d6433e88",
    }
    said = (tmp_path / "base" / "README.md").read_text()
    assert said.split("## Held-out accuracy")[0].count("--out assets/mini --seed 0") == 1
    assert "stories" not in said.split("## Training")[0]


def test_a_base_of_the_stories_world_is_gated_by_its_captions_too(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    gates = make_mini(MiniConfig(folder, 0, 1, 1, 20, 3, gate_videos=2, world="stories"))
    assert {name for name in gates if "caption" in name} == {
        f"{stream} {what} on videos"
        for stream in ("untuned", "least squares", "true states")
        for what in ("captions", "caption F1")
    }
    assert all(0 <= value <= 100 for value in gates.values())
    card = (folder / "README.md").read_text()
    assert "python -m pipelines mini --world stories --out assets/mini-stories --seed 0" in card
    processor = LlavaProcessor.from_pretrained(folder)
    assert set(STORIES.vocabulary()) <= set(processor.tokenizer.get_vocab())


def test_a_free_reply_is_what_greedy_generation_says(reader: Reader) -> None:
    rng = np.random.default_rng(3)
    rows = [sample_text(reader, rng, Level()) for _ in range(2)]
    asks = [(row, ask) for row in rows for ask in row.asks]
    for (row, ask), reply in zip(asks, reader.reply(rows), strict=True):
        told = torch.cat(
            [
                reader.embeddings(torch.tensor(reader.ids("<s> USER:"))),
                row.prefix,
                reader.embeddings(torch.tensor(reader.ids(f"{ask.question} ASSISTANT:"))),
            ]
        )[None]
        mask = torch.ones(told.shape[:2], dtype=torch.long)
        ids = reader.model.generate(
            inputs_embeds=told, attention_mask=mask, max_new_tokens=8, do_sample=False
        )[0]
        names = {index: word for word, index in reader.vocab.items()}
        words = [names[i] for i in ids.tolist()]
        assert reply.split() == words[: words.index("</s>") if "</s>" in words else None]


@pytest.mark.parametrize(
    "folder",
    [SHIPPED, STORIES_BASE, CHINESE_BASE],
    ids=["mini", "mini-stories", "mini-zh"],
)
def test_shipped_bases_are_small_and_complete(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6e6
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


@pytest.mark.parametrize(
    ("folder", "scene_qa"),
    [
        (SHIPPED, world.scene_qa),
        (CHINESE_BASE, world.scene_qa),
        (CHINESE_BASE, world_zh.scene_qa),
    ],
    ids=["mini", "mini-zh in English", "mini-zh in Chinese"],
)
def test_shipped_bases_answer_questions_about_images(
    folder: Path, scene_qa: Callable[[world.Scene, np.random.Generator, int], list[world.QA]]
) -> None:
    processor = LlavaProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    rng = np.random.default_rng(7)
    scenes = [world.sample_story(rng).scene_at(int(rng.integers(32))) for _ in range(150)]
    asks = [scene_qa(scene, rng, 1)[0] for scene in scenes]
    inputs = processor(
        images=[Image.fromarray(world.render_scene(scene)) for scene in scenes],
        text=[f"USER: <image>\n{ask.question} ASSISTANT:" for ask in asks],
        return_tensors="pt",
        padding=True,
    )
    output = model.generate(**inputs, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    replies = processor.batch_decode(output, skip_special_tokens=True)
    right = [reply == ask.answer for reply, ask in zip(replies, asks, strict=True)]
    assert np.mean(right) >= 0.84


def test_the_stories_base_describes_what_it_is_told() -> None:
    """From the true states of a story and a still of it, as the third gate of captions has it."""
    tokenizer = LlavaProcessor.from_pretrained(STORIES_BASE).tokenizer
    model = LlavaForConditionalGeneration.from_pretrained(STORIES_BASE)
    reader, rng = Reader(model, tokenizer, STORIES), np.random.default_rng(8)
    rows = sample_images(reader, 60, rng, told=True)
    captions = [Row(row.prefix, row.asks[-3:]) for row in rows]
    assert overlap(reader, captions) >= 75
