"""What is suspicious about one text and its translation: each check gives a reason, or nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from eval.overlap import CHINESE, TOKENS
from features.translation import Direction
from pipelines.translate.numbers import numbers
from pipelines.translate.protect import kept_tokens, without_tokens
from pipelines.translate.scripts import mixed_scripts
from pipelines.translate.terms import Terms

SHORTEST, LONGEST = (0.18, -4.0), (0.75, 5.0)
"""Slope and allowance of how many Chinese characters an English text of n characters takes.

From 23,149 pairs of Debian's message catalogues (English and zh_CN, without placeholders): the
median is 0.32 from 40 characters on, and 0.4 % lie outside. Prose varies less than these.
"""
LEFT = 0.1
"""Share of the source's words that may stand untranslated in Chinese."""
LOOP, PHRASE = 3, 4
"""How often so many words in a row may come back, beyond what they do in the source."""

_KNOWN_UNITS = "km cm mm nm kg mg ml kb mb gb tb hz khz mhz ghz px fps mph kph vs am pm"
_UNITS = frozenset(_KNOWN_UNITS.split())
_ALWAYS_TRANSLATED = """TV OK Mr Mrs Ms Dr Monday Tuesday Wednesday Thursday Friday Saturday Sunday
January February March April May June July August September October November December English
Chinese American British French German Spanish Italian Japanese Korean Indian Russian African Asian
European Christmas Halloween"""
_NO_NAMES = frozenset(_ALWAYS_TRANSLATED.split())
_CITED = re.compile(
    "\"[^\"]{1,40}\"|“[^”]{1,40}”|«[^»]{1,40}»|「[^」]{1,40}」|(?<!\\w)'[^']{1,40}'(?!\\w)"
)
_LOWER = re.compile(r"(?<![A-Za-z])[a-z]{2,}(?![A-Za-z])")
_INSIDE = re.compile(r"(?<=[a-z0-9,;] )[A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)*")
_WORD = re.compile(r"[A-Za-z]{2,}")
_NUMERAL = re.compile("[IVX]+")
_LATIN = re.compile(r"[A-Z][A-Za-z]+")
_HAN = re.compile(f"[{CHINESE}]+")
_FOREIGN = re.compile("[\u3040-\u30ff\u0400-\u04ff\uac00-\ud7af]+")
"""Kana, Cyrillic, Hangul."""
_CHATTER = re.compile(
    "^(?:好的|当然)[\uff0c,。!\uff01:\uff1a]|(?:以下是|这是).{0,12}(?:翻译|译文)|翻译(?:如下|结果)?[:\uff1a]"
    "|(?i:^(?:sure|certainly|of course)[,!:.]|here(?: i|')s (?:the|your|a) .{0,20}translation)"
)
_CLOSING = {"(": ")", "[": "]", "{": "}", "“": "”", "«": "»", "【": "】", "「": "」"}
_CLOSING |= {"『": "』", "《": "》", "\uff08": ")"}
_SAME = {"\uff09": ")"}


@dataclass(frozen=True)
class Pair:
    """A source and its translation, and what several checks need of them."""

    source: str
    target: str
    direction: Direction
    terms: Terms

    @cached_property
    def words(self) -> tuple[str, str]:
        """Source and target without what no translator may touch."""
        return without_tokens(self.source), without_tokens(self.target)


def length(pair: Pair) -> str:
    """Far longer or shorter than translations are."""
    source, target = (len(text.strip()) for text in pair.words)
    english, chinese = (source, target) if pair.direction == "en-zh" else (target, source)
    low, high = (slope * english + more for slope, more in (SHORTEST, LONGEST))
    if low <= chinese <= high:
        return ""
    if pair.direction == "zh-en":
        (steep, less), (flat, more) = LONGEST, SHORTEST
        low, high = (chinese - less) / steep, (chinese - more) / flat
    return f"got {target:,} characters for {source:,}, wanted {max(low, 1):,.0f} to {high:,.0f}"


def untranslated(pair: Pair) -> str:
    """English words of the source in Chinese (names and citations may stay); Chinese in English."""
    foreign = _FOREIGN.findall(pair.words[1])
    if foreign and not _FOREIGN.search(pair.words[0]):
        return f"got {_some(foreign)}, of another language"
    if pair.direction == "zh-en":
        left = _HAN.findall(pair.words[1])
        return f"got {_some(left)}, wanted English" if left else ""
    latin = [word for word in _WORD.findall(pair.words[1]) if word.casefold() not in _UNITS]
    if latin and not _HAN.search(pair.words[1]):
        return f"got {_some(latin)} and no Chinese at all, wanted Chinese"
    source = set(_LOWER.findall(pair.words[0])) - _UNITS
    target = _LOWER.findall(_CITED.sub(" ", pair.words[1]))
    left = [word for word in target if word in source]
    enough = left and len(left) >= LEFT * len(source)
    return f"got {_some(left)}, wanted Chinese" if enough else ""


def changed_numbers(pair: Pair) -> str:
    """Numbers lost, or others come in."""
    source, target = pair.direction.split("-")
    said, may_say = numbers(pair.words[0], source)
    says, may_be = numbers(pair.words[1], target)
    lost, new = said - may_be, says - may_say
    if not lost and not new:
        return ""
    gone = [value for value in lost if value not in may_be]
    rarer = [value for value in lost if value in may_be]
    what = f"lost {_values(gone)}; " if gone else ""
    what += f"{_values(rarer)} not as often; " if rarer else ""
    return f"{what}got {_values(says)}, wanted {_values(said)}"


