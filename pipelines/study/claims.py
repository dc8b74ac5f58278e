"""What is claimed, decided: a verdict for each claim, budget and reading, by a rule stated before.

A pair is a (base, seed) of which both rows are there; its difference is that of the two runs'
measures over the questions judged in both. The rule is `method`'s text, in numbers the constants
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eval.bootstrap import RESAMPLES
from eval.crossed import CONFIDENCE, Crossed
from eval.metrics import TEMPORAL_TYPES
from eval.paired import ALPHA, MIN_PAIRS, POWER, sign_flip, smallest_detectable, smallest_p
from eval.scores import MIN_COVERAGE, Estimate
from pipelines.study.recipe import ClaimConfig, Measure
from pipelines.study.values import NO_QUESTIONS, CellValues, Kind, over_runs

Verdict = Literal["holds", "does not hold", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "undecided")
WORTH_HAVING: dict[Kind, float] = {"qa": 1.0, "five": 0.05}
"""Points, or score, below which an advantage is none."""
MARGIN_UNIT: dict[Kind, float] = {"qa": 1.0, "five": 0.01}
"""Of a claim's margin: points, or hundredths of a score."""
MIN_RUNS = 3
"""Pairs below which an interval decides nothing: it would know next to nothing of seeds."""
OTHER_KIND = "its split is judged in another way than the study's, which has another unit"
Cells = Mapping[tuple[str, int], CellValues]
"""A row's cells by (base, seed), in the order of bases and seeds."""


@dataclass(frozen=True)
class Decision:
    """A claim's numbers and what follows from them."""

    verdict: Verdict
    p: float | None
    """Of the sign-flip test, over runs on these videos; None without pairs."""
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
    if never := _never([*more.values(), *less.values()], measures, kind):
        return _undecided([never])
    kept = [k for k in both if all(row[k].has(m) for row in (more, less) for m in measures)]
    left_out = len(both) - len(kept)
    reasons = [_coverage_reason(left_out)] if left_out else []
    if not kept:
        return _undecided([*reasons, "There is no pair of runs to compare."])
    asked = more[kept[0]].asked
    contrast = asked.contrasts[claim.measure]
    if claim.beyond is not None:
        contrast = contrast.minus(asked.contrasts[claim.beyond])
    deltas = [more[key].values - less[key].values for key in kept]
    pairs = {key: contrast.mean(delta) for key, delta in zip(kept, deltas, strict=True)}
    differences = np.array(list(pairs.values()))
    crossed = over_runs(asked, deltas, [base for base, _ in kept], contrast)
    if crossed is None:
        return _undecided([*reasons, "A pair has no question that was judged in both runs."])
    interval, p = crossed.interval, sign_flip(differences)
    if claim.kind == "more":
        verdict = _decide_more(len(kept), p, interval, WORTH_HAVING[kind])
        reasons += [*_too_few_to_test(len(kept)), *_beside(verdict, p, interval, kind)]
    else:
        verdict = _decide_close(len(kept), interval, claim.margin * MARGIN_UNIT[kind])
    reasons += _too_few_for_an_interval(len(kept), crossed)
    detectable = smallest_detectable(differences, crossed)
    return Decision(verdict, p, interval, detectable, pairs, tuple(reasons))


def tested(claim: ClaimConfig, kind: Kind) -> str:
    """What is tested of a claim, whose own sentence may say more or less."""
    if claim.kind == "close":
        unit = "points" if kind == "qa" else "of a score"
        margin = f"{claim.margin * MARGIN_UNIT[kind]:g} {unit}"
        return (
            f"Tested: {claim.more} and {claim.less} no further apart than {margin} in "
            f"{claim.measure}."
        )
    if claim.beyond is None:
        return f"Tested: {claim.more} above {claim.less} in {claim.measure}."
    return (
        f"Tested: {claim.more} above {claim.less} by more in {claim.measure} than in "
        f"{claim.beyond}."
    )


def rule() -> dict[str, Any]:
    """What the rule consists of, to be fixed before anything is scored."""
    return {
        "alpha": ALPHA,
        "power": POWER,
        "min_pairs": MIN_PAIRS,
        "min_runs": MIN_RUNS,
        "worth_having": dict(WORTH_HAVING),
        "margin_unit": dict(MARGIN_UNIT),
        "min_coverage": MIN_COVERAGE,
        "confidence": CONFIDENCE,
        "temporal_types": sorted(TEMPORAL_TYPES),
        "method": hashlib.sha256(method("qa").encode()).hexdigest(),
    }


