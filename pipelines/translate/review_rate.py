"""How much people changed: the edit rate of a translator, and how often each check is right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import ConfigError
from features.translation import Direction
from pipelines.translate.checks import CHECKS, Flag
from pipelines.translate.decisions import DECIDED, machine_text
from pipelines.translate.lines import Line


@dataclass(frozen=True)
class Share:
    """A count of a count, with Wilson's 95 % interval; None of nothing."""

    count: int
    of: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Rate:
    """What reviewers did with the lines that they looked at."""

    lines: int
    reviewed: int
    statuses: dict[str, Share]
    """Accepted, edited, rejected, of the reviewed ones; without an interval, for flagged lines are
    reviewed far more often than others."""
    reviewers: dict[str, dict[str, Share]]
    """The same of each reviewer."""
    chrf: float | None
    """chrF of what the machine said against what the lines say now, 0 to 100: 100, all stands.
    Over accepted and edited lines for which the machine said something."""
    ter: float | None
    """Translation edit rate of the same, in percent of the words (Chinese: characters) now."""
    signatures: tuple[str, str]
    """sacrebleu's, of both."""
    checks: dict[str, Share]
    """Of the reviewed lines with a flag of this check, how many were edited or rejected, for
    whatever reason: at most this is the precision of the check."""
    flagged: Share
    """Of the reviewed lines with a flag, how many were edited or rejected."""
    unflagged: Share
    """Of the reviewed lines without any: the false omission rate of all checks. Where a sample of
    them was drawn, of its lines alone, for what people look at beside it is not drawn at random;
    else of all, as if they had been. People go through the file from its beginning, so a sample
    that is reviewed in part tells of the beginning."""
    drawn: int | None
    """Lines of that sample, reviewed or not; None: none was drawn."""
    beside: int
    """Reviewed lines without a flag that are not of the sample and not in `unflagged`."""
    changed: float | None
    """Both shares, weighted by how many lines of the file have flags and have none: the share of
    the whole file that people would change. None where one of the two was not reviewed."""
    missed: float | None
    """Of what they would change in the whole file, the share without any flag."""


def edit_rate(
    lines: Sequence[Line],
    flags: Mapping[str, Sequence[Flag]],
    direction: Direction,
    sample: Collection[str] | None = None,
) -> Rate:
    """Rate the reviewed lines.

    Args:
        lines: all of a file.
        flags: of what the machine said.
        direction: which way it was translated.
        sample: ids of lines without a flag that were drawn at random, if any were.

    Raises:
        ConfigError: sacrebleu is not installed, or nothing was reviewed.
    """
    reviewed = [line for line in lines if line.status in DECIDED]
    if not reviewed:
        do = "review lines, and import the decisions"
        raise ConfigError("nothing was reviewed", got=f"{len(lines):,} lines", do=do)
    people = sorted({line.reviewer for line in reviewed})
    named = {check: {name for name in flags if _has(flags[name], check)} for check in CHECKS}
    kept = [line for line in reviewed if line.status != "rejected" and machine_text(line)]
    chrf, ter, signatures = _distance(kept, direction)
    others = [line for line in reviewed if line.id not in flags]
    drawn = [line for line in others if sample is None or line.id in sample]
    flagged = _changed(line for line in reviewed if line.id in flags)
    unflagged = _changed(drawn)
    with_flag = sum(line.id in flags for line in lines)
    changed, missed = _weighted(flagged, with_flag, unflagged, len(lines) - with_flag)
    return Rate(
        len(lines),
        len(reviewed),
        _statuses(reviewed),
        {name: _statuses([line for line in reviewed if line.reviewer == name]) for name in people},
        *(chrf, ter, signatures),
        {
            check: _changed(line for line in reviewed if line.id in with_it)
            for check, with_it in named.items()
        },
        *(flagged, unflagged),
        *(None if sample is None else len(sample), len(others) - len(drawn)),
        *(changed, missed),
    )


def _weighted(
    flagged: Share, with_flag: int, unflagged: Share, without: int
) -> tuple[float | None, float | None]:
    """Changed of the whole file, and the missed part of that."""
    if (with_flag and not flagged.of) or (without and not unflagged.of):
        return None, None
    caught = with_flag * flagged.count / max(flagged.of, 1)
    missed = without * unflagged.count / max(unflagged.of, 1)
    share = missed / (missed + caught) if missed + caught else None
    return (missed + caught) / (with_flag + without), share


def wilson(count: int, of: int) -> Share:
    """A share with Wilson's score interval (95 %)."""
    from scipy.stats import binomtest

    if not of:
        return Share(0, 0, None, None)
    found = binomtest(count, of).proportion_ci(method="wilson")
    return Share(count, of, float(found.low), float(found.high))


def _statuses(lines: Sequence[Line]) -> dict[str, Share]:
    counts = {status: sum(line.status == status for line in lines) for status in DECIDED}
    return {status: Share(count, len(lines), None, None) for status, count in counts.items()}


def _changed(lines: Iterable[Line]) -> Share:
    found = [line.status != "accepted" for line in lines]
    return wilson(sum(found), len(found))


def _has(flags: Sequence[Flag], check: str) -> bool:
    return any(flag.check == check for flag in flags)


def _distance(
    lines: Sequence[Line], direction: Direction
) -> tuple[float | None, float | None, tuple[str, str]]:
    """ChrF and TER of the machine's texts, the final ones being the references."""
    try:
        from sacrebleu.metrics.chrf import CHRF
        from sacrebleu.metrics.ter import TER
    except ImportError as error:
        do = "pip install -e '.[translate]'"
        raise ConfigError("the edit rate needs sacrebleu, which is not installed", do=do) from error
    chinese = direction == "en-zh"  # TER knows no words where there are no blanks
    metrics: list[Any] = [
        CHRF(),
        TER(normalized=chinese, asian_support=chinese, case_sensitive=True),
    ]
    said = [machine_text(line) or "" for line in lines]
    now = [line.target or "" for line in lines]
    scores = [metric.corpus_score(said, [now]).score if lines else None for metric in metrics]
    first, second = (str(metric.get_signature()) if lines else "" for metric in metrics)
    return scores[0], scores[1], (first, second)
