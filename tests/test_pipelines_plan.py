"""Plans against numbers worked out by hand, by naive code, or by the parts that do the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from eval.judges.base import JudgeItem
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from extract.sampling import midpoint_indices
from features.annotations import QASample, write_videoinstruct
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.describe import load_base
from features.device import peak_of
from features.errors import ConfigError
from features.recipes import load_recipe
from pipelines import plan_sample
from pipelines.__main__ import main
from pipelines.plan import PlanConfig, make_plan, plan
from pipelines.plan_base import BaseShapes, shapes_of
from pipelines.plan_data import Questions, Videos, questions_of, videos_of
from pipelines.plan_judge import judging
from pipelines.plan_machine import NONE, Machine, Range, between, size
from pipelines.plan_table import cells
from pipelines.plan_work import (
    Row,
    Subject,
    answer_work,
    answering,
    decoded_frames,
    extraction,
    training,
    training_flops,
)
from pipelines.selection import Selection
from pipelines.stages import console
from train.flops import count_flops_model
from train.image_llm import load_image_llm
from train.options import TrainConfig
from train.projectors import ProjectorSwitches

Clip = Callable[..., Path]
P = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
"""Weights of the linear layers of a Llama of 7B."""
A100 = load_recipe("hardware", "a100", Machine)


def words(text: str) -> int:
    return len(text.split())


def lightning() -> BaseShapes:
    return shapes_of(load_base("llava-lightning-7b"))


def subject(prompt: str = "<image>{question}", **options: Any) -> Subject:
    """Of 356 tokens a video, and of none around the question."""
    base = replace(load_base("llava-lightning-7b"), num_frames=100, prompt=prompt)
    return Subject(base, lightning(), TrainConfig(**options), "bfloat16")


def asked(count: int = 8000, videos: int = 800, answer: float = 79.0) -> Questions:
    return Questions("test", ("qa",), count, videos, 20.0, answer, 1, "by hand")


def test_one_question_of_a_7b_with_356_video_tokens() -> None:
    assert (subject().video, subject().template) == (100 + 256, 0)
    length = 356 + 20 + 79 + 1
    again = P - 32 * 4096 * 11008  # all but each layer's last product
    attention = 4 * 4 * 4096 * 32 * length * (length + 1) / 2
    wanted = (4 * P + 2 * again) * length + 4 * 32003 * 4096 * 80 + attention
    assert training_flops(subject(), asked()) == pytest.approx(wanted)
    bare = subject(activation_checkpointing="off")
    wanted = 4 * P * length + 4 * 32003 * 4096 * 80 + attention * 3 / 4
    assert training_flops(bare, asked()) == pytest.approx(wanted)


def test_questions_that_share_a_row_share_the_video() -> None:
    packed = subject(activation_checkpointing="off", questions_per_row=7)
    per_row = 356 + 7 * 100
    pairs = 356 * 357 / 2 + 7 * (100 * 356 + 100 * 101 / 2)
    wanted = 4 * P * per_row + 4 * 32003 * 4096 * 80 * 7 + 3 * 4 * 4096 * 32 * pairs
    found = training_flops(packed, asked())
    assert found == pytest.approx(wanted / 7)


def test_images_take_what_is_published() -> None:
    """GFLOP of whole towers: 162 (L/14 at 224), 382 (at 336); LLaVA stops one block of 24 early."""
    assert lightning().frame_flops == pytest.approx(162e9 * 23 / 24, rel=0.005)
    found = shapes_of(load_base("llava-1.5-7b"))
    assert found.frame_flops == pytest.approx(382e9 * 23 / 24, rel=0.005)
    assert shapes_of(load_base("qwen-vl")).frame_flops == pytest.approx(4110e9, rel=0.005)


def test_sizes_of_the_embedded_base_are_those_of_what_is_loaded(base: BaseConfig) -> None:
    shapes = shapes_of(base)
    llm = load_image_llm(base)
    assert shapes.llm == count_flops_model(llm.llm)
    assert (shapes.patches, shapes.width, shapes.queries) == (16, 96, 0)
    block = 2 * 12 * 96**2 * 17 + 4 * 17**2 * 96  # 16 patches and CLS; 3 of 4 blocks are used
    assert shapes.frame_flops == 3 * block + 2 * (96 * 3 * 8 * 8) * 16
    assert shapes.nbytes == (Path(base.checkpoint) / "model.safetensors").stat().st_size


def test_tokens_follow_the_switches_and_the_readings() -> None:
    qwen = shapes_of(load_base("qwen-vl"))
    assert qwen.video_tokens(ProjectorSwitches(), 100) == 2 * 256
    grid = ProjectorSwitches(resampler="resampler-grid", spatial_window=2)
    assert qwen.video_tokens(grid, 100) == 100 + 256
    one = ProjectorSwitches(features="temporal_features")
    assert lightning().video_tokens(one, 50) == 50


def test_an_unknown_base_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\ncheckpoint: nobody/no-such-base\n")
    with pytest.raises(ConfigError, match=r"sizes of this base are not known.*--base"):
        shapes_of(load_base(str(recipe)))
    where = Selection(base="nobody/no-such-base", dataset="activitynet")
    with pytest.raises(ConfigError, match="a plan downloads nothing"):
        make_plan(where, PlanConfig(), Console(quiet=True))


@pytest.mark.parametrize("gop", [10, 60, 250])
@pytest.mark.parametrize("total", [100, 300, 3500, 18_000])
def test_frames_that_are_decoded_are_those_of_a_decoder_that_seeks(total: int, gop: int) -> None:
    count, at = 0, -1
    for wanted in midpoint_indices(total, 100):
        key = wanted // gop * gop
        count += wanted - max(at, key - 1)
        at = max(at, wanted)
    told = decoded_frames(total / 30, 100, float(gop))
    # Where the stride is near a multiple of key frames' distance, all frames may be near to one.
    assert told == pytest.approx(count, rel=0.2)
    assert told <= total


def test_extraction_in_hours_and_bytes() -> None:
    videos = Videos(1000, 117.0, Range(10e9, 20e9), False, "")
    row = extraction("x", subject(), videos, A100)
    flops = 1000 * 100 * lightning().frame_flops
    assert row.gpu_s.low == pytest.approx(flops / (312e12 * 0.7))
    assert row.gpu_s.high == pytest.approx(flops / (312e12 * 0.4))
    features = 1000 * 356 * 1024 * 2
    kept = Range(features + 1000 * 25e3, features + 1000 * 60e3)
    assert (row.disk, row.network) == (kept + videos.nbytes, videos.nbytes)
    there = extraction("x", subject(), replace(videos, here=True), A100)
    assert (there.disk, there.network) == (kept, NONE)
    measured = extraction("x", subject(), replace(videos, decode_s=0.5), A100)
    assert measured.cpu_s == Range.of(500.0)
    # Key frames 60 or 250 apart, and 35.1 frames from one chosen frame to the next.
    low, high = (1000 * 100 * 35.1 * (1 - 35.1 / (2 * gop)) for gop in (60, 250))
    wanted = low * 640 * 360 / 4.5e8 + 1000 * 100 * 640 * 360 / 1e8
    assert row.cpu_s.low == pytest.approx(wanted)
    wanted = high * 1280 * 720 / 2.5e8 + 1000 * 100 * 1280 * 720 / 4e7
    assert row.cpu_s.high == pytest.approx(wanted)
    cpu = replace(A100, device="cpu", start_s={"extract": 3.0})
    here = extraction("x", subject(), replace(videos, decode_s=0.5), cpu)
    assert here.gpu_s == Range()
    assert here.cpu_s.low == pytest.approx(row.gpu_s.low + 503)


def test_training_in_steps() -> None:
    own, lessons = subject(load_base("llava-lightning-7b").prompt), asked(100_010, 13_303)
    row = training(own, lessons, A100)
    one = training_flops(own, lessons)
    assert "9,375 steps of 32" in row.how
    assert row.gpu_s.high == pytest.approx(9375 * 32 * one / (312e12 * 0.35))
    # The recipe's own comment: about 12 A100-hours.
    assert row.gpu_s.low / 3600 < 12 < row.gpu_s.high / 3600


def test_answering_reads_a_video_once_and_the_weights_at_every_step() -> None:
    own, said = subject("about <image> a b c: {question}"), 10.0
    assert own.template == 1.5 * 4, "a question has 20 tokens, its prompt 26"
    head, heads = 32003 * 4096, 4 * 4096 * 32
    work = answer_work(own, asked(8000, 800), said, A100)
    prefix = 2 * P * 356 + heads * 356 * 357 / 2
    question = 2 * (P * 26 + head) + heads * (26 * 356 + 26 * 27 / 2)
    assert work.prefill == pytest.approx(800 * prefix + 8000 * question)
    spoken = 10 * (2 * (P + head) + heads * (356 + 26 + 5))
    assert work.decoding == pytest.approx(8000 * spoken)
    cached = 2 * 32 * 4096 * (356 / 10 + 26 + 5)
    wanted = 2 * (8000 / 32 * 20 * (P + head) + 8000 * 10 * cached)
    assert work.read == pytest.approx(wanted)
    row = answering("x", work, asked(8000, 800), said, A100)
    least = work.prefill / 312e12 + max(work.decoding / 312e12, wanted / 2.039e12)
    assert row.gpu_s.high == pytest.approx(least / 0.3)


def test_published_peaks_are_the_trainers() -> None:
    cards = {"a100": "NVIDIA A100-SXM4-80GB", "h100": "NVIDIA H100 80GB HBM3"}
    for name, card in {**cards, "rtx4090": "NVIDIA GeForce RTX 4090"}.items():
        machine = load_recipe("hardware", name, Machine)
        assert machine.name == name
        assert machine.peak["bfloat16"] == machine.peak["float16"] == peak_of(card)
        assert machine.source("peak") == "published"
        assert machine.source("train") == "assumed"


def test_questions_are_counted_where_the_files_are(tmp_path: Path) -> None:
    samples = [QASample("", f"v{i % 3}", "what is it", "a red ball " * (i + 1)) for i in range(7)]
    path = tmp_path / "train.json"
    write_videoinstruct(path, samples)
    split = SplitConfig("videoinstruct", path, num_questions=99, videos=9)
    dataset = DatasetConfig("mine", tmp_path, {"train": split})
    found = questions_of(dataset, "train", words)
    assert (found.count, found.videos, found.question) == (7, 3, 3.0)
    assert found.answer == 3 * 4
    assert "counted in" in found.source
    path.unlink()
    published = questions_of(dataset, "train", words)
    assert (published.count, published.videos, published.samples) == (99, 9, ())
    assert published.source == "published (recipe)"


def test_what_nobody_knows_is_refused_with_what_to_do(tmp_path: Path) -> None:
    bare = SplitConfig("videoinstruct", tmp_path / "none.json")
    dataset = DatasetConfig("mine", tmp_path / "none", {"train": bare})
    with pytest.raises(ConfigError, match=r"how many questions.*num_questions"):
        questions_of(dataset, "train", words)
    with pytest.raises(ConfigError, match="how large this dataset is"):
        videos_of(dataset, seconds=10.0)
    told = replace(dataset, splits={"train": replace(bare, videos=5)})
    with pytest.raises(ConfigError, match="--video_seconds"):
        videos_of(told)
    known = videos_of(told, seconds=10.0)
    assert (known.count, known.nbytes) == (5, Range(5 * 10 * 80e3, 5 * 10 * 300e3))


def test_published_splits_add_up_and_aspects_share_their_videos() -> None:
    sets = {n: load_recipe("datasets", n, DatasetConfig) for n in ("activitynet", "vcgbench")}
    assert videos_of(sets["activitynet"]).count == 13_303 + 1_800 + 800
    assert videos_of(sets["vcgbench"]).count == 499


def test_files_tell_their_bytes(tmp_path: Path) -> None:
    for name, length in {"a": 1000, "b": 3000}.items():
        (tmp_path / f"{name}.mp4").write_bytes(b"x" * length)
    found = videos_of(DatasetConfig("mine", tmp_path))
    assert (found.count, found.nbytes, found.here) == (2, Range.of(4000.0), True)
    partly = DatasetConfig(
        "mine", tmp_path, {"test": SplitConfig("qa-pairs", tmp_path / "no", videos=10)}
    )
    assert videos_of(partly).count == 10
    assert videos_of(partly).nbytes == Range.of(10 * 2000.0)


@pytest.mark.parametrize("aspects", [("qa",), ("correctness", "detail", "consistency")])
def test_judging_costs_what_the_judge_itself_estimates(
    aspects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = JudgeConfig("endpoint", "m", price_in=3.0, price_out=7.0, max_tokens=99)
    samples = tuple(QASample(str(i), "v", f"why {i}", f"so {i}") for i in range(5))
    split = replace(asked(5, 1), aspects=aspects, samples=samples)
    row = judging("mine", config, [split], said=6.0)
    items = []
    for aspect in aspects:
        for s in samples:
            second = (s.question, "a person in the video sl") if aspect == "consistency" else ()
            pred = "a person in the video sl"  # 6 tokens of 4 bytes
            items.append(JudgeItem("", aspect, s.question, s.answer, pred, *second))
    cost = make_judge(config, tmp_path / "cache", asks=False).estimate(items)
    assert cost.requests == 5 * len(aspects)
    assert row.money is not None
    assert row.money.high == cost.price
    assert row.tokens.high == cost.prompt_tokens + cost.completion_tokens
    assert row.money.low == pytest.approx((cost.prompt_tokens * 3 + cost.requests * 16 * 7) / 1e6)
    free = judging("mine", JudgeConfig("endpoint", "m"), [split], said=6.0)
    assert (free.money, free.tokens.high > 0) == (None, True)
    assert judging("offline", JudgeConfig(), [split], 6.0) == Row(
        "judge offline", "rules: no requests"
    )


def test_the_command_plans_a_7b_without_weights_and_the_json_is_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)  # made when another test's COLUMNS held, maybe
    mine = yaml.safe_load((plan_recipes() / "a100.yaml").read_text()) | {"price": 2.0}
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    args = ["--dataset", "activitynet", "--base", "qwen-vl", "--json", "out/plan.json"]
    assert main(["plan", *args, "--hardware", "mine.yaml"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    record = json.loads(Path("out/plan.json").read_text())
    stages = [row["stage"] for row in record["rows"]]
    assert stages == [
        "weights of qwen-vl",
        "extract activitynet",
        "train",
        "answer activitynet test",
        "judge gpt-4o-mini",
    ]
    names = ("gpu_hours", "cpu_hours", "disk_bytes", "network_bytes", "judge_tokens", "cost")
    for row in [*record["rows"], record["total"]]:
        gpu, cpu, disk, network, tokens, cost = (
            Range(*(row[name] or (0.0, 0.0))) for name in names
        )
        money = None if row["cost"] is None else cost
        sums = gpu * 3600, cpu * 3600, disk, network, tokens
        assert " ".join(c for c in cells(Row(row["stage"], "", *sums, money)) if c) in shown
        assert row["how"] in shown
    for name in names:
        ends = np.array([row[name] or (0.0, 0.0) for row in record["rows"]]).sum(axis=0)
        assert record["total"][name] == pytest.approx(ends.tolist())
    train = record["rows"][2]
    assert train["cost"] == pytest.approx([2 * hours for hours in train["gpu_hours"]])
    assert main(["plan", *args]) == 0  # an A100 has no price of ours, so nobody knows the total
    assert json.loads(Path("out/plan.json").read_text())["total"]["cost"] is None
    assert "published shapes" in shown
    assert "nothing is downloaded" not in shown
    assert not list(tmp_path.glob("runs/*"))


def plan_recipes() -> Path:
    return Path(__file__).resolve().parent.parent / "pipelines" / "recipes" / "hardware"


def test_a_plan_of_something_unknown_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for args, words_ in {
        ("--hardware", "a1000"): "no such hardware",
        ("--dataset", "demo"): "nobody knows how many questions",
        ("--video_seconds", "-1"): "how large this dataset is",
    }.items():
        assert main(["plan", "--dataset", "activitynet", "--base", "qwen-vl", *args]) == 2
        assert words_ in capsys.readouterr().err


def test_80_columns_hold_every_number_and_every_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    mine = yaml.safe_load((plan_recipes() / "a100.yaml").read_text()) | {"price": 20.0}
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    where = Selection(base="qwen-vl", dataset="activitynet")
    tests = "activitynet vcgbench:consistency msrvtt-qa:test"
    config = PlanConfig(benchmarks=tests, hardware="mine.yaml")
    record = plan(where, config, Console(soft_wrap=True)).record()
    shown = capsys.readouterr().out
    assert "…" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    names = ("gpu_hours", "cpu_hours", "disk_bytes", "network_bytes", "judge_tokens", "cost")
    for row in [*record["rows"], record["total"]]:
        gpu, cpu, *rest = (Range(*(row[name] or (0.0, 0.0))) for name in names)
        printed = cells(Row(row["stage"], "", gpu * 3600, cpu * 3600, *rest))
        numbers = " ".join(printed[1:]).split()
        at = next(i for i, x in enumerate(lines) if x.split()[-len(numbers) :] == numbers)
        name = lines[at].split()[: -len(numbers)]
        assert row["stage"].split() in (name, name + lines[at + 1].split())
    whole = "".join(shown.split())
    for assumption in record["assumptions"]:
        for text in assumption.values():
            assert all(word in whole for word in text.split())


def test_bytes_are_told_in_one_unit() -> None:
    assert size(Range(148.9e9, 558.2e9)) == "150-560 GB"
    assert size(Range(59.9e9, 60.4e9)) == "60 GB"
    assert size(19.3e9) == "19.3 GB"
    assert size(Range(900e6, 1.2e9)) == "0.9-1.2 GB"
    assert size(Range()) == ""
    assert size(2.5e15) == "2,500 TB"


def test_numbers_are_told_as_precisely_as_they_are_known() -> None:
    assert between(Range(11.23, 18.77)) == "11-19"
    assert between(Range(0.0123, 0.456)) == "0.012-0.46"
    assert between(Range.of(1_234_567.0)) == "1,230,000"
    assert between(Range()) == ""


def test_here_is_measured_by_the_stages_themselves(
    clip: Clip,
    base: BaseConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pipelines.plan_sample.SMALL", plan_sample.Sizes((2, 4), (1, 3), (2, 6)))
    monkeypatch.setattr("pipelines.plan_sample.SAMPLE", 3)  # so that 4 videos say how they decode
    twice = "decoding is told by the very videos that told what the ViT takes"
    monkeypatch.setattr("pipelines.plan.decode_seconds", lambda *_: pytest.fail(twice))
    monkeypatch.setattr(console, "width", 200)  # made when another test's COLUMNS held, maybe
    rows = []
    for index in range(6):
        clip(tmp_path / "clips" / f"c{index}.mp4", num_frames=12, seed=index)
        split = "train" if index < 3 else "test"
        texts = {"question": "what colour is the circle", "answer": "red", "split": split}
        rows += [{"video": f"c{index}.mp4", **texts}] * 3
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = ["--videos", str(tmp_path / "clips"), "--annotations", str(path), "--num_frames", "4"]
    args += ["--hardware", "here", "--runs", str(tmp_path / "runs"), "--judge", "offline"]
    assert main(["plan", *args, "--json", str(tmp_path / "a.json")]) == 0
    first = capsys.readouterr().out
    assert "steps in" not in first, "what the stages say of the sample is not for the reader"
    found = json.loads((tmp_path / "a.json").read_text())
    by_stage = {row["stage"].split()[0]: row for row in found["rows"]}
    for stage in ("extract", "train", "answer"):
        assert by_stage[stage]["gpu_hours"] == [0, 0]
        low, high = by_stage[stage]["cpu_hours"]
        assert 0 < low == high < 1
    assert "6 videos x 4 frames" in by_stage["extract"]["how"]
    sources = {a["what"]: a["source"] for a in found["assumptions"]}
    assert sources["share of it that is reached"] == "measured here"
    assert sources["network"] == "assumed"
    assert sources["decoding clips"] == "measured here"
    assert 0 < plan_sample.decode_seconds(base, DatasetConfig("few", tmp_path / "clips")) < 5


def test_without_the_datasets_files_the_sample_is_of_the_demo_world(
    base: BaseConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = load_recipe("datasets", "activitynet", DatasetConfig)
    assert not plan_sample.files_here(elsewhere)
    mini = Subject(base, shapes_of(base), TrainConfig())
    sizes = plan_sample.Sizes((2, 4), (1, 3), (2, 6))
    cpu = replace(A100, device="cpu")
    found = plan_sample.measure_sample(cpu, mini, elsewhere, sizes, tmp_path)
    for name in ("extract", "train", "answer"):
        low, high = getattr(found, name)
        assert 0 < low == high < 0.1, "of the peak of an A100"
        assert found.source(name) == "measured here"
        assert 0 <= found.start_s[name] < 60
    assert found.beside == A100.beside, "the demo's thumbnails are not those of ActivityNet"
    assert found.source("beside") == "assumed"
    assert found.decode_s is None, "nor is decoding them"
