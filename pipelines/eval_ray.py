"""Answers from many checkpoints on a Ray cluster: an actor a GPU, a job (or part of one) at a time.

Jobs are independent and every answer is on disk when its batch is, so an actor that dies costs the
batch it was at: its job is given to another, twice at most.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from eval.answer_files import merge_parts, start_over
from eval.folders import eval_folder
from eval.generate import GenerateConfig
from extract.ray_executor import connect
from pipelines.eval_jobs import Job
from pipelines.evaluation import explain

TRIES = 3
"""Attempts at a job whose worker dies."""


@dataclass(frozen=True)
class _Unit:
    """What a worker does at a time."""

    job: Job
    part: tuple[int, int] | None


class _Answerer:  # by name, not decorated: workers import it and Ray pickles no code
    """Answers one unit after the other."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def answer(self, unit: _Unit, config: GenerateConfig) -> tuple[str, str]:
        """(folder of the answers, ""), or ("", what went wrong)."""
        try:
            return str(unit.job.answer(config, unit.part)), ""
        except Exception as error:  # whatever it is costs this job alone
            return "", explain(error)


def answer_on_ray(
    jobs: Sequence[Job], config: GenerateConfig, workers: int | None
) -> Iterator[tuple[Job, Path | str]]:
    """(job, folder of its answers, or what went wrong), each as it is done.

    Args:
        jobs: what to answer.
        config: how to decode.
        workers: actors; one for every GPU, or one for every CPU, unless given.
    """
    ours = not ray.is_initialized()
    if ours:
        connect(workers)
    try:
        yield from _Pool(jobs, config, workers).run()
    finally:
        if ours:
            ray.shutdown()


class _Pool:
    """Actors and what they are at."""

    def __init__(self, jobs: Sequence[Job], config: GenerateConfig, workers: int | None) -> None:
        have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(have.get("GPU", 0)) if config.device in ("auto", "cuda") else 0
        places = gpus or max(1, int(have.get("CPU", 1)))
        count = min(workers or places, places)  # one that finds no place would wait for ever
        # Fewer jobs than workers: each is cut, so that none of them is idle.
        parts = max(1, count // max(1, len(jobs)))
        cuts = [(i, parts) for i in range(parts)] if parts > 1 else [None]
        self._failed: list[tuple[Job, str]] = []
        here = [job.absolute() for job in jobs]
        if not config.resume:  # here and once: workers would forget one another's answers
            here = [job for job in here if self._start_over(job)]
            config = replace(config, resume=True)
        self._todo = deque(_Unit(job, cut) for job in here for cut in cuts)
        self._open = Counter(str(unit.job) for unit in self._todo)
        self._parts, self._config = parts, config
        self._tries: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._began: dict[str, float] = {}
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        a_node = -(-count // len(alive))
        self._threads = max(1, (os.cpu_count() or 1) // a_node)
        self._actor: Any = ray.remote(num_gpus=1 if gpus else 0, num_cpus=0 if gpus else 1)(
            _Answerer
        )
        self._idle = [self._new() for _ in range(min(count, len(self._todo)))]

    def run(self) -> Iterator[tuple[Job, Path | str]]:
        """Until every job is done or has failed."""
        yield from self._failed
        busy: dict[Any, tuple[Any, _Unit]] = {}
        try:
            while self._todo or busy:
                while self._idle and self._todo:
                    actor, unit = self._idle.pop(), self._todo.popleft()
                    self._began.setdefault(str(unit.job), time.perf_counter())
                    busy[actor.answer.remote(unit, self._config)] = actor, unit
                for reference in ray.wait(list(busy), num_returns=1)[0]:
                    actor, unit = busy.pop(reference)
                    yield from self._settle(reference, actor, unit)
        finally:
            for actor in [*self._idle, *(actor for actor, _ in busy.values())]:
                ray.kill(actor)

    def _start_over(self, job: Job) -> bool:
        """Forget its answers, unless it could not be answered at all."""
        try:
            job.open_store()
            start_over(eval_folder(job.run, job.dataset.name, job.split))
        except Exception as error:  # whatever it is costs this job alone
            self._failed.append((job, explain(error)))
            return False
        return True

    def _new(self) -> Any:
        return self._actor.remote(self._threads)

    def _settle(self, reference: Any, actor: Any, unit: _Unit) -> Iterator[tuple[Job, Path | str]]:
        name = str(unit.job)
        try:
            folder, error = ray.get(reference)
            if self._todo:
                self._idle.append(actor)
            else:
                ray.kill(actor)  # its place is free for one that waits
        except RayError as lost:
            ray.kill(actor)
            self._idle.append(self._new())
            self._tries[f"{name} {unit.part}"] += 1
            if self._tries[f"{name} {unit.part}"] < TRIES:
                self._todo.append(unit)
                return
            folder, error = "", f"its worker died {TRIES} times: {explain(lost)}"
        if error:
            self._errors.setdefault(name, error)
        self._open[name] -= 1
        if self._open[name]:
            return
        if name in self._errors:
            yield unit.job, self._errors[name]
            return
        try:
            if self._parts > 1:
                merge_parts(Path(folder), time.perf_counter() - self._began.pop(name))
        except Exception as broken:  # whatever it is costs this job alone
            yield unit.job, explain(broken)
        else:
            yield unit.job, Path(folder)
