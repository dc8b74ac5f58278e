"""Reads the demo world's questions and answers back into what they mean, in either language."""

from __future__ import annotations

import re

from pipelines import world, world_text, world_zh
from pipelines.world_text import Language

ENGLISH = world_text.LANGUAGES["en"]
Meaning = tuple[str, dict[str, str], tuple[str, ...]]  # kind, slots and answer as concepts


class Parser:
    """Reads a question and its answer back into concepts, knowing nothing but one language."""

    def __init__(self, tongue: Language, blank: str) -> None:
        self.concepts = {word: concept for concept, word in tongue.words.items()}
        assert len(self.concepts) == len(tongue.words), "one form each"
        longest_first = sorted(self.concepts, key=len, reverse=True)
        self.any_word = "|".join(map(re.escape, longest_first))
        self.kinds = {
            kind: re.sub(r"\{(\w+)\}", rf"(?P<\1>{self.any_word})", template.replace(" ", blank))
            for kind, template in tongue.questions.items()
        }

    def __call__(self, ask: world.QA) -> Meaning:
        found = {kind: re.fullmatch(form, ask.question) for kind, form in self.kinds.items()}
        (match,) = [(kind, m) for kind, m in found.items() if m]
        slots = {slot: self.concepts[word] for slot, word in match[1].groupdict().items()}
        said = re.findall(self.any_word, ask.answer)
        assert "".join(said) == ask.answer.replace(" ", "") or ask.answer in self.concepts
        concepts = [ask.answer] if ask.answer in self.concepts else said
        return match[0], slots, tuple(self.concepts[word] for word in concepts)


in_english, in_chinese = Parser(ENGLISH, " "), Parser(world_zh.CHINESE, "")
