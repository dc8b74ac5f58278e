"""Judging what was judged before: seconds for a whole benchmark, and nothing is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.judges.asking import Reply
from eval.judges.base import JudgeItem
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.judges.rubric import Rubric
from eval.judges.rubric_judge import RubricJudge

CONFIG = JudgeConfig("endpoint", "m", "http://127.0.0.1:9/v1")


def items_of(count: int) -> list[JudgeItem]:
    return [JudgeItem(f"s{n}", "qa", f"what is {n}?", "a dog", f"dog {n}") for n in range(count)]


def answered(cache: Path, items: list[JudgeItem]) -> RubricJudge:
    judge = make_judge(CONFIG, cache)
    assert isinstance(judge, RubricJudge)
    with judge.hold():
        for item in items:
            key = judge.request(item).key
            judge.ledger.attempt(key)
            judge.ledger.reply(key, Reply("ok", '{"pred": "yes", "score": 4}', "", "m", 100, 7))
    return judge


def test_an_item_is_filled_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = answered(tmp_path, items_of(2))
    render, seen = Rubric.render, []

    def counted(rubric: Rubric, item: JudgeItem) -> tuple[str, str]:
        seen.append(item.sample_id)
        return render(rubric, item)

    monkeypatch.setattr(Rubric, "render", counted)
    cost = judge.estimate([*items_of(5), *items_of(1)])
    assert (cost.requests, cost.cached) == (3, 2)
    assert seen == ["s0", "s1", "s2", "s3", "s4", "s0"]


def test_what_is_all_answered_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    items = items_of(3)
    judge = answered(tmp_path, items)
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    again = make_judge(CONFIG, tmp_path)
    assert [v.score for v in again(items)] == [4.0] * 3
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    for path, stat in before.items():
        assert (stat.st_ino, stat.st_mtime_ns) == (after[path].st_ino, after[path].st_mtime_ns)
    assert before.keys() == after.keys()
    with judge.ledger:  # nor is anybody waited for who is asking just now
        assert [v.score for v in again(items)] == [4.0] * 3


TIMES = """
import json, sys, time
from pathlib import Path
from test_eval_judges_quick import CONFIG, answered, items_of
from eval.judges.make import make_judge
items, cache = items_of(7300), Path(sys.argv[1])
judge, times = make_judge(CONFIG, cache), []
for act in (judge.estimate, lambda items: answered(cache, items), judge.estimate, judge):
    started = time.process_time()
    act(items)
    times.append(time.process_time() - started)
print(json.dumps(times))
"""


def test_a_benchmark_of_73000_answers_takes_seconds(tmp_path: Path) -> None:
    # In a process of its own, where calls are not checked; a tenth of the answers.
    command = [sys.executable, "-W", "error", "-c", TIMES, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    fresh, _, known, verdicts = json.loads(done.stdout)
    assert 10 * max(fresh, known, verdicts) < 12
