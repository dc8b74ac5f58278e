"""What a study's cells scored, question by question, read from their evaluation folders.

An item is what one verdict is about: a question, or of the five aspects a question and an aspect.
All cells of a split must have been asked the same items, so that rows are compared item by item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.progress import track

from eval.bootstrap import bootstrap_mean_of_columns
from eval.crossed import Crossed
from eval.folders import JUDGES, read_judged
from eval.metrics import TEMPORAL_TYPES, questions_of
from eval.scores import MIN_COVERAGE, Estimate
from eval.values import judge_table
from features.errors import RedVillmError
from pipelines.study.cells import Done
from pipelines.study.recipe import Measure

Kind = Literal["qa", "five"]
"""Questions with right and wrong answers, or the five aspects of the generative benchmark."""
MEASURES: dict[Kind, tuple[Measure, ...]] = {
    "qa": ("temporal", "content", "all"),
    "five": ("correctness", "detail", "context", "temporal", "consistency", "content", "all"),
}
"""What there is a score of, in the order of columns: the paper's, then what claims are about."""
NO_QUESTIONS = "the benchmark has no such questions"
_MEANS: dict[Measure, tuple[str, ...]] = {
    "content": ("correctness", "detail", "context"),
    "all": ("correctness", "detail", "context", "temporal", "consistency"),
}
"""Of aspects; any other measure is one aspect."""
_QUIET = 20
"""Cells that are read without a progress bar."""


@dataclass(frozen=True)
class Contrast:
    """What is averaged: the weighted sum of the means of some columns, each a set of items."""

    columns: Bool[np.ndarray, "I C"]
    weights: Float[np.ndarray, " C"]

    def minus(self, other: Contrast) -> Contrast:
        """The difference of the two."""
        columns = np.concatenate([self.columns, other.columns], axis=1)
        return Contrast(columns, np.concatenate([self.weights, -other.weights]))

    def spread(self, values: Float[np.ndarray, " I"]) -> Float[np.ndarray, "I C"]:
        """The items' values in their columns; NaN elsewhere."""
        return np.where(self.columns, values[:, None], np.nan)

    def mean(self, values: Float[np.ndarray, " I"]) -> float:
        """Over the items with a value; NaN when a column has none."""
        known = self.columns & np.isfinite(values)[:, None]
        sums, counts = np.where(known, values[:, None], 0.0).sum(axis=0), known.sum(axis=0)
        return float((sums / counts) @ self.weights) if counts.all() else float("nan")


@dataclass(frozen=True)
class Asked:
    """What all cells of a split were asked."""

    keys: tuple[tuple[str, ...], ...]
    """Of each item: dataset, video, split, aspect, sample id, type."""
    videos: Int[np.ndarray, " I"]
    """Number of each item's video."""
    contrasts: Mapping[Measure, Contrast]
    """What each measure is the mean of."""

    @classmethod
    def of(cls, keys: tuple[tuple[str, ...], ...]) -> Asked:
        """Of items by their keys."""
        names = np.asarray(["\n".join(key[:2]) for key in keys], dtype=np.str_)
        videos = np.unique(names, return_inverse=True)[1].astype(np.int64)
        aspects, types = (np.asarray([key[at] for key in keys], dtype=np.str_) for at in (3, 5))
        if kind_of(keys) == "qa":
            right, temporal = aspects == "qa", np.isin(types, list(TEMPORAL_TYPES))
            sets = {"temporal": right & temporal, "content": right & ~temporal, "all": right}
            masks = {name: [sets.get(name, np.zeros_like(right))] for name in get_args(Measure)}
        else:
            masks = {
                name: [aspects == one for one in _MEANS.get(name, (name,))]
                for name in get_args(Measure)
            }
        return cls(keys, videos, {name: _contrast(masks[name]) for name in masks})

    @property
    def kind(self) -> Kind:
        """Of its questions."""
        return kind_of(self.keys)

    @property
    def mixed(self) -> bool:
        """Whether questions judged for the five aspects are among others, and left out."""
        return self.kind == "qa" and any(key[3] != "qa" for key in self.keys)

    def has(self, measure: Measure) -> bool:
        """Whether there are questions in each set that the measure averages."""
        return bool(self.contrasts[measure].columns.any(axis=0).all())

    @property
    def num_questions(self) -> int:
        """One that is judged for three aspects counts once."""
        return len({(key[0], key[2], key[4]) for key in self.keys})

    @property
    def num_videos(self) -> int:
        """That there are questions about, whether or not they could be answered."""
        return len(np.unique(self.videos))


