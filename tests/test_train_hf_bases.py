"""Each family of today's Image LLMs against transformers' own model of it, in float32."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_hf import FAMILIES, IMAGE, Family, write

from extract.hf_tower import regroup
from extract.tower import load_tower, normalise
from features.config import BaseConfig
from features.errors import CheckpointError, ConfigError
from features.tower_files import tower_digest
from train.batch import Item, collate
from train.decode import Decoder
from train.image_llm import ImageLLM, load_image_llm
from train.packing import pack
from train.positions import mrope
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

QUESTION = "what colour is the circle"


@dataclass(frozen=True)
class Tiny:
    folder: Path
    family: Family
    model: Any

    @property
    def base(self) -> BaseConfig:
        facts = {"layer": self.family.layer, "regrouping": self.family.regrouping}
        return BaseConfig("tiny", str(self.folder), image_size=32, normalisation="half", **facts)


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make(request.param, tmp_path_factory.mktemp(request.param))


def make(name: str, folder: Path) -> Tiny:
    return Tiny(folder, FAMILIES[name], write(name, folder))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def vision_inputs(tiny: Tiny, images: np.ndarray) -> dict[str, torch.Tensor]:
    """What the reference's own image processor makes of images of the right size."""
    pixels = normalise(torch.from_numpy(images), "half")
    if not tiny.family.model.startswith("Qwen"):
        return {"pixel_values": pixels}
    rows = []
    for image in pixels:  # patch by patch, in the order of Qwen's processor
        for block in ((r, c) for r in range(0, 8, 2) for c in range(0, 8, 2)):
            for y, x in ((block[0] + i, block[1] + j) for i in (0, 1) for j in (0, 1)):
                patch = image[:, y * 4 : y * 4 + 4, x * 4 : x * 4 + 4]
                rows.append(torch.stack([patch, patch], dim=1).flatten())
    grid = torch.tensor([[1, 8, 8]] * len(images))
    return {"pixel_values": torch.stack(rows), "image_grid_thw": grid}


@torch.no_grad()
def reference_tokens(tiny: Tiny, images: np.ndarray) -> torch.Tensor:
    """What goes into the reference's projector, by a hook in front of its first parameters."""
    caught: list[torch.Tensor] = []
    model = tiny.model.model
    name = tiny.family.model
    if name.startswith("Qwen"):
        visual = model.visual
        merger, visual.merger = visual.merger, torch.nn.Identity()
        try:
            inputs = vision_inputs(tiny, images)
            whole = visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
        finally:
            visual.merger = merger
        tokens = whole.last_hidden_state.reshape(len(images), 16, -1)
        if name == "Qwen2_5_VL":
            from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as source

            order, _ = source.get_vision_window_index(
                inputs["image_grid_thw"], spatial_merge_size=2, window_size=16, patch_size=4
            )
            assert order.tolist() != sorted(order.tolist())
            tokens = tokens.flatten(0, 1)[order.argsort()].reshape(len(images), 16, -1)
        return tokens
    if name in ("Idefics3", "SmolVLM"):
        part = model.connector.modality_projection
    elif name == "Gemma3":
        part = model.multi_modal_projector.mm_soft_emb_norm
    else:
        part = model.multi_modal_projector
    hook = part.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    projected(tiny, images)
    hook.remove()
    return torch.cat(caught)


@torch.no_grad()
def projected(tiny: Tiny, images: np.ndarray) -> torch.Tensor:
    """The reference's image features, (B, N, H)."""
    inputs = vision_inputs(tiny, images)
    model, name = tiny.model.model, tiny.family.model
    if name.startswith("Llava"):  # the base tile, without the marks between rows
        seen = model.vision_tower(**inputs, output_hidden_states=True).hidden_states
        tokens = seen[tiny.family.layer][:, -16:]
        return model.multi_modal_projector(tokens)
    if name in ("Idefics3", "SmolVLM"):
        inputs["pixel_values"] = inputs["pixel_values"][:, None]
    features = model.get_image_features(**inputs).pooler_output
    return features if isinstance(features, torch.Tensor) else torch.stack(list(features))


