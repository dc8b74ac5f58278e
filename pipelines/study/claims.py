"""What is claimed, decided: a verdict for each claim, budget and reading, by a rule stated before.

A pair is a (base, seed) of which both rows are there; its difference is that of the two runs'
measures over the questions judged in both. The rule is `method`'s text, in numbers the constants
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from eval.paired import ALPHA, MIN_PAIRS, POWER, sign_flip, smallest_detectable, smallest_p
from eval.scores import MIN_COVERAGE, Estimate
from pipelines.study.recipe import ClaimConfig
from pipelines.study.values import CellValues, Kind, interval_over_runs

Verdict = Literal["holds", "does not hold", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "undecided")
WORTH_HAVING: dict[Kind, float] = {"qa": 1.0, "five": 0.05}
"""Points, or score, below which an advantage is none."""
MARGIN_UNIT: dict[Kind, float] = {"qa": 1.0, "five": 0.01}
"""Of a claim's margin: points, or hundredths of a score."""
MIN_RUNS = 3
"""Pairs below which an interval decides nothing: it would know next to nothing of seeds."""
Cells = Mapping[tuple[str, int], CellValues]
"""A row's cells by (base, seed), in the order of bases and seeds."""


@dataclass(frozen=True)
class Decision:
    """A claim's numbers and what follows from them."""

    verdict: Verdict
    p: float | None
    """Of the sign-flip test; None without pairs."""
    difference: Estimate
    """Mean over the pairs, with its interval over runs and videos."""
    smallest_detectable: float | None
    pairs: dict[tuple[str, int], float]
    """Difference of each (base, seed)."""
    reasons: tuple[str, ...]
    """What kept pairs out, or the test from deciding."""


def decide(claim: ClaimConfig, more: Cells, less: Cells, kind: Kind) -> Decision:
    """Whether a claim holds.

    Args:
        claim: what is claimed.
        more: the row that is said to be better.
        less: the row that it is compared with.
        kind: of the questions.
    """
    measures = [claim.measure] if claim.beyond is None else [claim.measure, claim.beyond]
    both = [key for key in more if key in less]
    kept = [k for k in both if all(row[k].has(m) for row in (more, less) for m in measures)]
    left_out = len(both) - len(kept)
    reasons = [_coverage_reason(left_out)] if left_out else []
    if not kept:
        reasons.append("There is no pair of runs to compare.")
        return Decision("undecided", None, Estimate(None, None, None), None, {}, tuple(reasons))
    asked = more[kept[0]].asked
    contrast = asked.contrasts[claim.measure]
    if claim.beyond is not None:
        contrast = contrast.minus(asked.contrasts[claim.beyond])
    deltas = [more[key].values - less[key].values for key in kept]
    pairs = {key: contrast.mean(delta) for key, delta in zip(kept, deltas, strict=True)}
    differences = np.array(list(pairs.values()))
    interval = interval_over_runs(asked, deltas, [base for base, _ in kept], contrast)
    p = sign_flip(differences)
    if claim.kind == "more":
        verdict = _decide_more(differences, p, interval, WORTH_HAVING[kind])
        reasons += _too_few_to_test(len(kept))
    else:
        verdict = _decide_close(len(kept), interval, claim.margin * MARGIN_UNIT[kind])
    if len(kept) < MIN_RUNS:
        reasons.append(f"The interval of fewer than {MIN_RUNS} pairs decides nothing.")
    detectable = smallest_detectable(differences)
    return Decision(verdict, p, interval, detectable, pairs, tuple(reasons))


def method(kind: Kind) -> str:
    """The rule in words."""
    unit = "point" if kind == "qa" else "of a score"
    worth = f"{WORTH_HAVING[kind]:g} {unit}"
    margin = "points" if kind == "qa" else "hundredths of a score"
    return (
        "A pair is one base and seed of which both rows were trained and evaluated; its difference "
        "is the row said to be better minus the other, over the questions judged in both runs. A "
        f"run of which less than {MIN_COVERAGE:.0%} of the questions were judged has no score and "
        "is in no pair. p is that of the two-sided exact sign-flip (randomisation) test of the "
        f"mean difference over all pairs; with n pairs it cannot be below 2/2^n, so that fewer "
        f"than {MIN_PAIRS} pairs never reach {ALPHA:g}. The 95 % interval is a bootstrap in which "
        "runs (within each base) and videos are both drawn anew (2,000 resamples): it covers other "
        "seeds and other videos, not other bases. A claim that one row is better holds if p < "
        f"{ALPHA:g} and the mean difference is above 0. It does not hold if p < {ALPHA:g} and the "
        f"mean difference is below 0, or if the whole interval lies below {worth}: an advantage "
        "worth having is then excluded. Else it is undecided. A claim that two rows are close "
        f"holds if the whole interval lies within the claim's margin ({margin}) on either side of "
        "0, does not hold if the whole interval lies beyond it, and is else undecided; p decides "
        f"nothing there. Of fewer than {MIN_RUNS} pairs the interval decides nothing. The smallest "
        f"detectable difference is what such a test at {ALPHA:.0%} would find with {POWER:.0%} "
        "power, approximated by the paired t-test with the spread observed. p_holm is p adjusted "
        "(Holm) for the number of headline claims that a row is better; verdicts do not rest on it."
    )


def _decide_more(
    differences: Float[np.ndarray, " n"], p: float, interval: Estimate, worth: float
) -> Verdict:
    mean = differences.mean()
    if p < ALPHA and mean != 0:
        return "holds" if mean > 0 else "does not hold"
    if interval.high is None or len(differences) < MIN_RUNS:
        return "undecided"
    return "does not hold" if interval.high < worth else "undecided"


def _decide_close(pairs: int, interval: Estimate, margin: float) -> Verdict:
    if interval.low is None or interval.high is None or pairs < MIN_RUNS:
        return "undecided"
    if -margin <= interval.low and interval.high <= margin:
        return "holds"
    return "does not hold" if interval.low > margin or interval.high < -margin else "undecided"


def _too_few_to_test(pairs: int) -> list[str]:
    if pairs >= MIN_PAIRS:
        return []
    least = f"{smallest_p(pairs):.4f}".rstrip("0").rstrip(".")
    few = "1 pair" if pairs == 1 else f"{pairs} pairs"
    return [f"{few}: the sign-flip test cannot fall below p = {least}, and {ALPHA:g} is wanted."]


def _coverage_reason(pairs: int) -> str:
    few = "1 pair is" if pairs == 1 else f"{pairs} pairs are"
    return f"{few} left out: less than {MIN_COVERAGE:.0%} of a run's questions were judged."
