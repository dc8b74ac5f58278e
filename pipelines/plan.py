"""`plan`: what a dataset and a base will take, before anything is downloaded or rented.

GPU-hours, CPU-hours, disk, network, judge tokens and money, from FLOPs and bytes
(plan_work.py) and from what the machine does (plan_machine.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

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
from pipelines.plan_machine import NONE, Machine, Range, between, size
from pipelines.plan_sample import decode_seconds, measure_here
from pipelines.plan_work import (
    LONGEST,
    WEB_VIDEO,
    Row,
    Subject,
    answer_work,
    answering,
    extraction,
    training,
)
from pipelines.selection import Selection
from train.options import TrainConfig

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
    on this machine in about a minute (a large base is loaded nine times for it)."""
    compute_dtype: ComputeDtype = "float32"
    """dtype of the ViT, as `extract` has it."""
    video_seconds: float | None = None
    """Mean length of the dataset's videos where they are not here, instead of a published one."""
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
        names = ("gpu_s", "cpu_s", "disk", "network", "tokens")
        sums = {name: sum((getattr(row, name) for row in self.rows), NONE) for name in names}
        priced = [row.money for row in self.rows if row.money is not None]
        unknown = any(r.money is None and (r.gpu_s.high or r.tokens.high) for r in self.rows)
        money = sum(priced, NONE) if priced and not unknown else None
        return Row("total", "", **sums, money=money)

    def record(self) -> dict[str, Any]:
        """All numbers, as JSON has them: hours, bytes, tokens, money."""
        names = ("what", "value", "source")
        return {
            "schema": SCHEMA_VERSION,
            **self.facts,
            "rows": [_row_record(row) for row in self.rows],
            "total": _row_record(self.total),
            "assumptions": [dict(zip(names, a, strict=True)) for a in self.assumptions],
            "not_modelled": list(NOT_MODELLED),
        }


def _row_record(row: Row) -> dict[str, Any]:
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
    if is_checkpoint(where.base) and local_checkpoint(where.base) is None:
        do = "name a recipe (--base qwen-vl), or a folder that is here"
        raise ConfigError("a plan downloads nothing", got=where.base, do=do)
    base, dataset = where.load_base(), where.load_dataset()
    base = replace(base, num_frames=where.num_frames or base.num_frames)
    trained = load_experiment(config.experiment).part(TrainConfig)
    subject = Subject(base, shapes_of(base), trained, config.compute_dtype)
    if config.hardware == "here":
        machine = measure_here(subject, dataset)
    else:
        machine = load_recipe("hardware", config.hardware, Machine)
    tokens, counted = token_counter(base)
    parts = benchmark_parts(config.benchmarks) or [(dataset, s) for s in pick_splits(dataset, "")]
    lessons = questions_of(dataset, "train", tokens)
    asked = [(each.name, questions_of(each, split, tokens)) for each, split in parts]
    said = lessons.answer
    sources: dict[str, Videos] = {}
    for each in (dataset, *(each for each, _ in parts if each.name != dataset.name)):
        own = each is dataset
        videos = videos_of(each, config.video_seconds if own else None)
        seconds = machine.decode_s if own else None
        if videos.here and seconds is None:
            with console.status(f"decoding a sample of {each.name}"):
                seconds = decode_seconds(base, each)
        sources[each.name] = replace(videos, decode_s=seconds)
    rows = [_weights(base, subject.shapes)]
    rows += [extraction(name, subject, videos, machine) for name, videos in sources.items()]
    rows.append(training(subject, lessons, machine))
    for name, split in asked:
        work = answer_work(subject, split, said, machine)
        rows.append(answering(name, work, split, said, machine))
    for name in config.judge.split():
        judge = load_recipe("judges", name, JudgeConfig)
        rows.append(judging(name, judge, [split for _, split in asked], said))
    billions = subject.shapes.llm.step_weights / 1e9
    told = (
        *_of_machine(machine, config.compute_dtype),
        *_of_data(sources, lessons, counted),
        (
            "tokens of the model's answers",
            f"{said:.3g}; the longest of a batch {LONGEST:g} x as long",
            "as the training answers",
        ),
        ("weights of the LLM", f"{billions:,.3g} B", subject.shapes.source),
    )
    facts = {"base": base.name, "dataset": dataset.name, "experiment": trained.experiment}
    priced = tuple(_priced(row, machine) for row in rows)
    return Plan(priced, told, facts | {"hardware": machine.name})


def _weights(base: BaseConfig, shapes: BaseShapes) -> Row:
    there = "here" if shapes.here else "to be downloaded"
    disk = Range.of(float(shapes.nbytes))
    network = NONE if shapes.here else disk
    return Row(f"weights of {base.name}", f"{base.checkpoint}, {there}", disk=disk, network=network)


def _priced(row: Row, machine: Machine) -> Row:
    if machine.price is None or row.gpu_s == NONE:
        return row
    return replace(row, money=(row.money or NONE) + row.gpu_s * (machine.price / 3600))


Assumptions = Iterator[tuple[str, str, str]]


def _of_machine(machine: Machine, dtype: ComputeDtype) -> Assumptions:
    peak = ", ".join(f"{k} {v / 1e12:,.4g}" for k, v in machine.peak.items())
    yield f"peak of {machine.name}, TFLOP/s", peak, machine.source("peak")
    shares = [
        f"{name} {between(Range(*getattr(machine, name)) * 100)} %"
        for name in ("extract", "train", "answer")
    ]
    yield "share of it that is reached", ", ".join(shares), machine.source("train")
    faster = machine.peak.get("bfloat16", 0.0) / machine.peak[dtype]
    hint = f"; bfloat16 is {faster:.2g} x as fast" if faster > 1 else ""
    yield "ViT computes in", dtype + hint, "option --compute_dtype"
    pixels = between(Range(*machine.decode_pixels) * 1e-6, " Mpixel/s")
    squares = between(Range(*machine.frame_pixels) * 1e-6, " Mpixel/s")
    yield "decoding on one core", f"{pixels}; chosen frames {squares}", "assumed"
    yield (
        "thumbnails and records",
        f"{size(Range(*machine.beside))} a video",
        machine.source("beside"),
    )
    yield "network", f"{size(Range(*machine.network))}/s", "assumed"


def _of_data(sources: Mapping[str, Videos], lessons: Questions, counted: str) -> Assumptions:
    for name, videos in sources.items():
        yield f"videos of {name}", f"{videos.count:,}", videos.source
        if videos.decode_s is not None:
            yield f"decoding {name}", f"{videos.decode_s:.3g} s a video", "measured here"
    if not all(videos.here for videos in sources.values()):
        yield "web video", WEB_VIDEO, "assumed"
    yield "training questions", f"{lessons.count:,}", lessons.source
    lengths = f"{lessons.question:.3g} and {lessons.answer:.3g}"
    yield "tokens of question and answer", lengths, counted if lessons.samples else "typical"
