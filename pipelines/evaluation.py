"""Checkpoints x splits x judges: what is missing alone is computed, and nothing stops the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from eval.generate import GenerateConfig
from eval.judges.base import Cost, Judge
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.run import EvalSummary, cost_of, judge_answers
from eval.scores import MIN_COVERAGE
from features.errors import RedVillmError
from features.recipes import load_recipe
from pipelines.eval_jobs import Job

Executor = Literal["auto", "serial", "ray"]


@dataclass(frozen=True)
class Judging:
    """Who judges, and what it may cost."""

    judge: str = "offline"
    """Judges, separated by blanks: recipes of pipelines/recipes/judges, or YAML files."""
    judge_cache: Path = Path("runs/judge-cache")
    """Where replies are kept, so that nothing is paid for twice."""
    token_budget: int | None = None
    """Most tokens (prompts and replies) each judge may use in this run."""
    estimate: bool = False
    """Answer, say what judging the answers would take, and send nothing."""
    min_coverage: float = MIN_COVERAGE
    """Share of the questions that must have been judged for a headline."""

    def make(self) -> list[tuple[Judge, bool]]:
        """Each judge, and whether it is asked again about what it failed at.

        Raises:
            ConfigError: no such recipe, or a wrong one.
        """
        asks = not self.estimate  # then a key that is missing is found before anything is answered
        configs = [load_recipe("judges", name, JudgeConfig) for name in self.judge.split()]
        return [
            (make_judge(config, self.judge_cache, self.token_budget, asks), config.reask_failed)
            for config in configs
        ]


def evaluate_jobs(
    jobs: Sequence[Job],
    config: GenerateConfig,
    judging: Judging,
    console: Console,
    executor: Executor = "serial",
    workers: int | None = None,
) -> tuple[list[EvalSummary], list[str]]:
    """Answer and judge: (what came out, what failed); one failing item stops no other.

    Judging stays in this process, so that no two judges of one name ask the same at once.

    Raises:
        ConfigError: a judge's recipe is wrong.
    """
    judges = judging.make()
    by_ray = executor == "ray" or (
        executor == "auto" and bool(os.environ.get("RAY_ADDRESS") or workers)
    )
    done: list[EvalSummary] = []
    failed: list[str] = []
    there = [job for job in jobs if by_ray and not job.is_translated]
    here = [job for job in jobs if job not in there]
    far = _answer_on_ray(there, config, workers) if there else ()
    for job, folder in chain(_answer_here(here, config), far):
        if isinstance(folder, str):
            failed.append(f"{job}: {folder}")
            say_failed(console, failed[-1])
            continue
        for judge, again in judges:
            try:
                found = judge_folder(folder, judge, judging, console, again)
            except Exception as error:  # a judge that cannot be asked stops no other
                failed.append(f"{job}, judge {judge.record.label}: {explain(error)}")
                say_failed(console, failed[-1])
            else:
                done += [found] if found else []
    return done, failed


def judge_folder(
    folder: Path, judge: Judge, judging: Judging, console: Console, again: bool = False
) -> EvalSummary | None:
    """Say what judging will take, judge (not if only the estimate is wanted), say what came out.

    Raises:
        RedVillmError: see `judge_answers`.
    """

    def tell(cost: Cost) -> None:
        price = f", about {cost.price:.2f} in the recipe's currency" if cost.price else ""
        console.print(
            f"{judge.record.label} on {folder}: {cost.requests:,} requests, about "
            f"{cost.prompt_tokens:,} tokens to read and at most {cost.completion_tokens:,} to "
            f"write{price}; {cost.cached:,} were answered before",
            highlight=False,
            markup=False,
        )

    if judging.estimate:
        tell(cost_of(folder, judge, again))
        return None
    summary = judge_answers(folder, judge, judging.min_coverage, again, tell)
    console.print(str(summary), highlight=False, markup=False)
    return summary


def say_failed(console: Console, line: str) -> None:
    """Say what failed, whatever is written in it."""
    console.print(f"[red]failed:[/] {escape(line)}", highlight=False)


def explain(error: BaseException) -> str:
    """One line about an error of any kind."""
    name = "" if isinstance(error, RedVillmError) else f"{type(error).__name__}: "
    return " ".join(f"{name}{error}".split())


def _answer_here(jobs: Sequence[Job], config: GenerateConfig) -> Iterator[tuple[Job, Path | str]]:
    for job in jobs:
        try:
            folder = job.answer(config)
        except Exception as error:  # whatever it is costs this job alone
            yield job, explain(error)
        else:
            yield job, folder


def _answer_on_ray(
    jobs: Sequence[Job], config: GenerateConfig, workers: int | None
) -> Iterator[tuple[Job, Path | str]]:
    from pipelines.eval_ray import answer_on_ray  # Ray takes seconds to import

    yield from answer_on_ray(jobs, config, workers)
