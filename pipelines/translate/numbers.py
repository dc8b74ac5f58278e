"""Numbers in English and Chinese texts, compared by value: `two`, 2 and 二; `a dozen`, 12 and 十二.

Whether a word is a number is often a matter of opinion (`one of them`, 一起, 三明治). So a text has
two readings: the numbers that it surely says, and all that it may be taken to say. A number is lost
when the source surely says it and the translation cannot be taken to.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from eval.overlap import normalise

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_TEENS = "fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
_MONTHS = """january february march april may june july august september october november
december"""
_WORDS = {word: float(n) for n, word in enumerate(f"{_ONES} {_TEENS}".split())}
_WORDS |= {word: 10.0 * n for n, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_MAYBE = {word: float(n) for n, word in enumerate(_ORDINALS.split(), start=1)}
_MAYBE |= {word: float(n) for n, word in enumerate(_MONTHS.split(), start=1)}
_MAYBE |= dict.fromkeys(("once", "single"), 1.0) | {"triple": 3.0, "dozen": 12.0}
_MAYBE |= dict.fromkeys(("twice", "both", "pair", "couple", "double"), 2.0)
_MAYBE |= {"duo": 2.0, "each": 2.0, "trio": 3.0, "quartet": 4.0, "quintet": 5.0}
_PARTLY = {"half": (0.5, 2.0, 6.0, 30.0), "quarter": (0.25, 4.0, 15.0)}
"""Of a dozen and of an hour, too."""
_ROMAN = {"II": 2.0, "III": 3.0, "IV": 4.0, "VI": 6.0, "VII": 7.0, "VIII": 8.0, "IX": 9.0}
_CHINESE = "零〇一二两三四五六七八九十百千万亿"
_DIGITS = r"\d+(?:,\d{3})*(?:\.\d+)?"
_ENGLISH = rf"(?:{_DIGITS}|\b(?:{'|'.join((*_WORDS, *_SCALES))})\b)"
_TOKEN = re.compile(_ENGLISH)
_RUN = re.compile(rf"{_ENGLISH}(?:(?:[ -]|(?<=hundred) and |(?<=thousand) and ){_ENGLISH})*")
_LETTERS = re.compile(r"[a-z]+")
_NUMERAL = re.compile(rf"(?:{_DIGITS}[百千万亿]+)*{_DIGITS}[百千万亿]*|[{_CHINESE}]+")
_PARTS = re.compile(r"([^千万亿]*)([千万亿]?)")
_PAIRS = {"俩": 2.0, "双": 2.0, "对": 2.0, "仨": 3.0}

_THOUSANDS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)k\b")
_OFF = re.compile(r"(\d{1,2})% off\b")
_FRACTION = re.compile(r"(?<![\d/.])([1-9])/([2-9])(?![\d/])")
_DECADE = re.compile(r"(?<!\d)(\d\d)([1-9]0)'?s\b")
_ERA = re.compile(r"(?:(\d\d|[一二]?十[一二三四五六七八九]?)世纪)?(\d0|[二三四五六七八九]十)年代")

Numbers = Counter[float]


def numbers(text: str, language: str) -> tuple[Numbers, Numbers]:
    """What a text surely says, and all that it may be taken to say.

    Numbers in digits count as often as they stand there, in words once: a translation may well say
    `both` the second time.
    """
    plain = unicodedata.normalize("NFKC", text)
    loose, plain = _loose(plain)
    found = list(_chinese(plain) if language == "zh" else _english(plain.lower()))
    found += [(value, "maybe") for value in loose]
    sure = Counter(value for value, kind in found if kind == "digits")
    for value, kind in found:
        if kind == "words" and value not in sure:
            sure[value] = 1
    return sure, Counter(value for value, _ in found)


def _loose(text: str) -> tuple[list[float], str]:
    """Readings of what the other language says otherwise (10k, 1/2, 50% off), and the rest."""
    values: list[float] = []
    for thousands in _THOUSANDS.findall(text):
        values += [float(thousands), 1000 * float(thousands)]
    for off in map(int, _OFF.findall(text)):
        values += [off, 100 - off, (100 - off) / 10]
    for over, under in _FRACTION.findall(text):
        values += [float(over), float(under), float(over) / float(under)]
    for century, decade in _DECADE.findall(text):
        values += [float(century) + 1, float(decade)]
    for century, decade in _ERA.findall(text):
        years = 100 * ((_value(century) or 20) - 1) if century else 1900
        values.append(years + (_value(decade) or 0))
    values += [value for word, value in _ROMAN.items() if re.search(rf"\b{word}\b", text)]
    lower = text.lower()
    values += [value for word, few in _PARTLY.items() if word in lower for value in few]
    for pattern in (_THOUSANDS, _OFF, _FRACTION):
        text = pattern.sub(" ", text)
    return [float(value) for value in values], text


def _english(text: str) -> Iterator[tuple[float, str]]:
    """Values, and whether they stand in `digits`, in `words`, or may be none (`maybe`)."""
    for run in _RUN.findall(text):
        yield from _spelt(_TOKEN.findall(run))
    yield from ((_MAYBE[word], "maybe") for word in _LETTERS.findall(text) if word in _MAYBE)


def _spelt(tokens: list[str]) -> Iterator[tuple[float, str]]:
    """Adjacent numerals: `two thousand three hundred`, `2 million`; `2 3` are two numbers."""
    total, part, kind = 0.0, 0.0, ""
    for token in tokens:
        scale = _SCALES.get(token)
        if scale == 100:
            part = (part or 1.0) * 100
        elif scale:
            total, part = total + (part or 1.0) * scale, 0.0
        else:
            digits = token[0].isdigit()
            value = float(token.replace(",", "") if digits else _WORDS[token])
            after_tens = part % 10 == 0 and 20 <= part % 100 <= 90 and value < 10
            after_scale = part % 100 == 0 and total + part > 0 and value < 100
            if kind and (digits or kind == "digits" or not (after_tens or after_scale)):
                yield total + part, _sure(total + part, kind)
                total, part, kind = 0.0, 0.0, ""
            part += value
            kind = kind or ("digits" if digits else "words")
        kind = kind or "words"
    yield total + part, _sure(total + part, kind)


def _sure(value: float, kind: str) -> str:
    """The word `one` is hardly ever a number."""
    return "maybe" if kind == "words" and value == 1 else kind


def _chinese(text: str) -> Iterator[tuple[float, str]]:
    for found in _NUMERAL.finditer(text):
        value = _value(found[0])
        if value is None:
            continue
        if any(character.isdigit() and character.isascii() for character in found[0]):
            yield value, "digits"
        else:
            counted = _is_measure(text[found.end() : found.end() + 1])
            yield value, _sure(value, "words") if counted else "maybe"
    yield from ((_PAIRS[character], "maybe") for character in text if character in _PAIRS)


@lru_cache(maxsize=10_000)
def _is_measure(character: str) -> bool:
    """Whether a numeral before it is surely one, as answers are compared."""
    return normalise(f"二{character}") == f"2{character}" != "2"


@lru_cache(maxsize=10_000)
def _value(numeral: str) -> float | None:
    """3万, 三千五百 and 二〇〇三; None where it is no number."""
    total = 0.0
    for part, scale in _PARTS.findall(numeral):
        if not part and not scale:
            continue
        value = _below_1000(part) if part else 1.0
        if value is None:
            return None
        if scale == "千":
            total += value * 1_000
        elif scale:
            total = (total + value) * (10_000 if scale == "万" else 100_000_000)
        else:
            total += value
    return total


def _below_1000(text: str) -> float | None:
    if text[0].isdigit():
        digits = text.rstrip("百")
        plain = digits.replace(",", "")
        hundreds = 100.0 ** (len(text) - len(digits))
        return float(plain) * hundreds if re.fullmatch(r"\d+(\.\d+)?", plain) else None
    plain = text.replace("\u3007", "零")
    spelt = normalise(plain)
    digits = spelt if spelt.isdecimal() else "".join(normalise(digit) for digit in plain)
    return float(digits) if digits.isdecimal() else None
