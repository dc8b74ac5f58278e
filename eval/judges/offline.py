"""The judge that needs no model: exact, repeatable, free. It is not GPT and never called so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eval.judges.base import BEST, Cost, JudgeItem, JudgeRecord, Verdict
from eval.overlap import normalise, token_f1


class OfflineJudge:
    """Normalised exact match decides what is right; the score is 5 times the token F1.

    Of a pair of answers (`consistency`) the mean of both counts.
    """

    def __init__(self, language: Literal["en", "zh"] = "en") -> None:
        self.record = JudgeRecord("offline", "offline-em-f1-2", language=language)

    def __call__(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Judge all."""
        return [_judge(item) for item in items]

    def estimate(self, items: Sequence[JudgeItem]) -> Cost:
        """Nothing."""
        return Cost()


def _judge(item: JudgeItem) -> Verdict:
    answer = normalise(item.answer)
    preds = [normalise(pred) for pred in (item.pred, item.pred2) if pred is not None]
    score = BEST * sum(token_f1(pred, answer) for pred in preds) / len(preds)
    correct = preds[0] == answer if item.aspect == "qa" else None
    return Verdict(item.sample_id, item.aspect, "ok", correct, score)
