"""The five aspects of the generative benchmark side by side, and their two means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from eval.judges.base import Verdict
from eval.metrics import Question, average_aspects, difference_of_averages
from eval.report.gather import PartResults
from eval.scores import Averages, Estimate
from eval.translations import translations_label
from features.config import Aspect

FIVE: tuple[Aspect, ...] = tuple(aspect for aspect in get_args(Aspect) if aspect != "qa")
"""The aspects, in the paper's order."""
_UNKNOWN = Estimate(None, None, None)
_Aspects = Mapping[Aspect, tuple[PartResults, Mapping[str, Any]]]
"""Where each aspect was asked, and its table."""
_Verdicts = dict[str, tuple[list[Question], list[list[Verdict]]]]


def make_five(
    parts: Sequence[PartResults],
    tables: Sequence[Mapping[str, Any]],
    order: Sequence[str],
    compare: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """The five aspects and their means, for each dataset, route and judge that has them all.

    The aspects of a dataset may lie in different splits. A run that was not judged for all five has
    a row, and no means.

    Args:
        parts: the results.
        tables: all tables of them.
        order: names of all runs, in the order of rows.
        compare: names (a, b) whose paired differences a - b of the mean of aspects are reported.
    """
    found: dict[tuple[object, ...], dict[Aspect, tuple[PartResults, Mapping[str, Any]]]] = {}
    of_part = {(one.part.dataset, one.part.split): one for one in parts}
    for table in tables:
        part = of_part[table["dataset"], table["split"]]
        choosing = table["split"].startswith("val")  # never mixed with what is scored once
        key = table["dataset"], table["judge_slug"], choosing, table["route"]
        aspects = found.setdefault(key, {})
        aspects.setdefault(table["aspect"], (part, table))
    return [
        _five({aspect: aspects[aspect] for aspect in FIVE}, order, compare)
        for aspects in found.values()
        if set(FIVE) <= set(aspects)
    ]


def _five(
    aspects: _Aspects, order: Sequence[str], compare: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """A row for each run that was judged for any of them."""
    tables = {aspect: table for aspect, (_, table) in aspects.items()}
    judged = {row["name"] for table in tables.values() for row in table["rows"]}
    rows: dict[str, dict[str, Any]] = {}
    whole: dict[str, _Verdicts] = {}
    for name in (name for name in order if name in judged):
        found = {a: row for a, t in tables.items() for row in t["rows"] if row["name"] == name}
        if set(found) == set(aspects) and not any(row["refused"] for row in found.values()):
            whole[name] = _verdicts(aspects, name)
        means = average_aspects(whole[name]) if name in whole else Averages(_UNKNOWN, _UNKNOWN)
        rows[name] = {
            "name": name,
            "seeds": min(row["seeds"] for row in found.values()),
            "of_seeds": max(row["of_seeds"] for row in found.values()),
            "aspects": {aspect: row["all"] for aspect, row in found.items()},
            "missing": [aspect for aspect in aspects if aspect not in found],
            **{mean: _scores(numbers) for mean, numbers in asdict(means).items()},
        }
    first = next(iter(tables.values()))
    pairs = [(a, b) for a, b in compare if a in rows and b in rows]
    metas = [meta for part, _ in aspects.values() for meta in part.metas]
    return {
        **{key: first[key] for key in ("dataset", "route", "judge", "judge_slug")},
        "translations": translations_label(metas),
        "rows": list(rows.values()),
        "differences": list(_differences(whole, pairs)),
    }


def _verdicts(aspects: _Aspects, name: str) -> _Verdicts:
    """What a run was asked about each aspect, and what was said of its seeds."""
    found: _Verdicts = {}
    for aspect, (part, table) in aspects.items():
        one = next(run for run in part.runs if run.run.name == name)
        found[aspect] = (part.questions, one.verdicts((table["judge_slug"], aspect)))
    return found


def _differences(
    whole: Mapping[str, _Verdicts], pairs: Sequence[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Of the mean of aspects; of a run without one there is no difference either."""
    for a, b in pairs:
        both = a in whole and b in whole
        difference = difference_of_averages(whole[a], whole[b]) if both else _UNKNOWN
        yield {
            "a": a,
            "b": b,
            "mean_of_aspects": _scores(asdict(difference)),
            "excludes_zero": difference.excludes_zero,
        }


def _scores(numbers: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: None if value is None else round(value, 3) for k, value in numbers.items()}
