"""Steps of judging through files that can be killed; see zygote.py."""

from __future__ import annotations

from pathlib import Path

from zygote import serve

from eval.judges.batch import collect, submit
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.judges.rubric_judge import RubricJudge


def run(order: list[str]) -> None:
    step, url, folder = order
    config = JudgeConfig("endpoint", "judge-1", url, attempts=2, timeout=20.0)
    judge = make_judge(config, Path(folder) / "cache")
    assert isinstance(judge, RubricJudge)
    if step == "submit":
        submit(Path(folder) / "b", judge)
        return
    collect(Path(folder) / "b", judge)


if __name__ == "__main__":
    serve(run)
