"""What no translation may change, as marks that an engine keeps, and put back afterwards.

Kept are placeholders, `<video>` and other tags, entities, code in backticks, addresses and emoji,
and all that looks like a mark itself, so that no text can be taken for one.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal
from xml.sax.saxutils import escape, unescape

Style = Literal["xml", "brackets"]
"""xml: `<x id="1">{name}</x>` in escaped text, for an engine that is told to ignore x; brackets:
`[1]`, which language models copy."""

_MARK = r"[\[\uff3b\u3010\u3014\u27e6]\s*\d+\s*[\]\uff3d\u3011\u3015\u27e7]"
"""A mark in brackets, also as models write it in Chinese."""
_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff"
    "\U0001f000-\U0001faff]"
)
_CHINESE = "\u3000-\u303f\u3400-\u9fff\uff00-\uffef"
_KEPT = re.compile(
    "|".join(
        (
            r"(?s:```.*?```)",
            r"`[^`\n]+`",
            # Chinese may stand right beside an address
            rf"(?:https?://|www\.)[^\s<>\"'{_CHINESE}]*(?a:[\w/#=&%])",
            r"(?a:(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)",
            # a tag; what only compares, as in `x<y and z>w`, is none
            r"</?[A-Za-z](?a:[\w:./-])*>",
            r"</?[A-Za-z](?=[^<>\n]*=)[^<>\n]*>",
            r"(?<!\w)</?[A-Za-z][^<>\n]*>",
            r"&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);",
            r"\$?\{+[^{}\n]*\}+",
            r"%(?:\(\w+\))?[-+#0]*\d*(?:\.\d+)?[sdifgxr](?![A-Za-z])",
            _MARK,
            r"[#*0-9]\ufe0f?\u20e3",
            rf"{_PICTURE}(?:{_PICTURE}|[\ufe0f\u200d\U000e0020-\U000e007f])*",
        )
    )
)
_STAYS: dict[Style, re.Pattern[str]] = {
    # DeepL takes line breaks for blanks where there is XML
    "xml": re.compile(rf"{_KEPT.pattern}|(?<![ \t])[ \t]*[\r\n]\s*"),
    "brackets": _KEPT,
}
_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What no XML may hold, escaped or not."""
_FOUND: dict[Style, re.Pattern[str]] = {
    "xml": re.compile(r'(?s)<x id="(\d+)"\s*(?:/>|>.*?</x>)'),
    "brackets": re.compile(_MARK.replace(r"\d+", r"(\d+)")),
}


def kept_tokens(text: str) -> list[str]:
    """What must stay, in the order of the text."""
    return [found.group() for found in _KEPT.finditer(text)]


def without_tokens(text: str) -> str:
    """The text without what must stay."""
    return _KEPT.sub(" ", text)


def has_words(text: str) -> bool:
    """Whether there is a letter outside of what must stay; a text without one translates itself."""
    return any(character.isalpha() for character in without_tokens(text))


def sendable(text: str) -> str:
    """A text as any engine can take it: no control characters, no half surrogates."""
    return _UNSENDABLE.sub(" ", text.encode(errors="replace").decode())


def mark(text: str, style: Style) -> str:
    """The text as an engine is to see it."""
    parts, at = [], 0
    text = sendable(text)
    for number, found in enumerate(_STAYS[style].finditer(text), start=1):
        parts += [_outside(text[at : found.start()], style), _mark(number, found.group(), style)]
        at = found.end()
    return "".join([*parts, _outside(text[at:], style)])


def unmark(source: str, raw: str, style: Style) -> tuple[str, list[str]]:
    """What an engine made of `mark(source, style)`, with everything back in its place.

    Returns:
        The text, and what of the source it holds less or more often than once a mark; a mark that
        was never given stays as it came and is listed as well.
    """
    # found in what was sent, taken from the source: the two are as long
    found_there = _STAYS[style].finditer(sendable(source))
    tokens = [source[found.start() : found.end()] for found in found_there]
    parts, at, seen = [], 0, Counter[int]()
    strange = []
    for found in _FOUND[style].finditer(raw):
        number = int(found[1])
        known = 1 <= number <= len(tokens)
        seen[number] += known
        if not known:
            strange.append(found.group())
        token = tokens[number - 1] if known else found.group()
        parts += [_inside(raw[at : found.start()], style), token]
        at = found.end()
    wrong = [token for number, token in enumerate(tokens, start=1) if seen[number] != 1]
    return "".join([*parts, _inside(raw[at:], style)]), wrong + strange


def _mark(number: int, token: str, style: Style) -> str:
    return f'<x id="{number}">{escape(token)}</x>' if style == "xml" else f"[{number}]"


def _outside(text: str, style: Style) -> str:
    return escape(text) if style == "xml" else text


def _inside(text: str, style: Style) -> str:
    return unescape(text, {"&quot;": '"', "&apos;": "'"}) if style == "xml" else text
