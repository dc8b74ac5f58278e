"""Numbers with what they rest on, as metrics.py makes them and reports print them."""

from __future__ import annotations

from dataclasses import dataclass, field

MIN_COVERAGE = 0.99
"""Share of the questions that must have been judged for a headline, unless somebody says less."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; None where the data cannot say."""

    mean: float | None
    low: float | None
    """None with fewer than two videos: one cluster has no spread."""
    high: float | None

    @property
    def excludes_zero(self) -> bool | None:
        """Of a difference, whether the interval lies on one side of 0; None without one."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class TypeScore:
    """What one aspect of the answers to the questions of one type is worth."""

    accuracy: float | None
    """Percent judged right; None where the aspect knows no right and wrong."""
    low: float | None
    """Of the accuracy's 95 % interval."""
    high: float | None
    score: float | None
    """Mean, 0..5."""
    score_low: float | None
    score_high: float | None
    exact: float | None
    """Percent whose normalised words are the reference's, over answered questions. No judge."""
    f1: float | None
    """Mean token F1 in percent, over answered questions. No judge."""
    asked: int
    judged: int
    """With a verdict from every seed."""
    lost: int
    """Without an answer from some seed."""
    failures: dict[str, int] = field(default_factory=dict)
    """Questions that were answered and not judged, by outcome (of the first seed that failed)."""
    contradictions: int = 0
    """Verdicts, over all seeds, that say yes with a score below 2.5 or no with one above it."""

    @property
    def coverage(self) -> float:
        """Share of the asked questions that were judged."""
        return self.judged / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Difference:
    """A minus b over the questions judged in both, paired question by question."""

    points: float | None
    """Of accuracy in percent; None where the aspect knows no right and wrong."""
    low: float | None
    high: float | None
    score: float | None
    score_low: float | None
    score_high: float | None
    questions: int

    @property
    def excludes_zero(self) -> bool | None:
        """Of the points; of the score where the aspect knows no right and wrong."""
        points = Estimate(self.points, self.low, self.high)
        score = Estimate(self.score, self.score_low, self.score_high)
        return (score if points.mean is None else points).excludes_zero


@dataclass(frozen=True)
class Averages:
    """The two means of several aspects that are in use, 0..5, intervals by video over all."""

    mean_of_aspects: Estimate
    """Every aspect counts alike."""
    question_weighted: Estimate
    """Every judged question counts alike."""


@dataclass(frozen=True)
class Agreement:
    """How far two judges say the same of the same answers."""

    questions: int
    """Judged by both."""
    same: float | None
    """Percent with the same yes or no; None without any such verdict."""
    kappa: float | None
    """Cohen's; None where it is undefined (no verdicts, or one judge never varies)."""
    spearman: float | None
    """Of the scores; None where it is undefined."""
    score_gap: float | None
    """Mean score of the first minus that of the second."""
