from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from features.device import measured_rate, peak_of
from train.aligners import LinearAligner
from train.batch import Batch
from train.flops import FlopsModel, StepWork, count_flops_model, flops_model_of, step_work
from train.meter import LoaderClock, Report, Speed, StepMeter
from train.packing import visible_pairs
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import IGNORE

ROWS = [
    [0, 0, 0, 1, 1, 2, 2, 2, 3, -1],
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
    [-1, -1, -1, 0, 1, 2, 3, 4, 5, 6],
    [1, 1, 1, -1, -1, -1, -1, -1, -1, -1],
    [-1] * 10,
]
CPU = torch.device("cpu")
FLOPS = FlopsModel(linear=1000, linear_again=800, head=70, attention_width=8, layers=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def batch_of(rows: Sequence[Sequence[int]], answers: int, questions: int) -> Batch:
    segments = torch.tensor(rows)
    rest = torch.zeros(len(rows), 1, 4)
    return Batch(
        sample_ids=tuple(f"q{i}" for i in range(questions)),
        input_ids=torch.zeros_like(segments),
        labels=torch.full_like(segments, IGNORE),
        segment_ids=segments,
        position_ids=torch.zeros_like(segments),
        temporal=rest,
        temporal_valid=rest[..., 0] == 0,
        spatial=rest,
        spatial_valid=rest[..., 0] == 0,
        num_answer_tokens=answers,
        num_tokens=sum(segment >= 0 for row in rows for segment in row),
        num_pairs=sum(map(pairs_by_hand, rows)),
    )


def pairs_by_hand(row: Sequence[int]) -> int:
    """Asks of each query and key whether the one may see the other."""
    return sum(
        k <= q and row[q] >= 0 and row[k] >= 0 and row[k] in (0, row[q])
        for q in range(len(row))
        for k in range(len(row))
    )


def projector_of(**switches: str) -> VideoProjector:
    torch.manual_seed(0)
    return VideoProjector(LinearAligner(6, 4), 4, ProjectorSwitches(**switches))


def meter_of(projector: nn.Module, clock: LoaderClock | None = None, **options: bool) -> StepMeter:
    return StepMeter(projector, FLOPS, Speed(1e6, 4e6), clock or LoaderClock(), **options)


def flat(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([t.detach().double().numpy().ravel() for t in tensors])


@pytest.mark.parametrize("row", ROWS[:-1])
def test_visible_pairs_equal_a_mask_asked_pair_by_pair(row: list[int]) -> None:
    real = np.array([segment for segment in row if segment >= 0])
    assert visible_pairs(real) == pairs_by_hand(row)


def test_the_work_of_a_step_is_that_of_its_micro_batches() -> None:
    first, second = batch_of(ROWS[:2], 5, 4), batch_of(ROWS[2:], 3, 7)
    tokens = sum(segment >= 0 for row in ROWS for segment in row)
    wanted = StepWork(tokens, 8, sum(map(pairs_by_hand, ROWS)), 11)
    assert step_work([first, second]) == wanted
    assert step_work([]) == StepWork(0, 0, 0, 0)


def tiny_llm(name: str) -> PreTrainedModel:
    """Grouped queries, and heads whose width is not hidden_size / heads."""
    kinds = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    }
    config_of, model_of = kinds[name]
    config = config_of(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=70,
        pad_token_id=0,
        attn_implementation="eager",  # which computes every pair, the masked ones too
    )
    return model_of(config).requires_grad_(False).train()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_flops_equal_those_that_torch_counts(name: str, checkpointing: bool) -> None:
    batch, length, answers = 2, 10, 3
    llm = tiny_llm(name)
    embeds = torch.randn(batch, length, 32, requires_grad=True)
    if checkpointing:
        llm.activation_checkpointing_enable()
    with FlopCounterMode(display=False) as counter:
        hidden = llm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        llm.lm_head(hidden[:, :answers]).sum().backward()
    counts = batch * length, batch * answers, batch * length**2
    wanted = count_flops_model(llm).flops(StepWork(*counts, questions=1), checkpointing)
    got = counter.get_total_flops()
    assert 0 <= got - wanted < 0.001 * wanted  # the angles of positions are a product too


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_shapes_alone_tell_the_sizes_of_an_llm(name: str) -> None:
    llm = tiny_llm(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in llm.named_parameters()}
    found = flops_model_of(shapes)
    assert found == count_flops_model(llm)
    tied = {key: shape for key, shape in shapes.items() if key != "lm_head.weight"}
    assert flops_model_of(tied) == found, "a head that is the table of embeddings"
    with pytest.raises(KeyError):
        flops_model_of({"model.embed_tokens.weight": (70, 32)})


def test_a_forward_pass_takes_what_torch_counts() -> None:
    llm, (batch, length, answers) = tiny_llm("llama"), (2, 10, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = llm.model(inputs_embeds=torch.randn(batch, length, 32)).last_hidden_state
        llm.lm_head(hidden[:, :answers])
    work = StepWork(batch * length, batch * answers, batch * length**2, questions=1)
    got, wanted = counter.get_total_flops(), count_flops_model(llm).forward(work)
    assert 0 <= got - wanted < 0.001 * wanted


def test_the_sizes_of_an_llm_need_no_weights() -> None:
    llm = tiny_llm("llama")
    with torch.device("meta"):
        empty = LlamaForCausalLM(llm.config)
    linear = sum(p.numel() for p in llm.model.layers.parameters() if p.ndim == 2)
    wanted = FlopsModel(linear, linear - 3 * 32 * 48, 70 * 32, 4 * 16, 3)
    assert count_flops_model(empty) == count_flops_model(llm) == wanted


@pytest.mark.parametrize(
    ("switches", "modules"),
    [
        ({}, ["alignment", "temporal"]),
        ({"temporal_module": "shared"}, ["alignment"]),
        ({"extra_mlp": "both"}, ["alignment", "temporal", "alignment_mlp", "temporal_mlp"]),
        ({"features": "temporal_features"}, ["temporal"]),
    ],
)
def test_norms_and_distances_are_those_of_float64(
    switches: dict[str, str], modules: list[str]
) -> None:
    projector = projector_of(**switches)
    meter = meter_of(projector)
    start = {name: flat(list(projector.get_submodule(name).parameters())) for name in modules}
    for number, parameter in enumerate(projector.parameters()):
        parameter.grad = (number + 1) * torch.randn_like(parameter)
    total = meter.gradients()
    assert torch.equal(total, torch.nn.utils.get_total_norm(p.grad for p in projector.parameters()))
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    row = meter.row(1, 1.5, 0.25, step_work([batch_of(ROWS, 5, 4)]))
    assert (row["loss"], row["lr"]) == (1.5, 0.25)
    seen = {key.split("/")[1] for key in row if "/" in key}
    assert seen == set(modules)
    squares = 0.0
    for name in modules:
        parameters = list(projector.get_submodule(name).parameters())
        norm = np.linalg.norm(flat([p.grad for p in parameters]))
        squares += norm**2
        assert row[f"grad_norm/{name}"] == pytest.approx(norm, rel=1e-6)
        distance = np.linalg.norm(flat(parameters) - start[name]) / np.linalg.norm(start[name])
        assert row[f"distance/{name}"] == pytest.approx(distance, rel=1e-6)
    assert row["grad_norm"] == pytest.approx(squares**0.5, rel=1e-6)


def test_a_frozen_module_is_not_measured() -> None:
    projector = projector_of()
    assert projector.alignment is not None
    projector.alignment.requires_grad_(False)
    assert set(meter_of(projector).distances()) == {"distance/temporal"}


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(time, "perf_counter", found)
    return found


def steps(
    meter: StepMeter, clock: LoaderClock, hands: Hands, times: Sequence[tuple[float, float, float]]
) -> Iterator[dict[str, float]]:
    """Steps that wait, compute and then do something else for so many seconds."""
    for parameter in meter._modules["alignment"]:
        parameter.grad = torch.ones_like(parameter)
    for step, (waits, computes, rests) in enumerate(times, start=1):
        with clock.profile("[_TrainingEpochLoop].train_dataloader_next"):
            hands.sleep(waits)
        with clock.profile("run_training_batch"):
            hands.sleep(computes)
            meter.gradients()
            yield meter.row(step, 1.0, 0.1, step_work([batch_of(ROWS, 5, 4)]))
        hands.sleep(rests)


def test_speed_and_shares_follow_from_the_clock_and_the_work(hands: Hands) -> None:
    clock = LoaderClock()
    meter = meter_of(projector_of(), clock)
    hands.sleep(1000)  # the rest of the start
    rows = list(steps(meter, clock, hands, [(1, 3, 2), (0, 8, 0)]))
    tokens, answers, pairs, questions = step_work([batch_of(ROWS, 5, 4)])
    flops = 4 * 1000 * tokens + 4 * 70 * answers + 3 * 4 * 8 * 2 * pairs
    for row, seconds, share in zip(rows, (4, 8), (0.25, 0.0), strict=True):
        assert row["tokens_per_s"] == pytest.approx(tokens / seconds)
        assert row["questions_per_s"] == pytest.approx(questions / seconds)
        assert row["floor_share"] == pytest.approx(flops / 1e6 / seconds)
        assert row["mfu"] == pytest.approx(flops / 4e6 / seconds)
        assert row["data_share"] == pytest.approx(share)
    # what lies between steps counts in the whole
    assert meter.report() == Report(2, 14.0, 2.0 * tokens, flops / 5e5, 1.0)
    assert str(meter.report()).startswith(f"2 steps in 14.0 s, {2 * tokens / 14:,.0f} tokens/s")


def test_checkpointing_moves_the_floor_and_not_the_needed_work(hands: Hands) -> None:
    plain, twice = (meter_of(projector_of(), checkpointing=on) for on in (False, True))
    tokens, answers, pairs, _ = step_work([batch_of(ROWS, 5, 4)])
    linear, head, attention = 200 * tokens, 4 * 70 * answers, 4 * 8 * 2 * pairs
    ratios = []
    for meter in (plain, twice):
        (row,) = steps(meter, meter._clock, hands, [(0, 1, 0)])
        ratios.append(row["floor_share"] / row["mfu"])
    assert ratios[0] == pytest.approx(4)  # peak / rate
    wanted = (28 * linear + head + 4 * attention) / (20 * linear + head + 3 * attention)
    assert ratios[1] / ratios[0] == pytest.approx(wanted)


def test_without_a_known_peak_there_is_no_mfu_and_distances_come_now_and_then(
    hands: Hands,
) -> None:
    clock = LoaderClock()
    meter = StepMeter(projector_of(), FLOPS, Speed(1e6), clock)
    rows = list(steps(meter, clock, hands, [(0, 1, 0)] * 41))
    assert not any("mfu" in row for row in rows)
    assert [i for i, row in enumerate(rows) if "distance/temporal" in row] == [0, 20, 40]


def test_a_report_of_nothing_can_be_printed() -> None:
    assert str(Report()).startswith("0 steps in 0.0 s, 0 tokens/s")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),
        ("Tesla V100-SXM2-32GB", 125e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090", 71e12),
        ("NVIDIA GeForce RTX 3090 Ti", None),
    ],
)
def test_a_card_is_known_by_its_whole_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_the_measured_rate_is_that_of_a_product() -> None:
    started = time.perf_counter()
    rate = measured_rate(torch.device("cpu"), torch.float32, 256, seconds=0.1)
    assert time.perf_counter() - started < 5
    x, w = torch.randn(512, 256), torch.randn(256, 256)
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        x @ w
        seconds.append(time.perf_counter() - began)
    plain = 2 * 512 * 256**2 / min(seconds)
    assert plain / 4 < rate < plain * 4  # a busy machine, but no wrong factor of 256
