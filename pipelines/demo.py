"""`make demo`: the whole mission on the embedded base, from video files to a judged report.

Five rows: the untuned base, the shared alignment module (Video-ChatGPT's structure) and RED-VILLM
(a temporal module of its own), the latter two in a short and a long training budget. Nothing is
chosen here: recipes and seeds are fixed beforehand and the test videos are scored once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from eval.generate import GenerateConfig
from eval.judges.offline import OfflineJudge
from eval.report.build import NamedRun, Part, build_report, terminal_table
from eval.run import evaluate
from eval.scores import MIN_COVERAGE
from extract.options import ExtractConfig
from extract.run import extract
from features.config import BaseConfig, DatasetConfig
from features.errors import ConfigError
from features.recipes import load_recipe
from features.store import FeatureStore
from features.translation import Language
from pipelines.demo_data import DemoDataConfig, write_demo
from pipelines.demo_routes import judge_in_english
from pipelines.selection import Selection, annotated_ids
from train.options import TrainConfig
from train.run import train
from train.sources import TrainingData

ROWS = ("untuned", "shared", "red-villm", "shared-long", "red-villm-long")
COMPARISONS = (
    ("red-villm", "shared"),
    ("red-villm", "untuned"),
    ("red-villm-long", "shared-long"),
)

ANSWERS = GenerateConfig()
"""As `eval` and `reeval` have it, so that they find the demo's answers."""


@dataclass(frozen=True)
class _Tongue:
    """What the demo is in one language."""

    base: str
    dataset: str
    title: str


_TONGUES: dict[Language, _Tongue] = {
    "en": _Tongue("mini", "demo", "Does an Image LLM see time once it has a temporal module?"),
    "zh": _Tongue("mini-zh", "demo-zh", "图像大语言模型有了时间模块就能看懂先后吗"),
}


@dataclass(frozen=True)
class DemoConfig:
    """The demo."""

    lang: Language = "en"
    """Language that is asked, answered and judged: the same videos, and a base that knows it."""
    seeds: int = 1
    """Training seeds a row (the untuned base has none)."""
    features: str = "data/features"
    """Root of the feature stores: a folder, or s3://bucket/prefix."""
    runs: Path = Path("runs")
    """Root of training runs, predictions and the report."""
    executor: Literal["auto", "serial", "ray"] = "auto"
    """How to extract."""
    data: DemoDataConfig = field(default_factory=DemoDataConfig)
    """The world that is rendered."""


class Stopwatch:
    """Seconds by stage, and a line when one begins."""

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def __call__(self, stage: str, what: str) -> Iterator[None]:
        """Time what happens inside; the same stage adds up."""
        self._console.rule(f"[bold]{stage}[/]: {what}", align="left")
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def demo(config: DemoConfig, console: Console) -> Path:
    """Render, extract, train, evaluate, report; returns the report's folder.

    Every stage reuses what is there already and says so.

    Raises:
        ConfigError: data of another world.
    """
    if config.data.world != "demo":
        do = "make experiments STUDY=stories"
        raise ConfigError("the demo's base knows one world", got=config.data.world, do=do)
    tongue = _TONGUES[config.lang]
    where = Selection(tongue.base, tongue.dataset, features=config.features, runs=config.runs)
    base, dataset = where.load_base(), where.load_dataset()
    clock = Stopwatch(console)
    with clock("render", f"real H.264 files into {dataset.videos}"):
        if not write_demo(dataset.videos.parent, config.data):
            console.print("rendered before; reused")
    with clock("extract", "sampled frames through the frozen ViT, pooled, into a store"):
        extraction = ExtractConfig(features=config.features, executor=config.executor)
        summary = extract(extraction, base, dataset, annotated_ids(dataset, console))
        store = FeatureStore(summary.store)
    runs = [_row(name, config, base, dataset, store, clock) for name in ROWS]
    parts = [Part(dataset.name, ANSWERS.split)]
    if config.lang == "zh":
        with clock("translate", "the answers into English, judged by the English references"):
            english = load_recipe("datasets", _TONGUES["en"].dataset, DatasetConfig)
            folders = [folder for row in runs for folder in row.seeds]
            cache = config.runs / "translation-cache"
            parts.append(judge_in_english(folders, dataset, english, ANSWERS.split, cache))
    out = config.runs / dataset.name
    with clock("report", str(out / "report.html")):
        report = build_report(
            runs,
            parts,
            out,
            seconds=clock.seconds,
            stores={part.dataset: store for part in parts},
            compare=COMPARISONS,
            title=tongue.title,
            min_coverage=MIN_COVERAGE,
            single_file=True,
        )
    console.print(terminal_table(report))
    console.print(f"report: {out / 'report.html'} ({sum(clock.seconds.values()):.0f} s in all)")
    return out


def _row(
    name: str,
    config: DemoConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    store: FeatureStore,
    clock: Stopwatch,
) -> NamedRun:
    """Train and evaluate one row with all its seeds."""
    recipe = load_recipe("experiments", name, TrainConfig, {"runs": config.runs})
    seeds = []
    for seed in range(1 if name == "untuned" else config.seeds):
        with clock("train", f"{name}, seed {seed}"):
            run = train(replace(recipe, seed=seed), base, TrainingData(dataset, store.path))
        with clock("evaluate", f"{name}, seed {seed}, on the test videos"):
            evaluate(ANSWERS, base, dataset, run, store, OfflineJudge(config.lang))
        seeds.append(run)
    return NamedRun(name, tuple(seeds))
