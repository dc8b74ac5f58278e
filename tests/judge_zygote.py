"""Judging that can be killed, for zygote.py: the order is the endpoint's address and a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
from zygote import serve

from eval.judges.base import JudgeItem
from eval.judges.endpoint import EndpointAsker
from eval.judges.make import judge_record
from eval.judges.options import JudgeConfig
from eval.judges.rubric import load_rubric
from eval.judges.rubric_judge import RubricJudge

COUNT = 200
RUBRIC = load_rubric("en")


def killed_judge(url: str, folder: Path) -> RubricJudge:
    config = JudgeConfig(
        "endpoint", "judge", base_url=url, key_variable="JUDGE_KEY", concurrency=4, attempts=30
    )
    record = judge_record(config, RUBRIC.digest)
    return RubricJudge(record, RUBRIC, lambda: EndpointAsker(config, 0.01), folder, config)


def killed_items() -> list[JudgeItem]:
    return [JudgeItem(f"s{i}", "qa", "what?", "dog", f"{i}: worth {i % 6}") for i in range(COUNT)]


def _run(order: Any) -> None:
    killed_judge(order["url"], Path(order["folder"]))(killed_items())


if __name__ == "__main__":
    with openai.OpenAI(api_key="none") as client:  # its modules are loaded once and not a fork
        assert client.chat.completions
    serve(_run)
