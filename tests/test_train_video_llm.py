from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration

from features.config import BaseConfig
from features.errors import RedVillmError
from features.store import VideoFeatures
from train.batch import Item, collate
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.steps import cut_step
from train.video_llm import VideoLLM, check_trainable, count_parameters, trainable
from train.videos import Video

T, N = 8, 16
ASKED = [
    ("what colour is the circle", "red", 8),
    ("where is the square after it moves", "top left", 3),
    ("is there a red cross", "yes", 8),
    ("what does the triangle do first", "changes colour", 1),
]


@pytest.fixture(scope="module")
def base(mini_dir: Path) -> ImageLLM:
    return load_image_llm(BaseConfig("mini", str(mini_dir), image_size=32))


@pytest.fixture(scope="module")
def reference(mini_dir: Path) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(mini_dir).float().eval()


@pytest.fixture
def model(base: ImageLLM) -> VideoLLM:
    """Projectors that moved away from their start, so that both streams matter."""
    projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches())
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return VideoLLM.of(projector, base)


def items_of(model: VideoLLM, base: ImageLLM) -> list[Item]:
    """Four questions, two of them about clips of fewer than T frames."""
    prompter = Prompter.of(BaseConfig("mini", ""), base)
    generator = torch.Generator().manual_seed(2)
    items = []
    for number, (question, answer, frames) in enumerate(ASKED):
        temporal = torch.randn(frames, base.aligner.width, generator=generator)
        spatial = torch.randn(N, base.aligner.width, generator=generator)
        prompt = prompter.render(question, answer, model.projector.num_tokens(frames, N))
        items.append(Item((f"q{number}",), prompt, Video(temporal, spatial)))
    return items


def plain_losses(model: VideoLLM, base: ImageLLM, reference) -> list[torch.Tensor]:
    """Sum of answer losses by sample: transformers' model with labels, one sample, no padding."""
    losses = []
    embed = reference.get_input_embeddings()
    for item, (question, answer, _) in zip(items_of(model, base), ASKED, strict=True):
        start, end = (
            torch.tensor(base.tokenizer(part, add_special_tokens=False)["input_ids"])
            for part in ("USER:", f"{question} ASSISTANT: {answer}")
        )
        start = torch.cat([torch.tensor([base.tokenizer.bos_token_id]), start])
        end = torch.cat([end, torch.tensor([base.tokenizer.eos_token_id])])
        temporal = mlp(model.projector.temporal, item.video.temporal)
        spatial = mlp(model.projector.alignment, item.video.spatial)
        embeds = torch.cat([embed(start), temporal, spatial, embed(end)])[None]
        count = len(answer.split()) + 1
        labels = torch.full(embeds.shape[:2], -100)
        labels[0, -count:] = end[-count:]
        losses.append(reference(inputs_embeds=embeds, labels=labels).loss * count)
    return losses


def mlp(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return module.linear_2(F.gelu(module.linear_1(x)))


def test_loss_and_gradient_equal_transformers_sample_by_sample(model, base, reference) -> None:
    wanted = torch.stack(plain_losses(model, base, reference))
    total = wanted.sum()
    total.backward()
    gradients = [p.grad.clone() for p in model.projector.parameters()]
    model.zero_grad()
    items = items_of(model, base)
    for item, loss in zip(items, wanted, strict=True):  # alone
        got, count = model.loss(collate([item], base.pad_token_id))
        assert count == len(ASKED[int(item.sample_ids[0][1:])][1].split()) + 1
        assert abs(got.item() - loss.item()) <= 1e-5 * abs(loss.item())
    for side in ("right", "left"):  # short clips mixed with full ones in one batch
        model.zero_grad()
        got, _ = model.loss(collate(items, base.pad_token_id, side))
        got.backward()
        assert abs(got.item() - total.item()) <= 1e-5 * total.item()
        for parameter, gradient in zip(model.projector.parameters(), gradients, strict=True):
            scale = gradient.abs().max()
            assert (parameter.grad - gradient).abs().max() <= 1e-5 * scale


def test_cutting_a_step_does_not_change_its_gradient(model, base) -> None:
    items = items_of(model, base)

    def gradient(max_questions: int) -> torch.Tensor:
        batches = cut_step(items, base.pad_token_id, max_questions, 10**6)
        assert len(batches) == -(-len(items) // max_questions)
        model.zero_grad()
        total = sum(batch.num_answer_tokens for batch in batches)
        for batch in batches:
            (model.loss(batch)[0] / total).backward()
        return torch.cat([p.grad.flatten() for p in model.projector.parameters()])

    whole = gradient(4)
    assert whole.abs().max() > 0
    for max_questions in (3, 2, 1):
        assert (gradient(max_questions) - whole).norm() <= 1e-5 * whole.norm()


def test_rows_that_do_not_exist_are_never_seen(model, base) -> None:
    batch = collate(items_of(model, base), base.pad_token_id)
    wanted = model.loss(batch)[0]
    spoiled = batch.temporal.masked_fill(~batch.temporal_valid[..., None], float("nan"))
    assert spoiled.isnan().any()
    got = model.loss(type(batch)(**{**vars(batch), "temporal": spoiled}))[0]
    assert torch.equal(got, wanted)
    got.backward()
    assert all(p.grad.isfinite().all() for p in model.projector.parameters())


def test_the_llm_gets_no_gradient_and_bfloat16_keeps_projectors_in_float32(
    mini_dir: Path,
) -> None:
    base = load_image_llm(BaseConfig("mini", str(mini_dir)), dtype=torch.bfloat16)
    projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches())
    model = VideoLLM.of(projector, base)
    loss, _ = model.loss(collate(items_of(model, base), base.pad_token_id))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is None for p in model.llm.parameters())
    assert {p.grad.dtype for p in model.projector.parameters()} == {torch.float32}