@dataclass(frozen=True)
class CellValues:
    """What one cell scored."""

    asked: Asked
    values: Float[np.ndarray, " I"]
    """Percent (100 or 0) or score of each item; NaN where it was not judged."""
    lost: dict[str, int]
    """Items that were not judged, by the video's code or the judge's outcome."""
    answer_s: float
    """Seconds that answering took."""

    @property
    def judged(self) -> int:
        """Items with a verdict."""
        return int(np.isfinite(self.values).sum())

    @property
    def whole(self) -> bool:
        """Whether nearly all items were judged; without it there is no score."""
        return self.judged >= MIN_COVERAGE * len(self.values)

    def has(self, measure: Measure) -> bool:
        """Whether it is `whole`, and so is each set of items that the measure averages."""
        sets, known = self.asked.contrasts[measure].columns.T, np.isfinite(self.values)
        return self.whole and all(s.any() and known[s].mean() >= MIN_COVERAGE for s in sets)

    def why_not(self, measure: Measure) -> str:
        """Why it does not `has` a measure; nothing where it does."""
        if not self.asked.has(measure):
            return NO_QUESTIONS
        return "" if self.has(measure) else "too few of its questions are judged"

    def interval(self, measure: Measure) -> Estimate:
        """Mean of this cell alone with its interval over videos; None unless `has` it."""
        if not self.has(measure):
            return Estimate(None, None, None)
        spread = self.asked.contrasts[measure].spread(self.values)
        return bootstrap_mean_of_columns(spread, self.asked.videos)


def over_runs(
    asked: Asked,
    runs: Sequence[Float[np.ndarray, " I"]],
    bases: Sequence[str],
    contrast: Contrast,
) -> Crossed | None:
    """Mean of several runs' values with its spread over runs, within bases, and videos."""
    if not runs:
        return None
    values = np.stack([contrast.spread(one) for one in runs])
    return Crossed.of(values, asked.videos, bases, contrast.weights)


def kind_of(keys: Sequence[tuple[str, ...]]) -> Kind:
    """By the aspects that were judged: `qa` where that is among them."""
    return "qa" if any(key[3] == "qa" for key in keys) else "five"


def read_cells(done: Sequence[Done]) -> dict[str, CellValues]:
    """What each cell scored, by fingerprint; each is read once, however many rows share it.

    Raises:
        RedVillmError: an evaluation is unfinished or damaged, or two cells of a split were asked
            different questions.
    """
    once = {one.fingerprint: one for one in done}
    asked: dict[str, Asked] = {}
    found = {}
    quiet = len(once) < _QUIET
    for name, one in track(once.items(), "reading answers", transient=True, disable=quiet):
        found[name] = _read(one, asked)
    return found


def _read(done: Done, asked: dict[str, Asked]) -> CellValues:
    """One cell; the first of its split says what all of them must have been asked."""
    keys: list[tuple[str, ...]] = []
    values: list[Float[np.ndarray, " Q"]] = []
    lost: Counter[str] = Counter()
    seconds = 0.0
    parts = [read_judged(folder / JUDGES / done.judge) for folder in done.answers]
    for judged in sorted(parts, key=lambda part: (part.meta["dataset"], part.meta["split"])):
        meta, rows = judged.meta, sorted(judged.predictions, key=lambda row: row["sample_id"])
        questions = questions_of(rows, meta["type_names"])
        seconds += meta["seconds"]
        for aspect in meta["aspects"]:
            verdicts = [verdict for verdict in judged.verdicts if verdict.aspect == aspect]
            table = judge_table(questions, [verdicts])
            values.append(table.values[:, 0 if aspect == "qa" else 1])
            lost.update(_codes(rows, table.failure))
            where, what = meta["dataset"], (meta["split"], aspect)
            keys += [(where, q.video_id, *what, q.sample_id, q.type) for q in questions]
    split = done.cell.split
    if split not in asked:
        asked[split] = Asked.of(tuple(keys))
    if asked[split].keys != tuple(keys):
        raise RedVillmError(
            "cells that are compared were asked different questions",
            where=done.run,
            got=f"{len(keys)} questions and aspects, {len(set(keys) - set(asked[split].keys))} of "
            "them not those of the first cell",
            wanted=f"the same {len(asked[split].keys)}",
            do="answer and judge the same benchmarks with every cell",
        )
    return CellValues(asked[split], np.concatenate(values), dict(sorted(lost.items())), seconds)


def _codes(rows: Sequence[Mapping[str, Any]], failure: Sequence[str]) -> Counter[str]:
    """Why there is no verdict: the code of what was lost, else what became of the judging."""
    pairs = zip(rows, failure, strict=True)
    return Counter(row["lost"] if why == "lost" else why for row, why in pairs if why != "ok")


def _contrast(masks: Sequence[Bool[np.ndarray, " I"]]) -> Contrast:
    return Contrast(np.stack(masks, axis=1), np.full(len(masks), 1 / len(masks)))
