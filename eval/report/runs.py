"""What is reported, and what each seed of a run left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.folders import JUDGES, SUMMARY, EvalFolder, eval_folder, read_judged
from eval.judges.base import JudgeRecord, Verdict
from eval.metrics import Overlap, Question, overlaps, questions_of
from features.config import Aspect
from features.errors import RedVillmError

Key = tuple[str, Aspect]
"""A judge's slug and an aspect: what one column of verdicts is about."""


@dataclass(frozen=True)
class NamedRun:
    """One row of the tables."""

    name: str
    seeds: tuple[Path, ...]
    """The run folder of each seed."""


@dataclass(frozen=True)
class Part:
    """What the runs were asked."""

    dataset: str
    split: str
    """As its folder is called: `test.zh-en` are answers to `test` that were translated."""


@dataclass(frozen=True)
class Seed:
    """What one seed of a run answered to a part, and what was said of that."""

    number: int
    """From 0, in the order of `NamedRun.seeds`."""
    meta: dict[str, Any]
    rows: list[dict[str, Any]]
    """Of predictions.jsonl, sorted by sample id."""
    overlaps: list[Overlap]
    """In the order of `rows`."""
    judges: dict[str, JudgeRecord]
    """By slug."""
    verdicts: dict[Key, list[Verdict]]

    @property
    def questions(self) -> list[Question]:
        """All that was asked, sorted by id; types that are numbers have their names."""
        return questions_of(self.rows, self.meta["type_names"])


def read_seed(
    run: NamedRun,
    number: int,
    part: Part,
    judges: Sequence[str] | None,
    left_out: list[str],
) -> Seed | None:
    """One seed's answers and verdicts, each file read once; None where nothing was judged.

    A judgement that has begun and is not finished does not count yet.

    Args:
        run: the run.
        number: which of its seeds, from 0.
        part: what it was asked.
        judges: only judges with these slugs; all unless given.
        left_out: takes in why a judgement cannot be used: a file is damaged, or the answers changed
            after they were judged. It costs nothing else.
    """
    root = eval_folder(run.seeds[number], part.dataset, part.split) / JUDGES
    found: list[EvalFolder] = []
    for summary in sorted(root.glob(f"*/{SUMMARY}")):
        if judges is None or summary.parent.name in judges:
            try:
                found.append(read_judged(summary.parent, found[0] if found else None))
            except RedVillmError as error:
                who = f"{run.name}, seed {number + 1}, on {part.dataset} {part.split}"
                left_out.append(f"left out: {who}: {error}")
    if not found:
        return None
    rows = sorted(found[0].predictions, key=lambda row: str(row["sample_id"]))
    records = {folder.judge.slug: folder.judge for folder in found}
    verdicts: dict[Key, list[Verdict]] = {}
    for slug, folder in zip(records, found, strict=True):
        for verdict in folder.verdicts:
            verdicts.setdefault((slug, verdict.aspect), []).append(verdict)
    return Seed(number, found[0].meta, rows, overlaps(rows), records, verdicts)


def require_same_questions(
    part: Part, a: Mapping[str, Any], b: Mapping[str, Any], who: str
) -> None:
    """Refuse to put answers to different questions into one table.

    Raises:
        RedVillmError: the digests of the annotations differ.
    """
    if a["annotations"] != b["annotations"]:
        raise RedVillmError(
            "runs with different annotations cannot stand in one table",
            where=f"{part.dataset}, {part.split}",
            got=f"{who}: {b['annotations']}",
            wanted=a["annotations"],
            do="evaluate all runs on the same files, or leave some out",
        )
