"""`plan`: what a dataset and a base will take, before anything is downloaded or rented.

GPU-hours, CPU-hours, disk, network, judge tokens and money, from FLOPs and bytes
(plan_work.py) and from what the machine does (plan_machine.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from eval.generate import GenerateConfig
from eval.judges.options import JudgeConfig
from features.config import BaseConfig
from features.describe import is_checkpoint
from features.durable import replace_json
from features.errors import ConfigError
from features.recipes import load_recipe
from features.spec import SCHEMA_VERSION, ComputeDtype
from pipelines.eval_jobs import benchmark_parts, pick_splits
from pipelines.experiment import load_experiment
from pipelines.plan_base import BaseShapes, local_checkpoint, shapes_of
from pipelines.plan_data import Questions, Videos, questions_of, token_counter, videos_of
from pipelines.plan_judge import judging
from pipelines.plan_machine import Machine, Range, between
from pipelines.plan_measure import decode_seconds, measure_here
from pipelines.plan_sample import Subject
from pipelines.plan_work import (
    LONGEST,
    NONE,
    WEB_VIDEO,
    Prompted,
    Row,
    answer_work,
    answering,
    extraction,
    training,
)
from pipelines.selection import Selection
from train.options import TrainConfig, pick_budget

NOT_MODELLED = (
    "starting processes and importing libraries (5 to 20 s a command)",
    "the projectors' own arithmetic (about 1 % of a training step at 7B) and padding",
    "memory: whether micro-batches fit is told by `make rehearse` and `make gpu-check`",
    "several GPUs waiting for one another, and GPUs waiting for cores that decode",
    "keys and values of grouped-query attention (counted as if every head had its own)",
    "second asks of a judge, and replies that are kept from earlier runs",
)


@dataclass(frozen=True)
class PlanConfig:
    """What is planned beside base and dataset."""

    experiment: str = "red-villm"
    """Recipe (name or YAML file) whose switches and budget are trained; its base and dataset are
    not looked at: give those as --base and --dataset, or the recipe as --config."""
    benchmarks: str = ""
    """What is answered: `vcgbench msvd-qa:val`; the dataset's own test questions unless given."""
    judge: str = "gpt-4o-mini"
    """Judges, separated by blanks: recipes of pipelines/recipes/judges, or YAML files."""
    hardware: str = "a100"
    """A row of pipelines/recipes/hardware (a100, h100, rtx4090), a YAML file, or `here`: measured
    on this machine in about a minute (a large base is loaded nine times for it), and kept in the
    folder of runs."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the ViT, as `extract` has it."""
    videos_count: int | None = None
    """Videos to extract, instead of those counted or published."""
    video_seconds: float | None = None
    """Their mean length."""
    questions: int | None = None
    """Training questions, instead of those counted or published."""
    test_questions: int | None = None
    """Questions of each split that is answered, instead of those counted or published."""
    answer_tokens: float | None = None
    """Mean length of the model's answers; that of the training answers unless given."""
    measure_again: bool = False
    """`here`: measure even if it was measured before."""
    json: Path | None = None
    """Where all numbers go, as JSON."""


@dataclass(frozen=True)
class Plan:
    """What came out."""

    rows: tuple[Row, ...]
    assumptions: tuple[tuple[str, str, str], ...]
    """(what, value, source), the most important first."""
    facts: dict[str, str]
    """Base, dataset, experiment, hardware."""

    @property
    def total(self) -> Row:
        """The sum of all rows; money only where all of it is known."""
        total = Row("total", "")
        for row in self.rows:
            money = [m for m in (total.money, row.money) if m is not None]
            sums = {n: getattr(total, n) + getattr(row, n) for n in NUMBERS}
            total = replace(total, **sums, money=sum(money, NONE) if money else None)
        return total

    def record(self) -> dict[str, Any]:
        """All numbers, as JSON has them: hours, bytes, tokens, money."""
        names = ("what", "value", "source")
        return {
            "schema": SCHEMA_VERSION,
            **self.facts,
            "rows": [row_record(row) for row in self.rows],
            "total": row_record(self.total),
            "assumptions": [dict(zip(names, a, strict=True)) for a in self.assumptions],
            "not_modelled": list(NOT_MODELLED),
        }


