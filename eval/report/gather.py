"""Reads a part run by run, and keeps what tables need; the texts go to disk until the page is made.

The texts of one seed are in memory at a time, however many runs there are. They are set down sorted
by sample id, a line a sample, so that the page's shards are made by reading all runs' lines side by
side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.judges.base import JudgeRecord, Verdict
from eval.metrics import Overlap, Question
from eval.report.runs import (
    Key,
    NamedRun,
    Part,
    Seed,
    read_seed,
    require_same_questions,
)
from eval.report.samples import head_lines, mark_columns, run_lines
from features.config import Aspect
from features.errors import RedVillmError, few


@dataclass(frozen=True)
class SeedFacts:
    """What tables need of one seed."""

    number: int
    meta: dict[str, Any]
    lost: dict[str, str]
    """Code by sample id."""
    overlaps: list[Overlap]
    new_tokens: int
    truncated: int
    """Answers that were cut off at the most tokens allowed."""
    verdicts: dict[Key, list[Verdict]]
    """Without the judge's words."""
    judge_tokens: dict[str, tuple[int, int]]
    """By judge, of prompts and of replies."""


@dataclass(frozen=True)
class RunResults:
    """One run's results on a part."""

    run: NamedRun
    seeds: list[SeedFacts]
    marks: dict[Key, str]
    """Of the first seed: a character a sample."""
    lines: Path
    """The first seed's words, a line a sample."""

    def of(self, key: Key) -> list[SeedFacts]:
        """The seeds that this judge judged for this aspect."""
        return [seed for seed in self.seeds if key in seed.verdicts]

    def verdicts(self, key: Key) -> list[list[Verdict]]:
        """Of each of those seeds."""
        return [seed.verdicts[key] for seed in self.of(key)]


@dataclass(frozen=True)
class PartResults:
    """All runs' results on a part."""

    part: Part
    key: str
    """Begins the names of the page's data files."""
    questions: list[Question]
    """Sorted by sample id."""
    judges: dict[str, JudgeRecord]
    """By slug, in the order of tables."""
    aspects: list[Aspect]
    heads: Path
    """Questions and references, a line a sample."""
    runs: list[RunResults] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    """By slug, how tables call the judge; see `name_judges`."""

    @property
    def metas(self) -> list[dict[str, Any]]:
        """Of every seed of every run."""
        return [seed.meta for run in self.runs for seed in run.seeds]

    @property
    def keys(self) -> list[Key]:
        """Every column of verdicts that some run has, aspect by aspect."""
        known = {key for run in self.runs for seed in run.seeds for key in seed.verdicts}
        keys = [(slug, aspect) for aspect in self.aspects for slug in self.judges]
        return [key for key in keys if key in known]


def gather(
    runs: Sequence[NamedRun],
    part: Part,
    key: str,
    scratch: Path,
    judges: Sequence[str] | None,
    track: Callable[[list[NamedRun]], Iterable[NamedRun]],
    left_out: list[str],
) -> PartResults | None:
    """Read what the runs left of a part; None where no run has anything.

    Args:
        runs: the runs, in the order of rows.
        part: what they were asked.
        key: begins the names of the part's data files.
        scratch: folder for texts.
        judges: slugs of the judges that count, in this order; all unless given.
        track: shows progress.
        left_out: takes in what could not be used, and why: a file is damaged, answers changed after
            they were judged, or a run was asked other questions than the first one.
    """
    results: PartResults | None = None
    meta: Mapping[str, Any] = {}
    for number, run in enumerate(track(list(runs))):
        facts: list[SeedFacts] = []
        first: Seed | None = None
        for at in range(len(run.seeds)):
            seed = read_seed(run, at, part, judges, left_out)
            if seed is None:
                continue
            if results is None:
                results, meta = _begin(part, key, seed, scratch), seed.meta
            try:
                require_same_questions(part, meta, seed.meta, f"{run.name}, seed {at + 1}")
                _require_same_ids(results, seed, run.name)
            except RedVillmError as error:
                left_out.append(f"left out: {run.name}, seed {at + 1}: {error}")
                continue
            _add_columns(results, seed, judges)
            facts.append(_facts(seed))
            first = first or seed
        if results is None or first is None:
            continue
        lines = scratch / f"{key}-run{number}.jsonl"
        _write_lines(lines, run_lines(first, [seed.verdicts for seed in facts]))
        results.runs.append(RunResults(run, facts, mark_columns(first), lines))
    return results


def name_judges(parts: Sequence[PartResults]) -> None:
    """Give each judge its label, and where two share one the end of its slug, too."""
    known = {slug: record.label for part in parts for slug, record in part.judges.items()}
    often = Counter(known.values())
    labels = {s: label if often[label] == 1 else f"{label}, {s[-8:]}" for s, label in known.items()}
    for part in parts:
        part.labels.update({slug: labels[slug] for slug in part.judges})


def _begin(part: Part, key: str, seed: Seed, scratch: Path) -> PartResults:
    questions, heads = seed.questions, scratch / f"{key}-heads.jsonl"
    _write_lines(heads, head_lines(seed.rows, questions))
    return PartResults(part, key, questions, {}, [], heads)


def _add_columns(results: PartResults, seed: Seed, judges: Sequence[str] | None) -> None:
    """Aspects in the dataset's order, judges in the order that was asked for, else by name."""
    results.aspects.extend(a for a in seed.meta["aspects"] if a not in results.aspects)
    found = results.judges | seed.judges
    order = judges or sorted(found, key=lambda slug: (found[slug].label, slug))
    results.judges.clear()
    results.judges.update({slug: found[slug] for slug in order if slug in found})


def _require_same_ids(results: PartResults, seed: Seed, name: str) -> None:
    wanted = [question.sample_id for question in results.questions]
    found = [str(row["sample_id"]) for row in seed.rows]
    if found != wanted:
        differing = sorted(set(found) ^ set(wanted))
        raise RedVillmError(
            "questions and verdicts do not match: a run answered other questions",
            where=f"{results.part.dataset}, {results.part.split}, run {name}",
            got=f"{len(found)} questions; in one of the two only: {few(differing)}",
            wanted=f"{len(wanted)} questions",
            do="evaluate it again",
        )


def _facts(seed: Seed) -> SeedFacts:
    """Boil a seed down."""
    tokens = Counter[tuple[str, str]]()
    bare: dict[Key, list[Verdict]] = {}
    for (slug, aspect), verdicts in seed.verdicts.items():
        bare[slug, aspect] = [
            Verdict(v.sample_id, v.aspect, v.outcome, v.correct, v.score) for v in verdicts
        ]
        tokens[slug, "in"] += sum(v.prompt_tokens for v in verdicts)
        tokens[slug, "out"] += sum(v.completion_tokens for v in verdicts)
    finished = [row[key] for row in seed.rows for key in ("finish_reason", "finish_reason2")]
    return SeedFacts(
        seed.number,
        seed.meta,
        {row["sample_id"]: row["lost"] for row in seed.rows if row["lost"]},
        seed.overlaps,
        sum(row[key] or 0 for row in seed.rows for key in ("num_tokens", "num_tokens2")),
        finished.count("length"),
        bare,
        {slug: (tokens[slug, "in"], tokens[slug, "out"]) for slug in seed.judges},
    )


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(line + "\n" for line in lines)