def names_in(text: str, terms: Terms) -> set[str]:
    """Capitalised words inside an English sentence, those together as one; in titles all are."""
    words = _WORD.findall(text)
    if 2 * sum(word[0].isupper() for word in words) > len(words) > 1:
        return set()
    runs = (
        [word for word in run.split() if word not in _NO_NAMES and not _NUMERAL.fullmatch(word)]
        for run in _INSIDE.findall(text)
    )
    found = {" ".join(run) for run in runs if run}
    return {name for name in found if name.casefold() not in terms.words}


def lost_names(pair: Pair) -> str:
    """Latin names in Chinese that are gone; those in English need the whole file (checks.py)."""
    if pair.direction == "en-zh":
        return ""
    found = _LATIN.findall(pair.words[0])
    lost = [name for name in found if name not in pair.target and name not in _NO_NAMES]
    lost = [name for name in lost if name.casefold() not in pair.terms.words]
    return f"got none of {_some(lost)}, wanted it, or a term of the glossary" if lost else ""


def changed_tokens(pair: Pair) -> str:
    """Placeholders, tags, slots, addresses, code and emoji that are lost, doubled or new."""
    source, target = (Counter(kept_tokens(text)) for text in (pair.source, pair.target))
    if source == target:
        return ""
    kinds = {"lost": source - target, "too often": target - source}
    what = "; ".join(f"{kind}: {_some(bag.elements())}" for kind, bag in kinds.items() if bag)
    return f"{what}; got {_some(target.elements())}, wanted {_some(source.elements())}"


def unused_terms(pair: Pair) -> str:
    """Terms of the glossary that are translated otherwise."""
    unused = [f"{term}: {wanted}" for term, wanted in pair.terms.unused(pair.source, pair.target)]
    return f"got other words, wanted {_some(unused)}" if unused else ""


def unbalanced(pair: Pair) -> str:
    """Quotes and brackets that do not close, where those of the source do."""
    odd = _odd_one(pair.words[1])
    return f"got {odd} alone, wanted pairs" if odd and not _odd_one(pair.words[0]) else ""


def scripts(pair: Pair) -> str:
    """Simplified and traditional characters in one text."""
    if pair.direction == "zh-en":
        return ""
    simplified, traditional = mixed_scripts(pair.target)
    if not simplified or not traditional:
        return ""
    return f"got simplified {_some(simplified)} and traditional {_some(traditional)}, wanted one"


def loops(pair: Pair) -> str:
    """A phrase that comes back and back: models fall into loops."""
    phrase, times = _most_common(pair.target)
    if times <= LOOP or times <= (usual := _most_common(pair.source)[1]) + LOOP:
        return ""
    return f"got {phrase!r} {times} times, wanted it {usual} times at most"


def chatter(pair: Pair) -> str:
    """What a model says about its translation."""
    found = _CHATTER.search(pair.target.strip())
    if found is None or "translat" in pair.source.lower() or _CHATTER.search(pair.source.strip()):
        return ""
    return f"got {found[0]!r}, wanted the translation alone"


def line_breaks(pair: Pair) -> str:
    """Line breaks lost, or others come in."""
    source, target = (text.strip().count("\n") for text in (pair.source, pair.target))
    return f"got {target:,} line breaks, wanted {source:,}" if source != target else ""


PAIR_CHECKS: dict[str, Callable[[Pair], str]] = {
    "length": length,
    "untranslated": untranslated,
    "numbers": changed_numbers,
    "names": lost_names,
    "tokens": changed_tokens,
    "glossary": unused_terms,
    "brackets": unbalanced,
    "scripts": scripts,
    "loop": loops,
    "chatter": chatter,
    "lines": line_breaks,
}


def _odd_one(text: str) -> str:
    """The first bracket or quote without its other half; full and half width are one kind."""
    waiting: list[str] = []
    closing = {*_CLOSING.values()}
    for mark in text:
        if mark == '"' and '"' in waiting:
            mark, other = '"', waiting.pop()
            if other != mark:
                return other
        elif mark == '"' or mark in _CLOSING:
            waiting.append(mark)
        elif (closed := _SAME.get(mark, mark)) in closing and (
            not waiting or _CLOSING.get(waiting.pop()) != closed
        ):
            return mark
    return waiting[-1] if waiting else ""


def _most_common(text: str) -> tuple[str, int]:
    """The phrase of PHRASE words (Chinese: characters) that comes most often, and how often."""
    words = TOKENS.findall(text)
    if len(words) <= PHRASE + LOOP:
        return "", 0
    phrases = Counter(zip(*(words[start:] for start in range(PHRASE)), strict=False))
    phrase, times = phrases.most_common(1)[0]
    return " ".join(phrase) if phrase[0].isascii() else "".join(phrase), times


def _values(found: Iterable[float]) -> str:
    return _some(f"{value:.15g}" for value in found)


def _some(texts: Iterable[str]) -> str:
    """The first few, for a reason."""
    few: Iterator[str] = islice(dict.fromkeys(texts), 6)
    return " ".join(few) or "none"
