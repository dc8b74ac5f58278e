"""What judging answers takes that are not there yet, by the judge's own rubric and estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from eval.judges.base import JudgeItem
from eval.judges.cost import price, prompt_tokens
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.judges.rubric_judge import RubricJudge
from pipelines.plan_data import Questions
from pipelines.plan_machine import Range
from pipelines.plan_work import Row

REPLY_TOKENS = 16
"""Of a judge that replies with the JSON object alone."""


def judging(name: str, config: JudgeConfig, asked: Sequence[Questions], said: float) -> Row:
    """Tokens and price of one judge.

    Args:
        name: of the judge's recipe.
        config: the recipe.
        asked: what was answered; questions that are here are put into the rubric.
        said: tokens of the text that stands for each answer.

    Raises:
        RedVillmError: a rubric or a model is missing.
    """
    judge = make_judge(config, Path("runs/judge-cache"), asks=False)
    if not isinstance(judge, RubricJudge):
        return Row(f"judge {name}", "rules: no requests")
    requests, prompt = 0, 0.0
    for split in asked:
        sizes = [prompt_tokens(judge.request(item)) for item in _items(split, said)]
        count = split.count * len(split.aspects)
        requests, prompt = requests + count, prompt + count * fmean(sizes)
    written = [requests * tokens for tokens in (REPLY_TOKENS, config.max_tokens)]
    low, high = (price(config, round(prompt), tokens) for tokens in written)
    return Row(
        f"judge {name}",
        f"{requests:,} requests of {prompt / requests:,.0f} tokens; replies of {REPLY_TOKENS} to "
        f"{config.max_tokens}",
        tokens=Range.of(prompt) + Range(*map(float, written)),
        money=None if low is None or high is None else Range(low, high),
    )


def _items(asked: Questions, said: float) -> Iterator[JudgeItem]:
    """What would be judged: of each question that is here, or one that is like all of them."""
    texts = [(s.question, s.answer) for s in asked.samples]
    pred = _text(said)
    for aspect in asked.aspects:
        for question, answer in texts or [(_text(asked.question), _text(asked.answer))]:
            second = (question, pred) if aspect == "consistency" else (None, None)
            yield JudgeItem("", aspect, question, answer, pred, *second)


def _text(tokens: float) -> str:
    """Stands for a text that is not here: tokens of four bytes each."""
    return "and " * round(tokens)
