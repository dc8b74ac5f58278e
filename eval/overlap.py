"""How much an answer and its reference have in common, word by word: no judge, no cost."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_TOKENS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
"""Words; each Chinese character is a token of its own, since nothing separates them."""


def normalise(text: str) -> str:
    """NFKC, lower case, without punctuation and articles, single blanks.

    An answer that is nothing but an article ("A", as an option) or punctuation stays as it is.
    """
    lowered = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    plain = lowered.translate(_WITHOUT_PUNCTUATION)
    without_articles = " ".join(_ARTICLES.sub(" ", plain).split())
    return without_articles or plain.strip() or lowered


class _WithoutPunctuation(dict[int, int | None]):
    """For str.translate; a character is looked up in Unicode's tables once."""

    def __missing__(self, code: int) -> int | None:
        punctuation = unicodedata.category(chr(code)).startswith("P")
        return self.setdefault(code, None if punctuation else code)


_WITHOUT_PUNCTUATION = _WithoutPunctuation()


def token_f1(pred: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the tokens, counted with multiplicity, in 0..1."""
    ours, theirs = Counter(_TOKENS.findall(pred)), Counter(_TOKENS.findall(answer))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0
