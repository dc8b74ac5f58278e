"""How much an answer and its reference have in common, word by word: no judge, no cost."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
CHINESE = "\u3400-\u9fff"
"""Of a class of characters in a regular expression."""
TOKENS = re.compile(rf"[{CHINESE}]|[^\s{CHINESE}]+")
"""Words; each Chinese character is a token of its own, since nothing separates them."""
_BLANKS = re.compile(rf"(?<=[{CHINESE}])\s+|\s+(?=[{CHINESE}])")
_DIGITS = {"零": 0, "两": 2} | {digit: n for n, digit in enumerate("一二三四五六七八九", start=1)}
_DIGIT = "[一二两三四五六七八九]"
_BELOW_1000 = re.compile(
    rf"(?:({_DIGIT})百(?:零(?={_DIGIT}$)|(?={_DIGIT}?十|$)))?(?:({_DIGIT})?(十))?({_DIGIT})?|零"
)
_MEASURES = "个只条张把辆位名头匹棵朵本件双块片杯瓶台架艘颗根种层座次岁人"
"""Not 分: 十分 is far oftener "very" than "ten minutes"."""
_COUNTS = re.compile(rf"[{''.join(_DIGITS)}十百]+(?=[{_MEASURES}])")


def normalise(text: str) -> str:
    """NFKC, lower case, without punctuation and articles, single blanks.

    An answer that is nothing but an article ("A", as an option) or punctuation stays as it is.
    Chinese goes without blanks, and its numerals below a thousand become digits where they are the
    whole answer or stand before a measure word; inside other words (三明治) they mean no number.
    """
    lowered = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    plain = lowered.translate(_WITHOUT_PUNCTUATION)
    without_articles = " ".join(_ARTICLES.sub(" ", plain).split())
    joined = _BLANKS.sub("", without_articles)
    return _digits(_COUNTS.sub(lambda found: _digits(found[0]), joined)) or plain.strip() or lowered


class _WithoutPunctuation(dict[int, int | None]):
    """For str.translate; a character is looked up in Unicode's tables once."""

    def __missing__(self, code: int) -> int | None:
        punctuation = unicodedata.category(chr(code)).startswith("P")
        return self.setdefault(code, None if punctuation else code)


_WITHOUT_PUNCTUATION = _WithoutPunctuation()


def token_f1(pred: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the tokens, counted with multiplicity, in 0..1."""
    return f1(TOKENS.findall(pred), TOKENS.findall(answer))


def f1(pred: Sequence[str], answer: Sequence[str]) -> float:
    """The same of tokens that somebody else cut."""
    ours, theirs = Counter(pred), Counter(answer)
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def _digits(numeral: str) -> str:
    """十二 as 12; what is no numeral of the standard form (一百二 is 120 in speech) as it is."""
    found = _BELOW_1000.fullmatch(numeral)
    if not found or not numeral:
        return numeral
    hundreds, tens, ten, units = found.groups()
    number = 100 * _DIGITS.get(hundreds, 0) + _DIGITS.get(units, 0)
    return str(number + (10 * _DIGITS.get(tens, 1) if ten else 0))