def method(kind: Kind) -> str:
    """The rule in words."""
    worth = _worth(kind)
    margin = "points" if kind == "qa" else "hundredths of a score"
    return (
        "A pair is one base and seed of which both rows were trained and evaluated; its difference "
        "is the row said to be better minus the other, over the questions judged in both runs. A "
        f"run of which less than {MIN_COVERAGE:.0%} of the questions were judged has no score and "
        "is in no pair. p is that of the two-sided exact sign-flip (randomisation) test of the "
        "mean difference over all pairs. It is about training runs, on these videos: all pairs are "
        "asked about the same ones, and what is peculiar to them p cannot tell from a better "
        f"recipe. With n pairs it cannot be below 2/2^n, so that fewer than {MIN_PAIRS} pairs "
        f"never reach {ALPHA:g}.\n\n"
        f"The {CONFIDENCE:.0%} interval covers other seeds and other videos, not other bases. It "
        "is a t-interval of two parts: the variance of the mean over videos, and the variance "
        "between the runs of a base (pooled over bases, and less what of it is the videos'), each "
        "with its own t quantile (videos minus 1 and runs minus bases degrees of freedom). Where "
        "no base has two runs it covers videos alone. Runs that several seeds share count once in "
        f"a row. The intervals of single cells are a bootstrap over videos ({RESAMPLES:,} "
        "resamples).\n\n"
        f"A claim that one row is better holds if p < {ALPHA:g} and the whole interval lies above "
        f"0. It does not hold if p < {ALPHA:g} and the whole interval lies below 0, or if the "
        f"whole interval lies below {worth}: an advantage worth having is then excluded. Else it "
        "is undecided. A claim that two rows are close "
        f"holds if the whole interval lies within the claim's margin ({margin}) on either side of "
        "0, does not hold if the whole interval lies beyond it, and is else undecided; p decides "
        f"nothing there. Of fewer than {MIN_RUNS} pairs the interval decides nothing.\n\n"
        "The smallest detectable difference is the true one at which this rule would say of a "
        f"better row that it holds with {POWER:.0%} probability, the spread being as observed "
        f"(simulated with normal distributions); with fewer than {MIN_PAIRS} pairs there is none. "
        "p_holm is p adjusted (Holm) for the number of headline claims that a row is better; "
        "verdicts do not rest on it."
    )


def _never(cells: Sequence[CellValues], measures: Sequence[Measure], kind: Kind) -> str:
    """Why no run of these rows could ever be compared; nothing where some could."""
    asked = cells[0].asked if cells else None
    if asked is None:
        return ""
    if asked.kind != kind:
        return _sentence(OTHER_KIND)
    return "" if all(asked.has(measure) for measure in measures) else _sentence(NO_QUESTIONS)


def _worth(kind: Kind) -> str:
    return f"{WORTH_HAVING[kind]:g} {'point' if kind == 'qa' else 'of a score'}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _undecided(reasons: Sequence[str]) -> Decision:
    return Decision("undecided", None, Estimate(None, None, None), None, {}, tuple(reasons))


def _decide_more(pairs: int, p: float, interval: Estimate, worth: float) -> Verdict:
    if interval.low is None or interval.high is None or pairs < MIN_RUNS:
        return "undecided"
    if p < ALPHA and interval.low > 0:
        return "holds"
    if p < ALPHA and interval.high < 0:
        return "does not hold"
    return "does not hold" if interval.high < worth else "undecided"


def _decide_close(pairs: int, interval: Estimate, margin: float) -> Verdict:
    if interval.low is None or interval.high is None or pairs < MIN_RUNS:
        return "undecided"
    if -margin <= interval.low and interval.high <= margin:
        return "holds"
    return "does not hold" if interval.low > margin or interval.high < -margin else "undecided"


def _beside(verdict: Verdict, p: float, interval: Estimate, kind: Kind) -> list[str]:
    """What a verdict by p and interval does not say."""
    if verdict == "holds" and interval.mean is not None and interval.mean < WORTH_HAVING[kind]:
        return [f"The difference is smaller than {_worth(kind)}."]
    if verdict == "undecided" and p < ALPHA:
        return [f"p is below {ALPHA:g} on these videos; over other videos the sign is open."]
    return []


def _too_few_for_an_interval(pairs: int, crossed: Crossed) -> list[str]:
    reasons = []
    if crossed.of_runs is None:
        reasons.append("No base has two pairs: the interval covers other videos alone.")
    if pairs < MIN_RUNS:
        reasons.append(f"The interval of fewer than {MIN_RUNS} pairs decides nothing.")
    return reasons


def _too_few_to_test(pairs: int) -> list[str]:
    if pairs >= MIN_PAIRS:
        return []
    least = f"{smallest_p(pairs):.4f}".rstrip("0").rstrip(".")
    few = "1 pair" if pairs == 1 else f"{pairs} pairs"
    return [f"{few}: the sign-flip test cannot fall below p = {least}, and {ALPHA:g} is wanted."]


def _coverage_reason(pairs: int) -> str:
    few = "1 pair is" if pairs == 1 else f"{pairs} pairs are"
    return f"{few} left out: less than {MIN_COVERAGE:.0%} of a run's questions were judged."
