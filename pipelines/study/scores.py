"""Scores of cells and rows as results.json has them: rounded, with intervals, or why not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from eval.scores import Estimate
from pipelines.study.claims import OTHER_KIND
from pipelines.study.placed import Place, Placed
from pipelines.study.recipe import Measure
from pipelines.study.values import CellValues, Kind, over_runs

DIGITS: dict[Kind, int] = {"qa": 2, "five": 3}
"""Of percent, and of scores."""
MOST: dict[Kind, float] = {"qa": 100.0, "five": 5.0}
"""That can be scored."""
NOTHING = Estimate(None, None, None)


def cell_score(cell: CellValues, measure: Measure, kind: Kind) -> dict[str, Any]:
    """One cell's mean with its interval over videos, or why there is none."""
    if why := _why_not(cell, measure, kind):
        return {**_numbers(NOTHING, kind), "why": why}
    return _numbers(cell.interval(measure), kind)


def row_score(placed: Placed, place: Place, measure: Measure, kind: Kind) -> dict[str, Any]:
    """A row's mean over its runs, with its interval over runs and videos, and their spread.

    What several seeds share (nothing was trained) is one run.
    """
    bases: dict[str, str] = {}
    for (base, _), done in placed.row(place).items():
        bases.setdefault(done.fingerprint, base)
    whys = {name: _why_not(placed.values[name], measure, kind) for name in bases}
    kept = [name for name, why in whys.items() if not why]
    if not kept:
        why = next(iter(whys.values()), "no finished run has this number")
        return {**_numbers(NOTHING, kind), "sd": None, "why": why}
    asked = placed.values[kept[0]].asked
    runs, contrast = [placed.values[name].values for name in kept], asked.contrasts[measure]
    crossed = over_runs(asked, runs, [bases[name] for name in kept], contrast)
    means = [contrast.mean(run) for run in runs]
    sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
    interval = _within(crossed.interval if crossed else NOTHING, MOST[kind])
    return {**_numbers(interval, kind), "sd": rounded(sd, DIGITS[kind])}


def rounded(value: float | None, digits: int) -> float | None:
    """None stays None."""
    return None if value is None else round(value, digits) + 0.0  # no -0.0


def _why_not(cell: CellValues, measure: Measure, kind: Kind) -> str:
    return OTHER_KIND if cell.asked.kind != kind else cell.why_not(measure)


def _within(score: Estimate, most: float) -> Estimate:
    """No score is below 0 or above the most there is, and so its interval is not."""
    if score.low is None or score.high is None:
        return score
    return Estimate(score.mean, max(0.0, score.low), min(most, score.high))


def _numbers(estimate: Estimate, kind: Kind) -> dict[str, float | None]:
    return {name: rounded(value, DIGITS[kind]) for name, value in asdict(estimate).items()}
