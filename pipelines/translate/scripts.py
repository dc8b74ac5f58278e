"""Simplified and traditional characters in one text."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from eval.words import converter


def mixed_scripts(text: str) -> tuple[str, str]:
    """The characters of a text that are only simplified, and those that are only traditional."""
    kinds = [(character, _script(character)) for character in text if character >= "\u3400"]
    simplified = "".join(character for character, kind in kinds if kind == "simplified")
    return simplified, "".join(character for character, kind in kinds if kind == "traditional")


@lru_cache(maxsize=30_000)
def _script(character: str) -> Literal["simplified", "traditional", "both"]:
    """Which standard a character belongs to alone.

    OpenCC says what the other standard makes of it. Many characters are good in both (后 is a queen
    in both and 後 in one of them), so the character sets of the time when every system wrote one
    standard only have a word: Big5 has the traditional characters, GB 2312 the simplified ones.
    """
    if converter("s2t")(character) != character and not _in(character, "big5"):
        return "simplified"
    if converter("t2s")(character) != character and not _in(character, "gb2312"):
        return "traditional"
    return "both"


def _in(character: str, encoding: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False