def close(got: torch.Tensor, wanted: torch.Tensor) -> float:
    assert got.shape == wanted.shape
    assert wanted.std() > 0.01
    error = float((got - wanted).abs().max() / wanted.abs().max())
    assert error <= 1e-4
    return error


def test_tower_equals_transformers_behind_the_regrouping(tiny: Tiny, images: np.ndarray) -> None:
    tower = load_tower(tiny.base, device="cpu")
    got = tower.encode(images)
    assert got.shape[1:] == (tower.num_patches, tower.width)
    print(tiny.family.model, "tower", close(got, reference_tokens(tiny, images)))
    assert tower.digest == tower_digest(tiny.base)


def test_aligner_equals_transformers_projector(tiny: Tiny, images: np.ndarray) -> None:
    tokens = load_tower(tiny.base, device="cpu").encode(images)
    aligner = load_image_llm(tiny.base).aligner
    assert aligner.width == tokens.shape[-1]
    got, _ = aligner(tokens.clone(), torch.ones(tokens.shape[:2], dtype=torch.bool))
    print(tiny.family.model, "aligner", close(got, projected(tiny, images)))
    VideoProjector(aligner, 48, ProjectorSwitches(temporal_module="random"))


def video_llm(base: BaseConfig) -> tuple[VideoLLM, ImageLLM]:
    llm = load_image_llm(base)
    return VideoLLM.of(VideoProjector(llm.aligner, 48, ProjectorSwitches()), llm).eval(), llm


def asked(
    tiny: Tiny, llm: ImageLLM, video: Video, answer: str | None = None, question: str = QUESTION
) -> Item:
    count = len(video.temporal) + len(video.spatial)
    return Item(("image",), Prompter.of(tiny.base, llm).render(question, answer, count), video)


@torch.no_grad()
def reference_logits(tiny: Tiny, item: Item, images: np.ndarray) -> torch.Tensor:
    """Of the whole reference model; for the LLaVAs of its LLM behind its own parts."""
    ids = torch.from_numpy(item.prompt.input_ids)[None]
    name = tiny.family.model
    if name.startswith("Llava"):
        embeds = tiny.model.get_input_embeddings()(ids)
        embeds = embeds.masked_scatter((ids == IMAGE)[..., None], projected(tiny, images))
        hidden = tiny.model.model.language_model(inputs_embeds=embeds).last_hidden_state
        return tiny.model.lm_head(hidden)
    more = vision_inputs(tiny, images)
    if name in ("Idefics3", "SmolVLM"):
        more["pixel_values"] = more["pixel_values"][:, None]
    answered = torch.from_numpy(item.prompt.labels)[None] != -100
    if name == "PaliGemma":
        more["token_type_ids"] = answered.long()
    if name == "Gemma3":
        more["token_type_ids"] = (ids == IMAGE).long()
    if name.startswith("Qwen"):
        more["mm_token_type_ids"] = (ids == IMAGE).int()
    return tiny.model(input_ids=ids, **more).logits


@pytest.mark.parametrize("answer", [None, "a red square"])
def test_logits_of_an_image_equal_transformers(
    tiny: Tiny, images: np.ndarray, answer: str | None
) -> None:
    tokens = load_tower(tiny.base, device="cpu").encode(images[:1])[0].clone()
    model, llm = video_llm(tiny.base)
    item = asked(tiny, llm, Video(torch.zeros(0, tokens.shape[1]), tokens), answer)
    batch = collate([item], llm.pad_token_id)
    with torch.no_grad():
        got = model.logits(model.hidden(batch).last_hidden_state)
        print(tiny.family.model, "logits", close(got, reference_logits(tiny, item, images[:1])))
        if answer:
            assert model.loss(batch)[0].isfinite()


