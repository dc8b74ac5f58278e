"""The demo world's language: words, question templates and vocabulary, one entry a language.

The simulation (`pipelines.world`) speaks in concepts such as `"top-left"` or `"changes"`; only this
file turns them into sentences, so that a new language is a new entry here and nothing else. A
sentence is lower-case words with one blank between them: the mini tokenizer is word-level.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """The words of one language."""

    words: dict[str, str]
    """Phrase of every concept that a question or an answer may name."""
    questions: dict[str, str]
    """Template of every kind of question; `{slot}` is replaced by a concept's phrase."""


_ENGLISH = Language(
    words={
        **{c: c for c in ("red", "green", "blue", "yellow", "purple", "white")},
        **{s: s for s in ("circle", "square", "triangle", "cross")},
        **{p: p for p in ("top-left", "top-right", "bottom-left", "bottom-right")},
        **{b: b for b in ("small", "big", "yes", "no", "nothing", "then", ".")},
        **{e: e for e in ("moves", "appears", "vanishes", "grows", "shrinks")},
        "changes": "changes colour",
    },
    questions={
        "first": "what does the {shape} do first",
        "last": "what does the {shape} do last",
        "after": "what happens after it {event}",
        "before": "what happens before it {event}",
        "cell before": "where is the {shape} before it moves",
        "cell after": "where is the {shape} after it moves",
        "colour before": "what colour is the {shape} before it changes colour",
        "colour after": "what colour is the {shape} after it changes colour",
        "colour": "what colour is the {shape}",
        "cell": "where is the {shape}",
        "shape": "what shape is at the {cell}",
        "caption": "what is there",
        "exists": "is there a {colour} {shape}",
    },
)
LANGUAGES = {"en": _ENGLISH}


def question(kind: str, slots: dict[str, str], language: str = "en") -> str:
    """Renders a question of one kind, each slot given as a concept."""
    tongue = LANGUAGES[language]
    return tongue.questions[kind].format(**{k: tongue.words[v] for k, v in slots.items()})


def phrase(concept: str, language: str = "en") -> str:
    """Returns the words for a concept."""
    return LANGUAGES[language].words[concept]


def vocabulary(language: str = "en") -> list[str]:
    """Returns every word of the language, sorted, each once."""
    tongue = LANGUAGES[language]
    texts = [*tongue.words.values(), *tongue.questions.values()]
    return sorted({word for text in texts for word in text.split() if not word.startswith("{")})