def test_a_wrong_number_of_placeholders_is_refused(model, base) -> None:
    item = items_of(model, base)[0]
    short = Video(item.video.temporal[:-1], item.video.spatial)
    batch = collate([Item(("q",), item.prompt, short)], base.pad_token_id)
    with pytest.raises(RedVillmError, match=r"got: 23 video tokens.*wanted: 24"):
        model.loss(batch)


@pytest.mark.parametrize(
    ("switches", "modules"),
    [
        (ProjectorSwitches(), {"alignment", "temporal"}),
        (ProjectorSwitches(temporal_module="shared"), {"alignment"}),
        (ProjectorSwitches("spatial_features"), {"alignment"}),
        (ProjectorSwitches("temporal_features"), {"temporal"}),
        (ProjectorSwitches("temporal_features", "shared"), {"alignment"}),
        (ProjectorSwitches(extra_mlp="alignment"), {"alignment", "temporal", "alignment_mlp"}),
        (
            ProjectorSwitches(extra_mlp="both"),
            {"alignment", "temporal", "alignment_mlp", "temporal_mlp"},
        ),
        (ProjectorSwitches("both", "shared", "alignment"), {"alignment", "alignment_mlp"}),
    ],
)
def test_the_table_of_what_is_trained(base: ImageLLM, switches, modules: set[str]) -> None:
    projector = VideoProjector(base.aligner, base.hidden_size, switches)
    model = VideoLLM.of(projector, base)
    table = check_trainable(model)
    rows = {str(cell).removeprefix("projector.") for cell in table.columns[0].cells}
    assert rows == modules | {"llm"}
    assert {name.split(".")[1] for name in trainable(model)} == modules
    counts = count_parameters(model)
    assert counts["frozen"] == sum(p.numel() for p in base.llm.parameters())
    assert counts["trained"] == sum(p.numel() for p in projector.parameters())
    next(iter(projector.parameters())).requires_grad_(False)
    with pytest.raises(RuntimeError, match="projector"):
        check_trainable(model)


@pytest.mark.parametrize(
    ("trained", "frozen"), [("temporal", "alignment"), ("alignment", "temporal")]
)
def test_the_table_tells_a_module_that_is_not_trained(base: ImageLLM, trained, frozen) -> None:
    projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches(trained=trained))
    model = VideoLLM.of(projector, base)
    size = f"{sum(p.numel() for p in base.aligner.parameters()):,}"
    columns = [[str(cell) for cell in column.cells] for column in check_trainable(model).columns]
    rows = {name: numbers for name, *numbers in zip(*columns, strict=True)}
    assert rows[f"projector.{trained}"] == [size, "0"]
    assert rows[f"projector.{frozen}"] == ["0", size]
    projector.get_submodule(frozen).requires_grad_(True)
    with pytest.raises(RuntimeError, match=f"projector.{frozen}"):
        check_trainable(model)


def test_a_blank_video_gives_the_logits_of_any_other(model: VideoLLM, base: ImageLLM) -> None:
    """Of as many frames; in front of them the question alone decides."""
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randn(T + N, base.aligner.width, generator=generator) for _ in range(2)]
    stored = [VideoFeatures(r[:T].numpy(), r[T:].numpy(), T) for r in rows]

    def logits(switches: ProjectorSwitches, question: str) -> list[torch.Tensor]:
        prompt = Prompter.of(BaseConfig("mini", ""), base).render(question, "red", T + N)
        items = [Item(("q",), prompt, Video.of(s, switches, "v")) for s in stored]
        with torch.no_grad():
            batches = [collate([item], base.pad_token_id) for item in items]
            return [model.logits(model.hidden(batch).last_hidden_state) for batch in batches]

    one, other = logits(ProjectorSwitches(video="blank"), "what colour is the circle")
    assert torch.equal(one, other)
    assert not torch.equal(*logits(ProjectorSwitches(), "what colour is the circle"))
    assert not torch.equal(one, logits(ProjectorSwitches(video="blank"), "what moves after it")[0])