def test_decoding_equals_repeated_prefill_and_padding_changes_nothing(tiny: Tiny) -> None:
    model, llm = video_llm(tiny.base)
    torch.manual_seed(1)
    width = llm.aligner.width
    items = [
        asked(tiny, llm, Video(torch.randn(frames, width), torch.randn(4, width)), question=text)
        for frames, text in ((3, QUESTION), (5, "what is it"))
    ]
    got = Decoder(model, (), 5)(items)
    for row, item in zip(got, items, strict=True):
        assert Decoder(model, (), 5)([item]) == [row]
        # Prompt and what was answered so far in one go (a random LLM may say the placeholder).
        for count in range((row.index(IMAGE) if IMAGE in row else 4) + 1):
            whole = collate([continued(item, row[:count])], llm.pad_token_id)
            with torch.no_grad():
                logits = model.logits(model.hidden(whole).last_hidden_state[0, -1])
            assert int(logits.argmax()) == row[count]
    row = got[0]
    stopped = Decoder(model, (row[2],), 5)(items)[0]
    assert stopped == row[: row.index(row[2]) + 1]


def continued(item: Item, answer: list[int]) -> Item:
    prompt, more = item.prompt, np.asarray(answer, np.int64)
    parts = {
        "input_ids": np.concatenate([prompt.input_ids, more]),
        "labels": np.concatenate([prompt.labels, more]),
        "segment_ids": np.concatenate([prompt.segment_ids, np.ones_like(more)]),
        "position_ids": np.arange(len(prompt.input_ids) + len(more)),
    }
    return replace(item, prompt=replace(prompt, **parts))


@pytest.mark.parametrize("features", ["both", "spatial_features", "temporal_features"])
def test_the_loss_of_a_batch_is_the_sum_over_its_questions(tiny: Tiny, features: Any) -> None:
    llm = load_image_llm(tiny.base)
    projector = VideoProjector(llm.aligner, 48, ProjectorSwitches(features=features))
    model = VideoLLM.of(projector, llm)
    torch.manual_seed(3)
    items = []
    for frames, answer in ((3, "a red square"), (6, "blue")):
        video = Video(torch.randn(frames, llm.aligner.width), torch.randn(4, llm.aligner.width))
        count = projector.num_tokens(frames, 4)
        prompt = Prompter.of(tiny.base, llm).render(QUESTION, answer, count)
        items.append(Item(("image",), prompt, video))
    single = sum(float(model.loss(collate([item], llm.pad_token_id))[0].detach()) for item in items)
    loss, _ = model.loss(collate(items, llm.pad_token_id))
    assert abs(float(loss.detach()) - single) <= 1e-4 * single
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in projector.parameters())


def test_half_precision_is_near(tiny: Tiny, images: np.ndarray) -> None:
    exact = load_tower(tiny.base, device="cpu").encode(images)
    half = load_tower(tiny.base, "bfloat16", "cpu").encode(images)
    assert half.dtype == torch.bfloat16
    assert (half - exact).norm() < 0.1 * exact.norm()
    tables = {n: b for n, b in load_image_llm(tiny.base).llm.named_buffers() if "inv_freq" in n}
    llm = load_image_llm(tiny.base, dtype=torch.bfloat16).llm
    assert {b.device.type for b in llm.buffers()} <= {"cpu"}
    assert tables
    assert all(torch.equal(dict(llm.named_buffers())[n], b) for n, b in tables.items())


def test_frame_order_changes_the_answer_logits(tiny: Tiny) -> None:
    model, llm = video_llm(tiny.base)
    torch.manual_seed(2)
    frames, patches = torch.randn(4, llm.aligner.width), torch.randn(4, llm.aligner.width)
    seen = []
    for temporal in (frames, frames.flip(0)):
        batch = collate([asked(tiny, llm, Video(temporal, patches))], llm.pad_token_id)
        with torch.no_grad():
            seen.append(model.logits(model.hidden(batch).last_hidden_state[:, -1]))
    assert (seen[0] - seen[1]).abs().max() > 1e-4


def test_the_names_of_older_releases_give_the_same_base(tiny: Tiny, tmp_path: Path) -> None:
    """save_pretrained writes the flat names; in memory the parts are nested under `model.`."""
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "nested"))
    tensors = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    saved = load_file(folder / "model.safetensors")
    if "lm_head.weight" not in saved and "language_model.lm_head.weight" not in saved:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    nested = Tiny(folder, tiny.family, tiny.model)
    assert tower_digest(nested.base) == tower_digest(tiny.base)
    assert load_image_llm(nested.base).digest == load_image_llm(tiny.base).digest
    if any(k.startswith("vision_tower.") for k in saved):  # and as published before 5.0
        old = {
            k.replace("vision_tower.", "vision_tower.vision_model.", 1): v for k, v in saved.items()
        }
        save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
        assert tower_digest(nested.base) == tower_digest(tiny.base)