NUMBERS = ("gpu_s", "cpu_s", "disk", "network", "tokens")


def row_record(row: Row) -> dict[str, Any]:
    """A row in the units of the table, each number as [low, high]."""
    numbers = {
        "gpu_hours": row.gpu_s * (1 / 3600),
        "cpu_hours": row.cpu_s * (1 / 3600),
        "disk_bytes": row.disk,
        "network_bytes": row.network,
        "judge_tokens": row.tokens,
        "cost": row.money,
    }
    told = {k: None if n is None else [n.low, n.high] for k, n in numbers.items()}
    return {"stage": row.stage, **told, "how": row.how}


def plan(where: Selection, config: PlanConfig, console: Console) -> Plan:
    """Work out what extraction, training, answering and judging take; print and write it.

    Raises:
        ConfigError: sizes that nobody knows, an unknown recipe, or a number that makes no sense.
    """
    from pipelines.plan_table import show_plan

    made = make_plan(where, config, console)
    show_plan(made, console)
    if config.json is not None:
        config.json.parent.mkdir(parents=True, exist_ok=True)
        replace_json(config.json, made.record(), "plan")
        console.print(f"written to {config.json}")
    return made


def make_plan(where: Selection, config: PlanConfig, console: Console) -> Plan:
    """`plan` without telling it."""
    _check(where, config)
    base, dataset = where.load_base(), where.load_dataset()
    shapes = shapes_of(base)
    trained = load_experiment(config.experiment).part(TrainConfig)
    num_frames = where.num_frames or base.num_frames
    base = replace(base, num_frames=num_frames)
    if config.hardware == "here":
        subject = Subject(base, dataset, shapes, trained, config.compute_dtype)
        machine = measure_here(subject, where.runs / "plan", config.measure_again, console)
    else:
        machine = load_recipe("hardware", config.hardware, Machine)
    tokens, counted = token_counter(base)
    parts = benchmark_parts(config.benchmarks) or [(dataset, s) for s in pick_splits(dataset, "")]
    lessons = questions_of(dataset, "train", tokens, config.questions)
    asked = [(each, questions_of(each, s, tokens, config.test_questions)) for each, s in parts]
    prompted = Prompted.of(shapes, trained, num_frames, base.prompt)
    said = config.answer_tokens or lessons.answer
    sources = {dataset.name: videos_of(dataset, config.videos_count, config.video_seconds)}
    others = {each.name: each for each, _ in parts if each.name != dataset.name}
    sources |= {name: videos_of(each) for name, each in others.items()}
    for name, each in {dataset.name: dataset, **others}.items():
        if sources[name].here:
            with console.status(f"decoding a sample of {name}"):
                seconds = decode_seconds(base, each)
            sources[name] = replace(sources[name], decode_s=seconds)
    rows = [_weights(base, shapes)]
    to_do = [(name, shapes, videos, num_frames) for name, videos in sources.items()]
    rows += [extraction(*each, config.compute_dtype, machine) for each in to_do]
    budget = pick_budget(trained, base)
    rows.append(training(shapes, trained, budget, prompted, lessons, num_frames, machine))
    for each, split in asked:
        sizes = said, GenerateConfig.batch_size, machine.answer_itemsize
        work = answer_work(shapes, prompted, split, *sizes)
        rows.append(answering(each.name, work, split, said, machine))
    for name in config.judge.split():
        judge = load_recipe("judges", name, JudgeConfig)
        rows.append(judging(name, judge, [split for _, split in asked], said))
    rows = [_priced(row, machine) for row in rows]
    faster = ""
    if machine.device == "cuda" and config.compute_dtype == "float32":
        whole = sum((extraction(*each, "bfloat16", machine).gpu_s for each in to_do), NONE)
        faster = f"float32; bfloat16: {between(whole * (1 / 3600))} GPU-h in its place"
    told = _assumptions(shapes, machine, config, lessons, sources, said, counted, faster)
    facts = {
        "base": base.name,
        "dataset": dataset.name,
        "experiment": trained.experiment,
        "hardware": machine.name,
    }
    return Plan(tuple(rows), tuple(told), facts)


