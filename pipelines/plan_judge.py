"""What judging answers takes that are not there yet, by the judge's own rubric and estimate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.judges.base import JudgeItem
from eval.judges.cost import price, prompt_tokens
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.judges.rubric_judge import RubricJudge
from features.config import Aspect
from pipelines.plan_data import Questions
from pipelines.plan_machine import Range
from pipelines.plan_work import Row

REPLY_TOKENS = 16
"""Of a judge that replies with the JSON object alone."""
_WORDS = "a person in the video slowly moves a large round object to the other side "
"""Stands for texts that are not here."""


def judging(name: str, config: JudgeConfig, dataset: str, asked: Questions, said: float) -> Row:
    """Tokens and price of judging a split, by the judge's own rubric and estimate.

    Args:
        name: of the judge's recipe.
        config: the recipe.
        dataset: name of the dataset.
        asked: the split; where its questions are here they are put into the rubric.
        said: tokens of the text that stands for each answer.

    Raises:
        RedVillmError: a rubric or a model is missing.
    """
    judge = make_judge(config, Path("runs/judge-cache"), asks=False)
    stage = f"judge {dataset} {asked.split} ({name})"
    if not isinstance(judge, RubricJudge):
        return Row(stage, "rules: no requests")
    items = list(_items(asked, said))
    requests = asked.count * len(asked.aspects)
    prompt = sum(prompt_tokens(judge.request(item)) for item in items) * requests / len(items)
    written = Range(requests * float(REPLY_TOKENS), requests * float(config.max_tokens))
    ends = [price(config, round(prompt), round(n)) for n in (written.low, written.high)]
    low, high = ends
    return Row(
        stage,
        f"{requests:,} requests of {prompt / requests:,.0f} tokens; replies of {REPLY_TOKENS} to "
        f"{config.max_tokens}",
        tokens=Range.of(prompt) + written,
        money=None if low is None or high is None else Range(low, high),
    )


def _text(tokens: float) -> str:
    """About so many tokens of English, at four bytes each."""
    return (_WORDS * (1 + round(tokens) * 4 // len(_WORDS)))[: round(tokens) * 4]


def _items(asked: Questions, said: float) -> Iterator[JudgeItem]:
    """What would be judged: of each question that is here, or one that is like all of them."""
    texts = [(s.question, s.answer) for s in asked.samples]
    texts = texts or [(_text(asked.question), _text(asked.answer))]
    for aspect in asked.aspects:
        for question, answer in texts:
            yield _item(aspect, question, answer, _text(said))


def _item(aspect: Aspect, question: str, answer: str, pred: str) -> JudgeItem:
    pair = (question, pred) if aspect == "consistency" else (None, None)
    return JudgeItem("", aspect, question, answer, pred, *pair)
