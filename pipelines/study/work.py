"""The cells of a study, trained and answered: here, or on Ray, each once.

A cell is done when its `cell-<fingerprint>.json` is there, written last: its fingerprint is over
everything that decides its numbers. Whatever a kill leaves is gone on with: training and answering
resume. Cells that differ in what is scored alone share a training run, and are done one after the
other; another study that asks for the same training, with another judge say, finds it done.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)

from eval.answer_files import start_over
from eval.folders import PREDICTIONS, eval_folder
from eval.generate import GenerateConfig, generate
from eval.judges.base import Judge
from eval.run import judge_answers
from features.annotations import annotations_digest, load_annotations
from features.config import BaseConfig, DatasetConfig, SplitConfig
from features.device import pick_device, pick_dtype
from features.durable import only_one, replace_json
from features.errors import FingerprintError
from features.places import StorePath
from features.recipes import find_split
from features.spec import SCHEMA_VERSION, record_digest
from features.store import FeatureStore
from pipelines.evaluation import Executor, explain, say_failed
from pipelines.study.cells import Cell, Done
from train.checkpoint import METRICS
from train.image_llm import base_digest
from train.options import LAST_BITS, NO_INFLUENCE, pick_budget
from train.run import run_folder, train
from train.sources import TrainingData

MARKS = "cell-*.json"
TRIES = 2
"""How often Ray tries a cell again whose worker died."""
PATIENCE_S = 60.0
"""For workers of a driver that was killed, which end a moment after it."""
_NOT_THE_BASE = {"budgets", "licence", "checkpoint"}
"""Of a base's recipe: what decides no number, or is a digest of its own."""


@dataclass(frozen=True)
class Part:
    """A split that is answered, with the features of its videos."""

    dataset: DatasetConfig
    split: str
    store: StorePath


@dataclass(frozen=True)
class Task:
    """A cell with all that it needs, to be done in any process that sees the same files."""

    cell: Cell
    base: BaseConfig
    data: TrainingData
    parts: tuple[Part, ...]
    answers: GenerateConfig
    fingerprint: str

    @property
    def run(self) -> Path:
        """Folder of its run."""
        return run_folder(self.cell.config, self.data.dataset.name)

    @property
    def mark(self) -> Path:
        """The file that says that it is done."""
        return self.run / f"cell-{self.fingerprint}.json"

    def folders(self) -> tuple[Path, ...]:
        """Folders of its answers."""
        return tuple(eval_folder(self.run, p.dataset.name, p.split) for p in self.parts)

    def is_done(self) -> bool:
        """Whether its answers are there, given under the very same conditions."""
        there = all((folder / PREDICTIONS).is_file() for folder in self.folders())
        return there and self.mark.is_file()


class TaskMaker:
    """Makes tasks; files that many cells share are digested once."""

    def __init__(self, data: DatasetConfig, answers: GenerateConfig, judge: str, runs: Path):
        self._data, self._answers, self._judge, self._runs = data, answers, judge, runs
        self._known: dict[tuple[str, str], str] = {}

    def __call__(
        self, cell: Cell, base: BaseConfig, store: StorePath, parts: Sequence[Part]
    ) -> Task:
        """The task of a cell.

        Its fingerprint covers options, the base's recipe and weights, device and dtype, questions
        and features by content, how they are answered, and the judge; not the versions of
        libraries, which change last bits.

        Raises:
            RedVillmError: annotations, store or checkpoint cannot be read.
        """
        config = replace(cell.config, runs=self._runs)
        settings = asdict(config) | asdict(pick_budget(config, base))
        names = {*NO_INFLUENCE, *LAST_BITS, "experiment"}
        whose = {k: v for k, v in asdict(base).items() if k not in _NOT_THE_BASE}
        device = pick_device(config.device)
        dtype = pick_dtype(config.llm_dtype, device, accelerated=torch.bfloat16)
        trained = {
            "schema": SCHEMA_VERSION,
            "train": {k: v for k, v in settings.items() if k not in names},
            "device": [device.type, str(dtype)],
            "base": whose | {"digest": self._once(base_digest, base)},
            "data": [self._questions(self._data, "train"), self._content(store)],
        }
        answers = self._answers
        scored = {
            "parts": [self._part(part) for part in parts],
            "answers": asdict(answers) | {"dtype": str(answers.torch_dtype)},
            "judge": self._judge,
        }
        fingerprint = _digest(trained | scored)
        config = replace(config, experiment=f"{base.name}-{_digest(trained)}")
        data = TrainingData(self._data, store)
        cell = replace(cell, config=config)
        return Task(cell, base, data, tuple(parts), self._answers, fingerprint)

    def _questions(self, dataset: DatasetConfig, split: str) -> str:
        return self._once(_questions_digest, find_split(dataset, split))

    def _part(self, part: Part) -> list[Any]:
        questions = self._questions(part.dataset, part.split)
        aspects = find_split(part.dataset, part.split).aspects
        return [questions, self._content(part.store), aspects, part.dataset.type_names]

    def _content(self, store: StorePath) -> str:
        return self._once(_content_digest, store)

    def _once(self, digest: Callable[[Any], str], what: Any) -> str:
        key = digest.__name__, repr(what)
        if key not in self._known:
            self._known[key] = digest(what)
        return self._known[key]


