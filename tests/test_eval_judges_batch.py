"""Judging through files, against a real server on loopback that may cut connections."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer, Row, completion, done, fresh_key, well
from judge_server import JudgeServer
from zygote import Zygote

from eval.judges import batch as batch_module
from eval.judges.asking import Reply
from eval.judges.base import JudgeItem
from eval.judges.batch import collect, submit, write_batches
from eval.judges.batch_files import batch_files
from eval.judges.ledger import Ledger
from eval.judges.make import make_judge
from eval.judges.options import JudgeConfig
from eval.judges.rubric_judge import RubricJudge
from features.errors import ConfigError, RedVillmError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setenv("OPENAI_API_KEY", fresh_key())
    with BatchServer() as found:
        yield found


def config(url: str, **facts: Any) -> JudgeConfig:
    return JudgeConfig("endpoint", "judge-1", url, attempts=2, timeout=20.0, **facts)


def make(config: JudgeConfig, folder: Path) -> RubricJudge:
    judge = make_judge(config, folder / "cache", asks=False)
    assert isinstance(judge, RubricJudge)
    return judge


def items(count: int = 5) -> list[JudgeItem]:
    return [JudgeItem(f"s{n}", "qa", "what?", "a dog", f"dög {n} 是") for n in range(count)]


def lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def attempts(judge: RubricJudge) -> int:
    return judge.ledger.path.read_text("utf-8").count('"row": "attempt"')


def test_the_files_have_the_published_form(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    (file,) = write_batches(judge, [*items(), *items(2)], tmp_path / "b")
    assert file.name == "requests-0001.jsonl"
    rows = lines(file)
    assert len(rows) == 5  # what is asked twice stands there once
    for row, item in zip(rows, items(), strict=True):
        assert set(row) == {"custom_id", "method", "url", "body"}
        assert row["custom_id"] == judge.request(item).key
        assert len(row["custom_id"]) <= 64
        assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")
        assert row["body"]["model"] == "judge-1"
        assert [m["role"] for m in row["body"]["messages"]] == ["system", "user"]
        assert item.pred in row["body"]["messages"][1]["content"]
    assert not server.log  # nothing is sent by writing


def test_a_file_asks_what_the_live_endpoint_would_be_asked(
    tmp_path: Path, server: BatchServer
) -> None:
    with JudgeServer() as live:
        judge = make(config(live.url, seed=3, temperature=0.5), tmp_path)
        (file,) = write_batches(judge, items(3), tmp_path / "b")
        judge(items(3))
        asked = [seen.body for seen in live.seen]
    bodies = [row["body"] for row in lines(file)]
    texts = [
        sorted(json.dumps(body, sort_keys=True) for body in found) for found in (asked, bodies)
    ]
    assert texts[0] == texts[1]
    assert {"seed", "temperature", "max_tokens", "response_format"} <= set(bodies[0])


def test_a_file_has_no_more_requests_and_bytes_than_may_be(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batch_module.MAX_REQUESTS == 50_000
    assert batch_module.MAX_BYTES == 200_000_000
    judge = make(config(server.url), tmp_path)
    monkeypatch.setattr(batch_module, "MAX_REQUESTS", 2)
    files = write_batches(judge, items(), tmp_path / "b")
    assert [len(lines(file)) for file in files] == [2, 2, 1]
    one = max(len(line) + 1 for file in files for line in file.read_text("ascii").splitlines())
    monkeypatch.setattr(batch_module, "MAX_REQUESTS", 50_000)
    monkeypatch.setattr(batch_module, "MAX_BYTES", 3 * one)
    files = write_batches(judge, items(), tmp_path / "b")
    assert [len(lines(file)) for file in files] == [3, 2]
    assert batch_files(tmp_path / "b") == files  # those that were never handed in are gone
    assert all(file.stat().st_size <= 3 * one for file in files)


def test_files_stay_within_the_token_budget(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    costs = [judge.estimate([item]) for item in items()]
    tokens = [cost.prompt_tokens + cost.completion_tokens for cost in costs]
    for budget, count in ((sum(tokens[:3]), 3), (sum(tokens[:3]) - 1, 2), (1, 0)):
        capped = make_judge(config(server.url), tmp_path / "cache", budget)
        assert isinstance(capped, RubricJudge)
        files = write_batches(capped, items(), tmp_path / str(budget))
        assert sum(len(lines(file)) for file in files) == count
    both = make_judge(config(server.url), tmp_path / "cache", sum(tokens[:3]))
    assert isinstance(both, RubricJudge)
    write_batches(both, items()[:2], tmp_path / "first")  # one cap over all that a run writes
    assert sum(len(lines(f)) for f in write_batches(both, items()[2:], tmp_path / "second")) == 1


def test_files_that_were_not_handed_in_gather_what_is_still_to_be_asked(
    tmp_path: Path, server: BatchServer
) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(2), tmp_path / "b")  # one evaluation
    key = judge.request(items()[0]).key
    with judge.ledger:  # of which an answer comes otherwise
        judge.ledger.attempt(key)
        judge.ledger.reply(key, Reply("ok", '{"pred": "no", "score": 1}'))
    (file,) = write_batches(judge, items()[3:], tmp_path / "b")  # and another one
    assert batch_files(tmp_path / "b") == [file]
    asked = [row["custom_id"] for row in lines(file)]
    assert asked == [judge.request(items()[n]).key for n in (1, 3, 4)]


def test_from_files_to_verdicts_without_a_live_request(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    files = write_batches(judge, items(), tmp_path / "b")
    assert submit(tmp_path / "b", judge) == 1
    assert submit(tmp_path / "b", judge) == 0
    (created,) = server.batches.values()
    assert created["endpoint"] == "/v1/chat/completions"
    assert created["completion_window"] == "24h"
    assert server.files[created["input_file_id"]] == files[0].read_bytes()
    # under way: nothing to write, nothing to collect
    assert write_batches(judge, items(), tmp_path / "b") == []
    waiting = {"requests-0001.jsonl": "validating, 0 of 5"}
    came = collect(tmp_path / "b", judge)
    assert (came.replies, came.failed, came.waiting, came.problems) == (0, 0, waiting, {})
    server.finish()
    assert collect(tmp_path / "b", judge).replies == 5
    assert collect(tmp_path / "b", judge).replies == 0
    server.status = 500  # from here on all is in the ledger
    verdicts = make(config(server.url), tmp_path)(items())
    assert [(v.sample_id, v.outcome, v.correct, v.score) for v in verdicts] == [
        (f"s{n}", "ok", True, 4.0) for n in range(5)
    ]
    assert {(v.prompt_tokens, v.completion_tokens) for v in verdicts} == {(100, 7)}
    assert attempts(judge) == 5
    assert judge.estimate(items()).requests == 0


def test_what_failed_is_an_attempt_and_is_asked_again(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)

    def answer(row: Row) -> Row | None:
        said = row["body"]["messages"][1]["content"]
        if "dög 1" in said:
            return done(row, {"error": {"message": "too long", "code": "x"}}, status=400)
        if "dög 2" in said:
            error = {"message": "flagged", "code": "content_filter"}
            return done(row, {"error": error}, status=400)
        if "dög 3" in said:
            return done(row, {"choices": []})
        return None if "dög 4" in said else well(row)

    write_batches(judge, items(), tmp_path / "b")
    submit(tmp_path / "b", judge)
    server.finish(answer)
    came = collect(tmp_path / "b", judge)
    assert (came.replies, came.failed) == (4, 2)
    assert attempts(judge) == 4
    (again,) = write_batches(judge, items(), tmp_path / "b")
    assert again.name == "requests-0002.jsonl"
    assert [row["custom_id"] for row in lines(again)] == [
        judge.request(items()[n]).key for n in (1, 3, 4)
    ]
    submit(tmp_path / "b", judge)
    server.finish()
    assert collect(tmp_path / "b", judge).replies == 3
    verdicts = judge(items())
    assert [v.outcome for v in verdicts] == ["ok", "ok", "refused", "ok", "ok"]
    assert attempts(judge) == 7


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_came_of_a_batch_that_was_cut_off_counts(
    tmp_path: Path, server: BatchServer, status: str
) -> None:
    judge = make(config(server.url), tmp_path)

    def answer(row: Row) -> Row:
        if "dög 0" in row["body"]["messages"][1]["content"]:
            return well(row)
        error = {"code": f"batch_{status}", "message": "not in time"}
        return {"id": "b", "custom_id": row["custom_id"], "response": None, "error": error}

    write_batches(judge, items(), tmp_path / "b")
    submit(tmp_path / "b", judge)
    server.finish(answer, status)
    came = collect(tmp_path / "b", judge)
    assert (came.replies, came.failed, came.problems) == (1, 0, {"requests-0001.jsonl": status})
    assert attempts(judge) == 1  # the model never saw the rest
    (again,) = write_batches(judge, items(), tmp_path / "b")
    assert len(lines(again)) == 4


def test_a_batch_that_was_not_taken_says_why(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(), tmp_path / "b")
    submit(tmp_path / "b", judge)
    errors = {"object": "list", "data": [{"code": "m", "message": "no such model"}]}
    server.finish(lambda row: None, "failed", errors=errors)
    came = collect(tmp_path / "b", judge)
    assert came.problems == {"requests-0001.jsonl": "failed: no such model"}
    assert len(lines(*write_batches(judge, items(), tmp_path / "b"))) == 5


def test_an_unreadable_reply_is_asked_once_more_without_a_schema(
    tmp_path: Path, server: BatchServer
) -> None:
    judge = make(config(server.url), tmp_path)
    for _ in range(2):
        (file,) = write_batches(judge, items(1), tmp_path / "b")
        submit(tmp_path / "b", judge)
        server.finish(lambda row: done(row, completion(row["body"], "well, well")))
        collect(tmp_path / "b", judge)
    assert "response_format" not in lines(file)[0]["body"]
    assert write_batches(judge, items(1), tmp_path / "b") == []
    assert [v.outcome for v in judge(items(1))] == ["parse_failure"]
    assert attempts(judge) == 2


def test_a_lost_answer_to_a_creation_is_not_a_second_batch(
    tmp_path: Path, server: BatchServer
) -> None:
    judge = make(config(server.url), tmp_path)
    other = make(config(server.url, seed=9), tmp_path)
    write_batches(other, items(2), tmp_path / "other")
    write_batches(judge, items(), tmp_path / "b")
    server.lose = 1
    with pytest.raises(RedVillmError, match=r"no answer.*nothing is sent twice"):
        submit(tmp_path / "b", judge)
    assert len(server.batches) == 1  # the client did not try by itself
    submit(tmp_path / "other", other)  # newer ones stand before it in the list
    assert submit(tmp_path / "b", judge) == 1
    assert len(server.batches) == 2
    server.finish()
    assert collect(tmp_path / "b", judge).replies == 5


def test_killed_at_any_step_nothing_is_paid_or_counted_twice(
    tmp_path: Path, server: BatchServer
) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(), tmp_path / "b")
    zygote = Zygote("batch_zygote.py")

    def killed(step: str, point: str) -> bool:
        zygote.start([step, server.url, str(tmp_path)], kill_at=point)
        return zygote.wait() == -signal.SIGKILL

    for point in ("batch-state-done:1", "batch-uploaded", "batch-created"):
        assert killed("submit", point)
    assert len(server.batches) == 1
    submit(tmp_path / "b", judge)
    assert len(server.batches) == 1
    server.finish()
    assert killed("collect", "batch-reply:2")
    zygote.close()
    assert attempts(judge) == 2
    assert collect(tmp_path / "b", judge).replies == 3
    assert attempts(judge) == 5
    assert [v.outcome for v in judge(items())] == ["ok"] * 5


def test_what_vllm_writes_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    judge = make(JudgeConfig("endpoint", "judge-1"), tmp_path)
    (file,) = write_batches(judge, items(), tmp_path / "b")
    output = [well(row) for row in lines(file)][::-1]  # in any order
    output[0] |= {"response": {"status_code": 400, "request_id": "r", "body": None}}
    output[0]["error"] = {"message": "too long"}
    text = "".join(json.dumps(line) + "\n" for line in output)
    (tmp_path / "b" / "requests-0001.output.jsonl").write_text(text)
    came = collect(tmp_path / "b", judge)
    assert (came.replies, came.failed) == (5, 1)
    (again,) = write_batches(judge, items(), tmp_path / "b")
    assert [row["custom_id"] for row in lines(again)] == [judge.request(items()[4]).key]


def test_answers_of_another_file_are_refused(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    (file,) = write_batches(judge, items(), tmp_path / "b")
    output = file.with_suffix(".output.jsonl")
    output.write_text(json.dumps(well(lines(file)[0] | {"custom_id": "k"})))
    with pytest.raises(RedVillmError, match=r"not in the file.*requests-0001\.jsonl, line 1.*k"):
        collect(tmp_path / "b", judge)
    output.write_text("<html>")
    with pytest.raises(RedVillmError, match="not a line of a batch"):
        collect(tmp_path / "b", judge)


@pytest.mark.parametrize(("status", "wanted"), [(401, "check OPENAI_API_KEY"), (500, "HTTP 500")])
def test_an_endpoint_that_says_no(
    tmp_path: Path, server: BatchServer, status: int, wanted: str
) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(), tmp_path / "b")
    server.status = status
    with pytest.raises(RedVillmError, match=wanted) as found:
        submit(tmp_path / "b", judge)
    key = os.environ["OPENAI_API_KEY"]
    assert server.keys == {f"Bearer {key}"}  # it was sent, and the server said it back
    assert key not in str(found.value)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes()
    server.status = 0
    assert submit(tmp_path / "b", judge) == 1


def test_without_a_key_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    far = make(config("https://judge.example/v1"), tmp_path)
    write_batches(far, items(), tmp_path / "b")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        submit(tmp_path / "b", far)


@pytest.mark.parametrize("step", ["write", "submit", "collect"])
def test_a_step_waits_while_another_process_has_the_ledger(
    tmp_path: Path, server: BatchServer, step: str
) -> None:
    judge = make(config(server.url), tmp_path / "a[/b]")  # no markup, whatever it looks like
    folder = judge.batches
    if step != "write":
        write_batches(judge, items(), folder)
    if step == "collect":
        submit(folder, judge)
        server.finish()
    before = len(server.log), {path: path.read_bytes() for path in folder.glob("*")}
    work = {
        "write": lambda: write_batches(judge, items(), folder),
        "submit": lambda: submit(folder, judge),
        "collect": lambda: collect(folder, judge),
    }
    thread = threading.Thread(target=work[step])
    with Ledger(judge.ledger.path.parent):
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert before == (len(server.log), {path: path.read_bytes() for path in folder.glob("*")})
    thread.join(20)
    assert not thread.is_alive()
    assert before[1] != {path: path.read_bytes() for path in folder.glob("*")}


def test_two_who_hand_in_at_once_pay_once(tmp_path: Path, server: BatchServer) -> None:
    judges = [make(config(server.url), tmp_path) for _ in range(4)]
    folder = judges[0].batches
    write_batches(judges[0], items(), folder)
    threads = [threading.Thread(target=submit, args=(folder, judge)) for judge in judges]
    with Ledger(judges[0].ledger.path.parent):  # so that all stand at the door
        for thread in threads:
            thread.start()
        threads[0].join(0.5)
    for thread in threads:
        thread.join(20)
    assert len(server.batches) == len(server.files) == 1


def test_who_asks_live_is_told_what_is_under_way(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(), judge.batches)
    submit(judge.batches, judge)
    with pytest.raises(RedVillmError, match=r"under way in a batch.*1 of 1 requests.*collect it"):
        judge(items(1))
    assert "POST /chat/completions" not in server.log
    server.finish()
    collect(judge.batches, judge)
    assert [v.outcome for v in judge(items())] == ["ok"] * 5


def test_a_collection_leaves_what_a_replay_needs(tmp_path: Path, server: BatchServer) -> None:
    judge = make(config(server.url), tmp_path)
    write_batches(judge, items(), judge.batches)
    submit(judge.batches, judge)
    server.finish()
    collect(judge.batches, judge)
    kept = judge.ledger.path.parent
    replay = make_judge(JudgeConfig("replay", str(kept)), tmp_path / "other")
    assert replay(items()) == judge(items())
