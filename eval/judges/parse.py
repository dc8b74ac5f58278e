"""From a judging model's words to a verdict, or to the reason why there is none.

Models wrap JSON in fences and sentences, write Python's literals, "4/5", "five" and 四分. All that
is read; what could be read in two ways is not: a guessed score is worse than a counted failure.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from eval.judges.base import BEST
from features.config import Aspect


@dataclass(frozen=True)
class Parsed:
    """What a reply says."""

    outcome: Literal["ok", "parse_failure", "refused"]
    correct: bool | None = None
    """`qa` alone."""
    score: float | None = None
    """In 0..5."""
    reason: str = ""
    """Why there is no score."""


def parse_reply(text: str | None, aspect: Aspect) -> Parsed:
    """Read a reply."""
    plain = unicodedata.normalize("NFKC", text or "").translate(_QUOTES).strip()
    try:
        values = _values(plain, qa=aspect == "qa")
        score = _score(values["score"])
        correct = _correct(values["pred"]) if aspect == "qa" else None
    except _UnreadableError as error:
        if "{" not in plain and _REFUSAL.match(plain):
            return Parsed("refused", reason="refused in words")
        return Parsed("parse_failure", reason=str(error))
    return Parsed("ok", correct, score)


class _UnreadableError(Exception):
    pass


def _values(text: str, qa: bool) -> dict[str, Any]:
    """What is said for `score`, and for `pred` where `qa`; all that is said must agree."""
    if not text:
        raise _UnreadableError("an empty reply")
    names = {"score", "pred"} if qa else {"score"}
    objects = [{k: v for k, v in found.items() if k in names} for found in _objects(text)]
    whole = [found for found in objects if set(found) == names]
    if not whole and text.rfind("{") > text.rfind("}"):
        raise _UnreadableError("the JSON is cut off")
    whole = whole or _labelled(text, names) or _bare(text, qa)
    if not whole:
        raise _UnreadableError(f"no {' and '.join(sorted(names))}")
    if any(found != whole[0] for found in whole):
        raise _UnreadableError("several verdicts that disagree")
    return whole[0]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object or Python dict in a text; not those that stand inside another's texts."""
    start = text.find("{")
    while start >= 0:
        found, length = _object(text[start:])
        yield from _with_inner(found)
        start = text.find("{", start + length)


def _object(text: str) -> tuple[Any, int]:
    """What the object at the beginning of a text is, and its length; (None, 1): there is none."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        # A backslash is no part of a verdict, and Python warns of unknown escapes.
        literal = text[: text.find("}") + 1].replace("\\", "/")
        literal = re.sub(r"\b(true|false|null)\b", _as_python, literal)
    try:
        return ast.literal_eval(literal), len(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None, 1


def _with_inner(found: Any) -> Iterator[dict[str, Any]]:
    """A dict with keys in lower case, then the dicts among its values."""
    if isinstance(found, dict):
        inner = [value for value in found.values() if isinstance(value, dict)]
        for one in [found, *inner]:
            yield {str(key).strip().lower(): value for key, value in one.items()}


def _labelled(text: str, names: set[str]) -> list[dict[str, Any]]:
    """Values behind `score:` and `pred:`, wherever they stand; each label must always agree."""
    found: dict[str, set[str]] = {}
    for label, value in _LABEL.findall(text):
        name = _LABELS.get(label.lower(), label.lower())
        found.setdefault(name, set()).add(value.strip().lower())
    if not names <= set(found):
        return []
    if any(len(found[name]) > 1 for name in names):
        raise _UnreadableError("several verdicts that disagree")
    return [{name: found[name].pop() for name in names}]


def _bare(text: str, qa: bool) -> list[dict[str, Any]]:
    """A reply that is nothing but the score, or the word and the score."""
    plain = text.strip("`*\"' \n")
    if not qa:
        return [{"score": plain}] if _NUMBER.fullmatch(plain.lower()) else []
    word, _, rest = re.sub(r"[\s,.;:。、]+", " ", plain, count=1).partition(" ")
    known = word.lower() in _YES | _NO and _NUMBER.fullmatch(rest.strip().lower())
    return [{"pred": word, "score": rest}] if known else []


def _score(value: Any) -> float:
    """A score in 0..5, of a number or of words for one."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip("`*\"' \n").lower())
        if found is None:
            raise _UnreadableError(f"not a score: {value[:40]!r}")
        value = _WORDS[found[1]] if found[1] in _WORDS else float(found[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnreadableError(f"not a score: {str(value)[:40]!r}")
    if not 0 <= value <= BEST:  # so NaN is none either
        raise _UnreadableError("a score outside 0..5")
    return float(value)


def _correct(value: Any) -> bool:
    """What `pred` says; only whole words count, so neither `1` nor `not yes` is a yes."""
    word = value.strip("`*\"'.!。, \n").lower() if isinstance(value, str) else value
    if word is True or (isinstance(word, str) and word in _YES):
        return True
    if word is False or (isinstance(word, str) and word in _NO):
        return False
    raise _UnreadableError(f"neither yes nor no: {str(value)[:40]!r}")


def _as_python(word: re.Match[str]) -> str:
    return {"true": "True", "false": "False", "null": "None"}[word[1]]


_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})
_YES = {"yes", "true", "correct", "right", "是", "是的", "对", "正确"}
_NO = {"no", "false", "incorrect", "wrong", "否", "不", "不是", "错", "不对", "错误", "不正确"}
_ENGLISH = ("zero", "one", "two", "three", "four", "five")
_WORDS = {word: number for number, word in enumerate(_ENGLISH)}
_WORDS |= {word: number for number, word in enumerate("零一二三四五")} | {"两": 2}
_NUMBER = re.compile(
    rf"([+-]?\d{{1,9}}(?:\.\d*)?|\.\d+|{'|'.join(_WORDS)})"
    r"\s*(?:points?|分)?\s*(?:(?:/|out of)\s*(?:5(?:\.0*)?|five)\s*分?)?\.?"
)
"""A number, a word for one, or either "out of 5"; of other scales none."""
_LABELS = {"评分": "score", "得分": "score", "分数": "score", "判断": "pred", "结论": "pred"}
_LABEL = re.compile(
    rf"(?:\b|(?<=[^\W\d_]))(pred|score|{'|'.join(_LABELS)})[\"'*`]*\s*[:=]\s*[\"'*`]*([^\n,;}}\"'*`]+)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"((i'?m|i am|we'?re|we are)\s)?\s*(very |really |so )?(sorry|afraid)\b|i apologi[sz]e\b"
    r"|(i|we) (can'?t|can ?not|couldn'?t|could not|won'?t|will not|must decline)\b"
    r"|(i'?m|i am) (unable|not able)\b|as an? (ai|language)\b"
    r"|(很|非常)?(对不起|抱歉)|我?(无法|不能)",
    re.IGNORECASE,
)
