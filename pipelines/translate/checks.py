"""What is suspicious about a translation, line by line: flags with a reason, for people to look at.

A flag is a hint and no verdict: how often each check is right is what `review rate` measures. All
checks are pure, need no model, and take time linear in the text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from eval.overlap import normalise, token_f1
from features.translation import Direction
from pipelines.translate.lines import Line
from pipelines.translate.pair_checks import PAIR_CHECKS, Pair, names_in
from pipelines.translate.protect import without_tokens
from pipelines.translate.terms import Terms

CHECKS = ("empty", *PAIR_CHECKS, "duplicate", "inconsistent")
UNLIKE = 0.5
"""Token F1 below which two sources do not say the same."""
RARE = 3
"""How much more often than elsewhere a name's Chinese is where the name is."""
WORDS, CHARACTERS = 3, 12
"""Of shorter sources many share a translation: `guy` and `man`."""


@dataclass(frozen=True)
class Flag:
    """One thing that is suspicious about one line."""

    id: str
    """Of the line."""
    check: str
    """One of CHECKS."""
    reason: str
    """In words, with what was got and what was wanted."""


def check_lines(
    lines: Sequence[Line],
    direction: Direction,
    terms: Terms,
    track: Callable[[Sequence[Line]], Iterable[Line]] = iter,
) -> dict[str, list[Flag]]:
    """Flags by line; lines without any, and those that a person rejected, are not there.

    Args:
        lines: all of one file.
        direction: which way they were translated.
        terms: the glossary.
        track: shows how far it is.
    """
    found: dict[str, list[Flag]] = defaultdict(list)
    present = [line for line in lines if line.status != "rejected"]
    for line in track(present):
        for check, reason in _reasons(line, direction, terms):
            found[line.id].append(Flag(line.id, check, reason))
    names = _names(present, terms) if direction == "en-zh" else ()
    for flag in (*names, *_duplicates(present), *_inconsistent(present)):
        found[flag.id].append(flag)
    return {line.id: found[line.id] for line in present if line.id in found}


def _reasons(line: Line, direction: Direction, terms: Terms) -> Iterator[tuple[str, str]]:
    if line.target is None or not line.target.strip():
        yield "empty", f"got no text{': ' if line.error else ''}{line.error}, wanted a translation"
        return
    pair = Pair(line.source, line.target, direction, terms)
    for name, check in PAIR_CHECKS.items():
        if reason := check(pair):
            yield name, reason


def _names(lines: Sequence[Line], terms: Terms) -> Iterator[Flag]:
    """English names that a translation has lost, as other lines with them show.

    A name stays as it is or becomes Chinese. Its Chinese is not known here: it is taken for what
    most lines with the name have in common, two characters that are rare elsewhere. Of a name of
    one line, or whose lines agree on nothing, nothing is said.
    """
    holders: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        for name in names_in(without_tokens(line.source), terms) if line.target else ():
            holders[name].append(line)
    common = {name: _common(name, found) for name, found in holders.items() if len(found) > 1}
    wanted = {pair for pairs in common.values() for pair in pairs}
    everywhere: Counter[str] = Counter()
    if wanted:
        for line in lines:
            everywhere.update(wanted & _two_characters(line.target or ""))
    for name, pairs in common.items():
        found = holders[name]
        others = max(len(lines) - len(found), 1)
        telling = (
            p for p, n in pairs.items() if n * others > RARE * (everywhere[p] - n) * len(found)
        )
        usual = next(telling, "")
        lost = [line for line in found if not _has_name(line, name, usual)]
        if 2 * len(lost) <= len(found):
            for line in lost:
                reason = f"got none of {name}, wanted it or its Chinese, as other lines have"
                yield Flag(line.id, "names", reason)


def _common(name: str, lines: Sequence[Line]) -> dict[str, int]:
    """Pairs of characters that half of the lines share which do not have the name itself."""
    without = [line for line in lines if not _has_name(line, name, "")]
    counts = Counter(pair for line in without for pair in _two_characters(line.target or ""))
    return {pair: n for pair, n in counts.most_common() if n > 1 and 2 * n >= len(without)}


def _has_name(line: Line, name: str, usual: str) -> bool:
    target = line.target or ""
    return any(word in target for word in name.split()) or bool(usual and usual in target)


def _two_characters(text: str) -> set[str]:
    return {a + b for a, b in pairwise(text) if min(a, b) >= "\u3400" and max(a, b) <= "\u9fff"}


def _duplicates(lines: Sequence[Line]) -> Iterator[Flag]:
    """One target of sources that have little in common."""
    first: dict[Any, Line] = {}
    for line in lines:
        if not (line.target or "").strip():
            continue
        other = first.setdefault(line.target, line)
        if other.source != line.source:
            ours, theirs = (normalise(without_tokens(one.source)) for one in (line, other))
            longer = max(ours, theirs, key=len)
            telling = len(longer.split()) >= WORDS or len(longer) >= CHARACTERS
            if telling and token_f1(ours, theirs) < UNLIKE:
                got = f"got the target of {other.id} ({other.source[:60]})"
                yield Flag(line.id, "duplicate", f"{got}, wanted another for another source")


def _inconsistent(lines: Sequence[Line]) -> Iterator[Flag]:
    """Targets of one source in one context that differ from most of its targets."""
    targets: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for line in lines:
        if line.target:
            targets[line.source, line.context][line.target] += 1
    several = {source: found for source, found in targets.items() if len(found) > 1}
    usual = {source: found.most_common(1)[0][0] for source, found in several.items()}
    for line in lines:
        if line.target and (line.source, line.context) in usual:
            wanted = usual[line.source, line.context]
            if normalise(line.target) != normalise(wanted):
                reason = f"got another target than usual for this source, wanted {wanted[:60]}"
                yield Flag(line.id, "inconsistent", reason)
