"""Results as tables: one for each split, aspect and judge, so that no two judges ever share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from eval.metrics import (
    Question,
    agreement,
    covers_all,
    judge_table,
    macro_accuracy,
    paired_differences,
    score_by_type,
    withhold,
)
from eval.report.gather import PartResults, RunResults
from eval.report.runs import Key
from eval.scores import Difference
from eval.translations import route_of, translations_label

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
    rows = {name: _row(part.questions, one, key, min_coverage) for name, one in runs.items()}
    pairs = [(runs[a], runs[b]) for a, b in compare if a in runs and b in runs]
    return {
        "dataset": part.part.dataset,
        "split": part.part.split,
        "route": route_of(part.metas[0]),
        "translations": translations_label(part.metas),
        "aspect": aspect,
        "judge": part.labels[slug],
        "judge_slug": slug,
        "rows": list(rows.values()),
        "differences": list(_differences(part.questions, pairs, key, rows)),
    }


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
    """Of the seeds that were judged; `of_seeds` says how many the run has.

    `covers_all` says whether every question is in one of `types`.
    """
    seeds = one.of(key)
    overlaps = [seed.overlaps for seed in seeds]
    full = score_by_type(questions, one.verdicts(key), overlaps)
    scores, refused = withhold(full, min_coverage)
    shown = {kind: rounded(asdict(score)) for kind, score in scores.items()}
    total, macro = shown.pop("all"), macro_accuracy(scores)
    lost: dict[str, str] = {}
    for seed in seeds:
        lost = seed.lost | lost  # the first seed's code counts
    return {
        "name": one.run.name,
        "seeds": len(seeds),
        "of_seeds": len(one.run.seeds),
        "types": shown or {"all": total},
        "covers_all": not shown or covers_all(full),
        "all": total,
        "macro": None if macro is None else round(macro, 2),
        "refused": refused,
        "lost": dict(sorted(Counter(lost.values()).items())),
    }


def _differences(
    questions: Sequence[Question],
    pairs: Sequence[tuple[RunResults, RunResults]],
    key: Key,
    rows: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """By type, and over all; where a run's numbers are withheld there is no difference either."""
    names = {one.run.name: one for pair in pairs for one in pair}
    judged = {name: judge_table(questions, one.verdicts(key)) for name, one in names.items()}
    for pair in pairs:
        a, b = (one.run.name for one in pair)
        for kind, difference in paired_differences(questions, judged[a], judged[b]).items():
            if any(_is_withheld(rows[name], kind) for name in (a, b)):
                difference = Difference(None, None, None, None, None, None, difference.questions)
            yield {
                **{"a": a, "b": b, "type": kind},
                **rounded(asdict(difference)),
                "excludes_zero": difference.excludes_zero,
            }


def _is_withheld(row: Mapping[str, Any], kind: str) -> bool:
    """Whether a type of a row (or all of it) has no number."""
    score = row["all"] if kind == "all" else row["types"][kind]
    return score["accuracy"] is None and score["score"] is None
