"""The judge that needs no model: exact, repeatable, free. It is not GPT and never called so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eval.judges.base import BEST, Cost, JudgeItem, JudgeRecord, Verdict
from eval.overlap import f1, normalise, token_f1


class OfflineJudge:
    """Normalised exact match decides what is right; the score is 5 times the token F1.

    Of a pair of answers (`consistency`) the mean of both counts. Tokens are words, of Chinese
    characters. Particles (的, 了) and measure words count: the usual scripts for Chinese reading
    comprehension drop punctuation alone, and 吃了 is not 吃.
    """

    def __init__(
        self, language: Literal["en", "zh"] = "en", words: bool = False, simplified: bool = False
    ) -> None:
        """With `words` Chinese tokens are words, with `simplified` both scripts are one.

        Raises:
            ConfigError: a package for that is not installed.
        """
        name = "offline-em-f1-2"
        self._words, self._simplified = words, simplified
        if words or simplified:
            from eval.words import package_name

            name += f"-words-{package_name('jieba')}" if words else ""
            name += f"-t2s-{package_name('opencc')}" if simplified else ""
        self.record = JudgeRecord("offline", name, language=language)

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Judge all."""
        return [self._judge(item) for item in items]

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """Nothing."""
        return Cost()

    def _judge(self, item: JudgeItem) -> Verdict:
        answer = self._read(item.answer)
        preds = [self._read(pred) for pred in (item.pred, item.pred2) if pred is not None]
        score = BEST * sum(self._f1(pred, answer) for pred in preds) / len(preds)
        correct = normalise(preds[0]) == normalise(answer) if item.aspect == "qa" else None
        return Verdict(item.sample_id, item.aspect, "ok", correct, score)

    def _read(self, text: str) -> str:
        if not self._simplified:
            return text
        from eval.words import converter

        return converter("t2s")(text)

    def _f1(self, pred: str, answer: str) -> float:
        if not self._words:
            return token_f1(normalise(pred), normalise(answer))
        from eval.words import words

        return f1(words(pred), words(answer))