def test_tokens_are_squares_in_row_major_order() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1)
    assert regroup(grid, 2)[0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
    assert regroup(grid, 2, averages=True)[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize(
    "tiny", ["llava-onevision", "internvl", "qwen2-5-vl", "gemma3"], indirect=True
)
def test_a_change_in_one_corner_of_the_picture_moves_that_corners_token_most(tiny: Tiny) -> None:
    tower = load_tower(tiny.base, device="cpu")
    plain = np.full((1, 32, 32, 3), 128, np.uint8)
    changed = plain.copy()
    changed[:, :4, -4:] = 255  # top right
    moved = (tower.encode(changed) - tower.encode(plain))[0].norm(dim=-1)
    side = int(len(moved) ** 0.5)
    assert int(moved.argmax()) == side - 1


def test_mrope_positions_equal_transformers(tmp_path: Path) -> None:
    tiny = make("qwen2-vl", tmp_path)
    ids = torch.tensor([[1, 7, *[IMAGE] * 16, 8, 9, 10]])
    grid = torch.tensor([[1, 8, 8]])
    wanted, _ = tiny.model.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=grid)
    assert torch.equal(mrope(2, 0, 16, 21), wanted[:, 0])
    frames = mrope(1, 3, 4, 10)
    assert frames.tolist() == [
        [0, 1, 2, 3, 4, 4, 4, 4, 6, 7],
        [0, 1, 1, 1, 4, 4, 5, 5, 6, 7],
        [0, 1, 1, 1, 4, 5, 4, 5, 6, 7],
    ]


def test_refusals_say_why(tmp_path: Path) -> None:
    config = {"architectures": ["Qwen3VLForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="extra mergers feed early layers"):
        load_image_llm(BaseConfig("q3", str(tmp_path)))
    tiny = make("idefics3", tmp_path / "tiny")
    facts = {"image_size": 32, "layer": -1}
    with pytest.raises(ConfigError, match="regroups"):
        load_tower(BaseConfig("x", str(tiny.folder), **facts), device="cpu")
    with pytest.raises(ConfigError, match="one layer to take"):
        load_tower(BaseConfig("x", str(tiny.folder), **{**facts, "layer": -2}), device="cpu")


def test_a_config_that_transformers_cannot_read_is_one_clear_error(tmp_path: Path) -> None:
    tiny = make("idefics3", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "text_config": 3}))
    for load in (load_image_llm, load_tower):
        with pytest.raises(CheckpointError, match=r"cannot read the configuration.*config\.json"):
            load(tiny.base)


def test_questions_that_share_a_row_are_computed_as_if_alone(tiny: Tiny) -> None:
    """M-RoPE's positions, Gemma's windows and blocks; not where the video sees the question."""
    llm = load_image_llm(tiny.base)
    if llm.attention == "bidirectional-prefix":
        return
    projector = VideoProjector(llm.aligner, 48, ProjectorSwitches())
    model = VideoLLM.of(projector, llm)
    torch.manual_seed(5)
    video = Video(torch.randn(5, llm.aligner.width), torch.randn(4, llm.aligner.width))
    count = projector.num_tokens(5, 4)
    prompter = Prompter.of(tiny.base, llm)
    asked = ((QUESTION, "a red square"), (f"{QUESTION} {QUESTION}", "blue"), (QUESTION, "red"))
    prompts = [prompter.render(question, answer, count) for question, answer in asked]
    alone = sum(
        float(model.loss(collate([Item(("q",), p, video)], llm.pad_token_id))[0].detach())
        for p in prompts
    )
    row = Item(("a", "b", "c"), pack(prompts), video)
    with torch.no_grad():
        loss, _ = model.loss(collate([row], llm.pad_token_id))
    assert float(loss) == pytest.approx(alone, rel=1e-5)
