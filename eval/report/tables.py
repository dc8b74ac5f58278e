"""Results as tables: one for each split, aspect and judge, so that no two judges ever share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any, get_args

from eval.judges.base import Verdict
from eval.metrics import (
    Question,
    agreement,
    average_aspects,
    macro_accuracy,
    paired_difference,
    score_by_type,
    withhold,
)
from eval.report.gather import PartResults, RunResults
from eval.report.runs import Key
from eval.scores import Difference, TypeScore
from features.config import Aspect

FIVE: tuple[Aspect, ...] = tuple(aspect for aspect in get_args(Aspect) if aspect != "qa")
"""The aspects of the generative benchmark, in the paper's order."""
_PERCENTAGES = {"accuracy", "low", "high", "exact", "f1", "points", "same"}


def make_table(
    part: PartResults, key: Key, compare: Sequence[tuple[str, str]], min_coverage: float
) -> dict[str, Any]:
    """The table of one judge and aspect: a row each run that was judged so.

    Args:
        part: the results.
        key: judge and aspect.
        compare: names (a, b) whose paired differences a - b are reported.
        min_coverage: share of a row's questions that must have been judged for its numbers.
    """
    slug, aspect = key
    runs = {one.run.name: one for one in part.runs if one.of(key)}
    rows = [_row(part.questions, one, key, min_coverage) for one in runs.values()]
    refused = {row["name"] for row in rows if row["refused"]}
    differences = []
    for a, b in compare:
        if a in runs and b in runs:
            pair = (runs[a], runs[b])
            differences += _differences(part.questions, pair, key, bool(refused & {a, b}))
    return {
        "dataset": part.part.dataset,
        "split": part.part.split,
        "aspect": aspect,
        "judge": part.labels[slug],
        "judge_slug": slug,
        "rows": rows,
        "differences": differences,
    }


def make_five(parts: Sequence[PartResults], tables: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The five aspects and their two means, for each dataset and judge that has them all.

    The aspects of a dataset may lie in different splits.
    """
    found: dict[tuple[str, str], dict[Aspect, tuple[PartResults, Mapping[str, Any]]]] = {}
    of_part = {(one.part.dataset, one.part.split): one for one in parts}
    for table in tables:
        part = of_part[table["dataset"], table["split"]]
        aspects = found.setdefault((table["dataset"], table["judge_slug"]), {})
        aspects.setdefault(table["aspect"], (part, table))
    return [
        _five({aspect: aspects[aspect] for aspect in FIVE})
        for aspects in found.values()
        if set(FIVE) <= set(aspects)
    ]


def make_agreement(part: PartResults) -> list[dict[str, Any]]:
    """How far each two judges say the same of each run's first seed that both judged."""
    found = []
    for one in part.runs:
        for aspect in part.aspects:
            for a, b in combinations(part.judges, 2):
                both = {(a, aspect), (b, aspect)}
                seed = next((s for s in one.seeds if both <= set(s.verdicts)), None)
                if seed is None:
                    continue
                compared = agreement(seed.verdicts[a, aspect], seed.verdicts[b, aspect])
                found.append(
                    {
                        "run": one.run.name,
                        "dataset": part.part.dataset,
                        "split": part.part.split,
                        "aspect": aspect,
                        "a": part.labels[a],
                        "a_slug": a,
                        "b": part.labels[b],
                        "b_slug": b,
                        **rounded(asdict(compared)),
                    }
                )
    return found


def rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Percentages to two decimals, scores to three."""
    return {
        name: round(value, 2 if name in _PERCENTAGES else 3) if isinstance(value, float) else value
        for name, value in numbers.items()
    }


def _row(
    questions: Sequence[Question], one: RunResults, key: Key, min_coverage: float
) -> dict[str, Any]:
    """Of the seeds that were judged; `of_seeds` says how many the run has."""
    seeds = one.of(key)
    overlaps = [seed.overlaps for seed in seeds]
    full = score_by_type(questions, one.verdicts(key), overlaps)
    scores, refused = withhold(full, min_coverage)
    shown: dict[str, dict[str, Any]] = {k: _score(score) for k, score in scores.items()}
    total, macro = shown.pop("all"), macro_accuracy(scores)
    lost: dict[str, str] = {}
    for seed in seeds:
        lost = seed.lost | lost  # the first seed's code counts
    return {
        "name": one.run.name,
        "seeds": len(seeds),
        "of_seeds": len(one.run.seeds),
        "types": shown or {"all": total},
        "all": total,
        "macro": None if macro is None else round(macro, 2),
        "refused": refused,
        "lost": dict(sorted(Counter(lost.values()).items())),
    }


def _score(score: TypeScore) -> dict[str, Any]:
    return rounded(asdict(score))


def _differences(
    questions: Sequence[Question],
    pair: tuple[RunResults, RunResults],
    key: Key,
    withheld: bool,
) -> list[dict[str, Any]]:
    """By type, and over all; of a run whose numbers are withheld there is no difference either."""
    a, b = pair
    types: list[str | None] = [*sorted({q.type for q in questions} - {"", "all"}), None]
    found = []
    for kind in types:
        difference = paired_difference(questions, a.verdicts(key), b.verdicts(key), kind)
        if withheld:
            difference = Difference(None, None, None, None, None, None, difference.questions)
        names = {"a": a.run.name, "b": b.run.name, "type": kind or "all"}
        found.append({**names, **rounded(asdict(difference))})
    return found


def _five(aspects: Mapping[Aspect, tuple[PartResults, Mapping[str, Any]]]) -> dict[str, Any]:
    tables = {aspect: table for aspect, (_, table) in aspects.items()}
    first = next(iter(tables.values()))
    rows = []
    for name in [row["name"] for row in first["rows"]]:
        found = {
            aspect: row for aspect, t in tables.items() for row in t["rows"] if row["name"] == name
        }
        if set(found) != set(aspects):
            continue
        verdicts: dict[str, tuple[list[Question], list[list[Verdict]]]] = {}
        for aspect, (part, table) in aspects.items():
            one = next(run for run in part.runs if run.run.name == name)
            verdicts[aspect] = (part.questions, one.verdicts((table["judge_slug"], aspect)))
        means: dict[str, Any] = asdict(average_aspects(verdicts))
        if any(row["refused"] for row in found.values()):
            means = {mean: dict.fromkeys(numbers) for mean, numbers in means.items()}
        rows.append(
            {
                "name": name,
                "seeds": min(row["seeds"] for row in found.values()),
                "aspects": {aspect: row["all"] for aspect, row in found.items()},
                **{mean: _estimate(numbers) for mean, numbers in means.items()},
            }
        )
    kept = ("dataset", "judge", "judge_slug")
    return {**{key: first[key] for key in kept}, "rows": rows}


def _estimate(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    """Of scores."""
    return {k: None if value is None else round(value, 3) for k, value in numbers.items()}
