"""Lines as hard as they come, and a translator that costs nothing and loses nothing.

`hard_lines` are 2,000 questions and answers with placeholders, digits, quotes, code and emoji.
`pseudo` is what a faultless translator to Chinese would do with them: words become Chinese
characters, one to one, and everything that must stay stays.
"""

from __future__ import annotations

import random
import re

SENTENCE = """a man jumps over the red ball while two dogs sleep near an old house and children
watch from the window before it starts to rain on their quiet street"""
CHARACTERS = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生"
KEPT = (
    "<video>",
    "<image>",
    "{name}",
    "{0}",
    "{{literal}}",
    "%s",
    "%(count)d",
    "${HOME}",
    "`x = y[1:]`",
    "```\nfor i in range(3):\n    print(i)\n```",
    "https://example.org/a?b=1&c=%20#d",
    "www.example.org/page",
    "me@example.org",
    "🐱",
    "👩‍👩‍👧",
    "👍🏽",
    "🇨🇳",
    "❤️",
)
"""Tokens that no translation may change."""
PLAIN = (
    "3",
    "12,345.67",
    "50%",
    "1984",
    '"red"',
    "'blue'",
    "«tall»",
    "R2-D2",
    "<b>",
    "&amp;",
    "⟦7⟧",
)
"""What a translator sees and usually keeps: digits, quotes, and what looks like markup or marks."""
_STAYS = re.compile(
    "|".join(re.escape(token) for token in sorted((*KEPT, *PLAIN), key=len, reverse=True))
    + r"|</?x\b[^>]*>|⟦\d+⟧|\[\d+\]"
)


def hard_lines(count: int = 2000, seed: int = 0) -> list[str]:
    """As many different texts, each with one to four tokens that must be kept."""
    chance = random.Random(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        parts = chance.choices(SENTENCE.split(), k=chance.randint(4, 14))
        for token in chance.choices((*KEPT, *PLAIN), k=chance.randint(1, 4)):
            parts.insert(chance.randint(0, len(parts)), token)
        glue = chance.choice((" ", " ", " ", "  "))
        lines[glue.join(parts) + chance.choice(("?", ".", "", "!"))] = None
    return list(lines)


def pseudo(text: str) -> str:
    """The text with every word as Chinese characters; tokens, marks and digits stay."""
    done, at = [], 0
    for found in _STAYS.finditer(text):
        done += [_words(text[at : found.start()]), found.group()]
        at = found.end()
    return "".join([*done, _words(text[at:])])


def _words(text: str) -> str:
    """Each word as two characters that depend on it alone; blanks between words go."""
    chinese = re.sub(r"[A-Za-z]+", lambda found: _word(found.group()), text)
    chinese = re.sub(r"(?<=[一-龥]) +(?=[一-龥])", "", chinese)
    return chinese.translate(str.maketrans("?!.", "\uff1f\uff01。"))


def _word(word: str) -> str:
    chance = random.Random(word)
    return "".join(chance.choices(CHARACTERS, k=2))