def do_tasks(
    tasks: Sequence[Task],
    judge: Judge,
    again: bool,
    console: Console,
    executor: Executor = "auto",
    workers: int | None = None,
) -> tuple[dict[str, Done], dict[str, str]]:
    """(what is done, what went wrong with the rest), by fingerprint; no cell stops another.

    Judging stays in this process, so that no two judges of one name ask the same at once.

    Args:
        tasks: the cells.
        judge: who judges their answers.
        again: whether it is asked again about what it failed at.
        console: where progress is shown.
        executor: `auto` is Ray unless there is one worker.
        workers: runs at once; one for every GPU, or CPU.
    """
    waiting = [task for task in tasks if not task.is_done()]
    console.print(f"{len(tasks)} cells, {len(tasks) - len(waiting)} of them done before")
    runs: dict[Path, list[Task]] = defaultdict(list)
    for task in waiting:
        runs[task.run].append(task)
    todo = list(runs.values())
    by_ray = executor == "ray" or (executor == "auto" and workers != 1 and len(todo) > 1)
    outcomes = _on_ray(todo, workers) if by_ray else _here(todo)
    failed: dict[str, str] = {}
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=600) as progress:
        bar = progress.add_task("cells", total=len(waiting))
        for run, error in outcomes:
            progress.advance(bar, len(run))
            if not console.is_terminal:  # a job's log, in which no bar moves
                console.print(f"{progress.tasks[0].completed:.0f} of {len(waiting)} cells")
            for task in run:
                if not task.is_done():
                    failed[task.fingerprint] = error or "it left no answers"
                    say_failed(console, f"{task.run}: {failed[task.fingerprint]}")
    done: dict[str, Done] = {}
    kept = [task for task in tasks if task.fingerprint not in failed]
    for task in track(kept, "judging", console=console, transient=True):
        try:
            done[task.fingerprint] = _judged(task, judge, again)
        except Exception as broken:  # damaged answers, or a judge that cannot be asked
            task.mark.unlink(missing_ok=True)  # looked at again by the next run
            failed[task.fingerprint] = explain(broken)
            say_failed(console, f"{task.run}: {failed[task.fingerprint]}")
    return done, failed


def do_run(tasks: Sequence[Task], folder: str) -> str:
    """Train once and answer for each of the cells; returns what went wrong, or nothing.

    Args:
        tasks: cells of one training run.
        folder: working folder, to which relative paths belong.
    """
    os.chdir(folder)
    try:
        with only_one(tasks[0].run.parent, "trains this cell", PATIENCE_S):
            for task in tasks:
                run = train(task.cell.config, task.base, task.data)
                for part in task.parts:
                    _answer(task, part, run)
            for task in tasks:  # after all answers, for new ones take older marks away
                replace_json(task.mark, {"fingerprint": task.fingerprint}, "cell")
    except Exception as error:  # whatever it is costs these cells alone
        return explain(error)
    return ""


def _answer(task: Task, part: Part, run: Path) -> None:
    """What is not answered yet; answers that depend on something else are given anew."""
    config, store = replace(task.answers, split=part.split), FeatureStore.open(part.store)
    try:
        generate(config, task.base, part.dataset, run, store)
    except FingerprintError:
        for mark in run.glob(MARKS):  # of cells whose answers these were
            mark.unlink()
        start_over(eval_folder(run, part.dataset.name, part.split))
        generate(config, task.base, part.dataset, run, store)


Runs = Sequence[Sequence[Task]]
Outcomes = Iterator[tuple[Sequence[Task], str]]


def _here(runs: Runs) -> Outcomes:
    for run in runs:
        yield run, do_run(run, os.getcwd())


def _on_ray(runs: Runs, workers: int | None) -> Outcomes:
    """As many runs at once as there are workers; a worker that dies is replaced."""
    import ray  # takes seconds

    from extract.ray_executor import connect

    ours = not ray.is_initialized()
    if ours:
        connect(None)
    try:
        have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(have.get("GPU", 0))
        # A cluster of this machine alone counts a core more than there is, for extraction's sake.
        joined = not ours or os.environ.get("RAY_ADDRESS")
        cpus = int(have.get("CPU", 1)) if joined else os.cpu_count() or 1
        slots = workers or gpus or cpus
        needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        remote = ray.remote(**needs, max_retries=TRIES)(do_run)
        waiting = deque(runs)
        busy: dict[Any, Sequence[Task]] = {}
        while waiting or busy:
            while waiting and len(busy) < slots:
                run = waiting.popleft()
                busy[remote.remote(run, os.getcwd())] = run
            for reference in ray.wait(list(busy), num_returns=1)[0]:
                run = busy.pop(reference)
                try:
                    error = ray.get(reference)
                except Exception as died:  # its worker, again and again
                    error = explain(died)
                yield run, error
    finally:
        if ours:
            ray.shutdown()


def _judged(task: Task, judge: Judge, again: bool) -> Done:
    for folder in task.folders():
        judge_answers(folder, judge, again=again)
    metrics = json.loads((task.run / METRICS).read_text(encoding="utf-8"))
    facts = task.cell, task.fingerprint, task.run, task.folders(), judge.record.slug
    return Done(*facts, metrics)


def _questions_digest(split: SplitConfig) -> str:
    return annotations_digest(load_annotations(split))


def _content_digest(store: StorePath) -> str:
    return FeatureStore.open(store).content_digest


def _digest(record: object) -> str:
    return record_digest(record)[:16]