def _check(where: Selection, config: PlanConfig) -> None:
    if is_checkpoint(where.base) and local_checkpoint(where.base) is None:
        do = "name a recipe (--base qwen-vl), or a folder that is here"
        raise ConfigError("a plan downloads nothing", got=where.base, do=do)
    for name in ("videos_count", "video_seconds", "questions", "test_questions", "answer_tokens"):
        given = getattr(config, name)
        if given is not None and given <= 0:
            raise ConfigError("too small", where=name, got=given, wanted="more than 0")


def _weights(base: BaseConfig, shapes: BaseShapes) -> Row:
    there = "here" if shapes.here else "to be downloaded"
    network = NONE if shapes.here else Range.of(float(shapes.nbytes))
    size = Range.of(float(shapes.nbytes))
    return Row(f"weights of {base.name}", f"{base.checkpoint}, {there}", disk=size, network=network)


def _priced(row: Row, machine: Machine) -> Row:
    if machine.price is None or row.gpu_s == NONE:
        return row
    return replace(row, money=(row.money or NONE) + row.gpu_s * (machine.price / 3600))


def _assumptions(
    shapes: BaseShapes,
    machine: Machine,
    config: PlanConfig,
    lessons: Questions,
    sources: dict[str, Videos],
    said: float,
    counted: str,
    faster: str,
) -> Iterator[tuple[str, str, str]]:
    """What the numbers hang on, the most important first."""
    peak = ", ".join(f"{k} {v / 1e12:,.4g}" for k, v in machine.peak.items())
    yield f"peak of {machine.name}, TFLOP/s", peak, machine.source("peak")
    for name in ("extract", "train", "answer"):
        low, high = (100 * share for share in getattr(machine, name))
        yield f"share of the peak, {name}", f"{low:.3g} to {high:.3g} %", machine.source(name)
    yield "ViT computes in", faster or config.compute_dtype, "option --compute_dtype"
    for name, videos in sources.items():
        yield f"videos of {name}", f"{videos.count:,}", videos.source
    for name, videos in sources.items():
        if videos.decode_s is not None:
            yield f"decoding {name}", f"{videos.decode_s:.3g} s a video", "measured here"
    if not all(videos.here for videos in sources.values()):
        yield WEB_VIDEO
    rates = {
        "decode_pixels": "decoding on one core, Mpixel/s",
        "frame_pixels": "chosen frames made into squares, Mpixel/s",
    }
    for name, what in rates.items():
        low, high = (rate / 1e6 for rate in getattr(machine, name))
        yield what, f"{low:,.0f} to {high:,.0f}", machine.source(name)
    yield "training questions", f"{lessons.count:,}", lessons.source
    lengths = f"{lessons.question:.3g} and {lessons.answer:.3g}"
    yield "tokens of question and answer", lengths, counted if lessons.samples else "typical"
    yield (
        "tokens of the model's answers",
        f"{said:.3g}",
        "given" if config.answer_tokens else "as the training answers",
    )
    yield "longest answer of a batch over the mean one", f"{LONGEST:g}", "assumed"
    low, high = (size / 1e3 for size in machine.beside)
    beside = f"{low:.3g} to {high:.3g} kB"
    yield "thumbnails and records of a video", beside, machine.source("beside")
    yield "sizes of the base", f"{shapes.llm.step_weights / 1e9:,.3g} B weights", shapes.source
    for name in ("disk", "network"):
        low, high = (rate / 1e6 for rate in getattr(machine, name))
        yield f"{name}, MB/s", f"{low:,.0f} to {high:,.0f}", machine.source(name)
