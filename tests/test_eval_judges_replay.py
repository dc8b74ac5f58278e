"""Recorded replies: the ledger's own rows, and plain ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from eval.judges.asking import Reply, Request
from eval.judges.base import JudgeItem
from eval.judges.ledger import LEDGER, Ledger
from eval.judges.make import judge_record, make_judge
from eval.judges.options import JudgeConfig
from eval.judges.replay import ReplayAsker
from eval.judges.rubric import load_rubric
from eval.judges.rubric_judge import RubricJudge
from features.errors import ConfigError, RedVillmError


def ask(file: Path, *keys: str) -> tuple[dict[str, Reply], list[str]]:
    left: list[str] = []
    requests = [Request(key, "s", "u") for key in keys]

    def before(key: str) -> str:
        left.append(key)
        return "attempt"

    return dict(ReplayAsker(file).ask(requests, before)), left


def test_a_ledger_is_replayed_as_it_is(tmp_path: Path) -> None:
    first, refused = Reply("api_failure", reason="429"), Reply("refused", reason="filter")
    said = Reply("ok", '{"pred": "yes"}\n是', "", "m-1", 10, 5)
    with Ledger(tmp_path) as ledger:
        for key, reply in (("k1", first), ("k2", refused), ("k1", said)):
            ledger.attempt(key)
            ledger.reply(key, reply)
        ledger.attempt("k3")  # a kill came before its reply
    with (tmp_path / LEDGER).open("a") as file:
        file.write('{"row": "reply", "ke')  # and tore this one
    replies, left = ask(tmp_path / LEDGER, "k3", "k2", "k1")
    assert left == ["k3", "k2", "k1"]
    assert (replies["k1"], replies["k2"]) == (said, refused)  # the last reply counts
    assert replies["k3"].outcome == "api_failure"
    assert "no reply to it is recorded" in replies["k3"].reason


def test_key_and_text_are_enough(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"key": "k", "text": "4", "time": 1.5}\n\n')
    replies, _ = ask(tmp_path / "r.jsonl", "k")
    assert asdict(replies["k"]) == asdict(Reply("ok", "4"))


def test_a_judge_is_replayed_from_its_folder_of_the_cache(tmp_path: Path) -> None:
    cache, item = tmp_path / "cache", JudgeItem("s", "qa", "what", "a dog", "a dog")
    known = JudgeConfig("endpoint", "judge", base_url="http://127.0.0.1:9/v1", structured=False)
    rubric = load_rubric("en")
    record = judge_record(known, rubric.digest)
    asked = make_judge(known, cache)
    assert isinstance(asked, RubricJudge)
    with asked.hold():
        asked.ledger.attempt(asked.request(item).key)
        asked.ledger.reply(asked.request(item).key, Reply("ok", '{"pred": "yes", "score": 4.8}'))
    assert [v.score for v in asked([item])] == [4.8], "nobody listens there: it was in the ledger"
    replay = make_judge(JudgeConfig("replay", str(cache / record.slug)), tmp_path / "other")
    assert replay.record == record
    assert replay([item]) == asked([item])
    other = JudgeItem("t", "qa", "what", "a dog", "a cat")
    assert [v.outcome for v in replay([other])] == ["api_failure"], "it was never asked"
    with pytest.raises(ConfigError, match="another rubric"):
        make_judge(JudgeConfig("replay", str(cache / record.slug), language="zh"), tmp_path)
    with pytest.raises(ConfigError, match="no judge's replies"):
        make_judge(JudgeConfig("replay", str(tmp_path)), tmp_path)


def test_a_recipe_replays_what_is_recorded_under_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("")
    judge = make_judge(JudgeConfig("replay", str(file)), tmp_path / "cache")
    assert isinstance(judge, RubricJudge)
    items = [JudgeItem(f"s{n}", "qa", "what?", "a dog", "dog") for n in range(3)]
    said = ['{"pred": "yes", "score": 5}', "no idea, 3 of 5"]
    rows = [
        {"key": judge.request(item).key, "text": text}
        for item, text in zip(items, said, strict=False)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    verdicts = make_judge(JudgeConfig("replay", str(file)), tmp_path / "cache")(items)
    outcomes = [(v.outcome, v.correct, v.score) for v in verdicts]
    assert outcomes[0] == ("ok", True, 5.0)
    assert outcomes[1:] == [("parse_failure", None, None), ("api_failure", None, None)]
    assert verdicts[2].reason == f"no reply to it is recorded in {file}"


@pytest.mark.parametrize(
    "line", ["[]", "4", '{"key": "k", "text": null}', '{"text": "4"}', '{"key": "k", "te\n']
)
def test_a_line_that_is_no_reply_is_named(tmp_path: Path, line: str) -> None:
    good = json.dumps({"key": "k", "text": "4"})
    (tmp_path / "r.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(RedVillmError, match=r"not a reply.*r\.jsonl, line 2"):
        ReplayAsker(tmp_path / "r.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RedVillmError, match=r"cannot read replies.*none\.jsonl"):
        ReplayAsker(tmp_path / "none.jsonl")


def test_a_replay_writes_nothing_where_the_replies_are_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    known = JudgeConfig("endpoint", "judge", base_url="http://127.0.0.1:9/v1")
    asked = make_judge(known, cache)
    assert isinstance(asked, RubricJudge)
    items = [JudgeItem(f"s{n}", "qa", "what", "a dog", "a dog") for n in range(3)]
    fine = Reply("ok", '{"pred": "yes", "score": 4}', "", "m", 9, 3)
    said = [fine, Reply("ok", "well", "", "m", 8)]
    with asked.hold():
        for item, reply in zip(items, said, strict=False):
            key = asked.request(item).key
            asked.ledger.attempt(key)
            asked.ledger.reply(key, reply)
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    kept = str(cache / asked.record.slug)
    # with the same cache, too, whose folder of this judge is the one that is replayed
    replay = make_judge(JudgeConfig("replay", kept, reask_failed=True), cache)
    verdicts = replay(items)
    assert [v.outcome for v in verdicts] == ["ok", "parse_failure", "api_failure"]
    assert [v.prompt_tokens for v in verdicts] == [9, 8, 0], "nothing counts twice"
    assert before == {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_another_file_of_replies_is_another_judge_with_the_same_keys(tmp_path: Path) -> None:
    item = JudgeItem("s", "qa", "what?", "a dog", "dog")
    judges = []
    for text in ("", '{"key": "k", "text": "4"}\n'):
        (tmp_path / "r.jsonl").write_text(text)
        judges.append(make_judge(JudgeConfig("replay", str(tmp_path / "r.jsonl")), tmp_path))
    assert len({judge.record.slug for judge in judges}) == 2
    assert len({judge.request(item).key for judge in judges if isinstance(judge, RubricJudge)}) == 1
    with pytest.raises(ConfigError, match=r"cannot read replies.*none\.jsonl"):
        make_judge(JudgeConfig("replay", str(tmp_path / "none.jsonl")), tmp_path)
