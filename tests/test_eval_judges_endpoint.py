"""A model behind an endpoint judges, whatever the endpoint does; a real HTTP server on loopback."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import PASSING, TOKENS, JudgeServer, random_faults

from eval.judges.base import JudgeItem, Verdict
from eval.judges.endpoint import EndpointAsker
from eval.judges.ledger import LEDGER
from eval.judges.make import judge_record
from eval.judges.options import JudgeConfig
from eval.judges.rubric import load_rubric
from eval.judges.rubric_judge import RubricJudge
from features.errors import ConfigError, RedVillmError

KEY = "sk-the-key-of-the-test"
RUBRIC = load_rubric("en")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def judge_of(
    url: str, folder: Path, token_budget: int | None = None, **options: Any
) -> RubricJudge:
    given = {"timeout": 9.0, "concurrency": 4, **options}
    config = JudgeConfig("endpoint", "judge", base_url=url, key_variable="JUDGE_KEY", **given)
    record = judge_record(config, RUBRIC.digest)
    return RubricJudge(
        record, RUBRIC, lambda: EndpointAsker(config, 0.01), folder, config, token_budget
    )


def items_of(count: int) -> list[JudgeItem]:
    return [
        JudgeItem(f"s{i}", "qa", f"what is {i}?", "a dog", f"worth {i % 6}") for i in range(count)
    ]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LEDGER).read_bytes().splitlines()]


def attempts_of(folder: Path) -> list[str]:
    return [row["attempt"] for row in rows_of(folder) if row["row"] == "attempt"]


@pytest.mark.parametrize(
    ("faults", "outcome", "correct", "score", "requests"),
    [
        (["ok"], "ok", True, 3.5, 1),
        (["fence"], "ok", True, 3.5, 1),
        (["4.8"], "ok", True, 4.8, 1),
        (["4/5"], "ok", False, 4.0, 1),
        (["five"], "ok", True, 5.0, 1),
        *(([fault, fault], "ok", True, 3.5, 3) for fault in PASSING),
        (["429-date"], "ok", True, 3.5, 2),
        (["hang"], "ok", True, 3.5, 2),
        (["wrong-json"], "ok", True, 3.5, 2),
        (["wrong-json", "500", "words"], "parse_failure", None, None, 3),
        (["wrong-json", *["500"] * 9], "parse_failure", None, None, 4),
        (["500"] * 9, "api_failure", None, None, 3),
        (["hang"] * 9, "api_failure", None, None, 3),
        (["400"] * 9, "api_failure", None, None, 2),
        (["refusal"], "refused", None, None, 1),
        (["refusal-field"], "refused", None, None, 1),
        (["filter"], "refused", None, None, 1),
        (["filter-400"], "refused", None, None, 1),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else None,
)
def test_every_fault_ends_as_the_right_outcome(
    tmp_path: Path,
    faults: list[str],
    outcome: str,
    correct: bool | None,
    score: float | None,
    requests: int,
) -> None:
    item = JudgeItem("s", "qa", "what is it?", "a dog", "a cat worth 3.5")
    with JudgeServer(faults) as server:
        judge = judge_of(server.url, tmp_path, attempts=3, timeout=1.0 if "hang" in faults else 9.0)
        [verdict] = judge([item])
    assert (verdict.outcome, verdict.correct, verdict.score) == (outcome, correct, score)
    assert bool(verdict.reason) == (outcome != "ok")
    assert [seen.attempt for seen in server.seen] == attempts_of(tmp_path)
    assert len(server.seen) == requests
    assert KEY not in (tmp_path / LEDGER).read_text()
    assert KEY not in repr(verdict)
    assert {seen.authorization for seen in server.seen} == {f"Bearer {KEY}"}


def test_what_is_sent_is_the_recipe_and_the_filled_in_rubric(tmp_path: Path) -> None:
    item = items_of(1)[0]
    with JudgeServer() as server:
        judge_of(server.url, tmp_path, seed=7, temperature=0.25, max_tokens=99)([item])
        judge_of(server.url, tmp_path, seed=None, structured=False)([item])
    system, user = RUBRIC.render(item)
    first, second = (seen.body for seen in server.seen)
    schema = first.pop("response_format")["json_schema"]["schema"]
    assert set(schema["required"]) == {"pred", "score"}
    assert first == {
        "model": "judge",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "temperature": 0.25,
        "max_tokens": 99,
        "seed": 7,
    }
    assert not {"seed", "response_format"} & set(second)


def test_verdicts_keep_order_and_requests_are_samples_plus_counted_retries(tmp_path: Path) -> None:
    items = items_of(60)
    faults = random_faults(5, 90, [*PASSING, "fence", "wrong-json"], 0.4)
    with JudgeServer(faults, delay=0.005) as server:
        verdicts = judge_of(server.url, tmp_path, concurrency=3, attempts=30)(items)
    assert [v.sample_id for v in verdicts] == [item.sample_id for item in items]
    assert [v.score for v in verdicts] == [float(i % 6) for i in range(60)]
    tries = Counter(row["key"] for row in rows_of(tmp_path) if row["row"] == "attempt")
    assert len(server.seen) == len(items) + sum(count - 1 for count in tries.values())
    retries = sum(seen.fault not in ("ok", "fence") for seen in server.seen)
    assert len(server.seen) == len(items) + retries
    assert sorted(seen.attempt for seen in server.seen) == sorted(attempts_of(tmp_path))
    assert server.most_at_once == 3


def test_a_second_run_sends_nothing_and_says_the_same(tmp_path: Path) -> None:
    items = items_of(9)
    with JudgeServer(["refusal", *["words"] * 3]) as server:
        first = judge_of(server.url, tmp_path, structured=False)(items)
        count = len(server.seen)
        assert judge_of(server.url, tmp_path, structured=False)(items) == first
        assert len(server.seen) == count == 9
        again = judge_of(server.url, tmp_path, structured=False, reask_failed=True)
        assert again.estimate(items).requests == 4
        assert {v.outcome for v in again(items)} == {"ok"}
        assert len(server.seen) == count + 4
    assert Counter(v.outcome for v in first) == {"ok": 5, "parse_failure": 3, "refused": 1}


def test_api_failures_are_asked_again_in_the_next_run(tmp_path: Path) -> None:
    items = items_of(5)
    with JudgeServer(["500"] * 10) as server:
        first = judge_of(server.url, tmp_path, attempts=2)(items)
        assert {v.outcome for v in first} == {"api_failure"}
        assert all("HTTP 500" in v.reason and KEY not in v.reason for v in first)
        assert {v.outcome for v in judge_of(server.url, tmp_path)(items)} == {"ok"}
        assert len(server.seen) == 15


def test_equal_items_are_asked_once(tmp_path: Path) -> None:
    item = items_of(1)[0]
    with JudgeServer() as server:
        verdicts = judge_of(server.url, tmp_path)([item, item, item])
    assert len(server.seen) == 1
    assert verdicts == [verdicts[0]] * 3
    assert (verdicts[0].prompt_tokens, verdicts[0].completion_tokens) == (100, 10)


def test_an_endpoint_without_schemas_is_asked_without_them_from_then_on(tmp_path: Path) -> None:
    with JudgeServer(schemas=False) as server:
        verdicts = judge_of(server.url, tmp_path, concurrency=1)(items_of(6))
    assert {v.outcome for v in verdicts} == {"ok"}
    assert [seen.fault for seen in server.seen] == ["400"] + ["ok"] * 6
    assert len(attempts_of(tmp_path)) == 7


def test_what_could_not_be_read_is_asked_for_once_more_without_a_schema(tmp_path: Path) -> None:
    with JudgeServer(["wrong-json"] * 2 + ["words"] * 2) as server:
        verdicts = judge_of(server.url, tmp_path)(items_of(2))
        assert {v.outcome for v in verdicts} == {"parse_failure"}
        assert ["response_format" in s.body for s in server.seen] == [True, True, False, False]
        assert {(v.prompt_tokens, v.completion_tokens) for v in verdicts} == {(200, 20)}, "both"
        assert judge_of(server.url, tmp_path)(items_of(2)) == verdicts
        assert len(server.seen) == 4


def test_without_schema_at_temperature_zero_a_second_ask_would_change_nothing(
    tmp_path: Path,
) -> None:
    with JudgeServer(["words"] * 9) as server:
        judge_of(server.url, tmp_path, structured=False)(items_of(1))
        assert len(server.seen) == 1
        judge_of(server.url, tmp_path, structured=False, temperature=0.5)(items_of(1))
        assert len(server.seen) == 3


def test_one_bad_request_does_not_end_schemas(tmp_path: Path) -> None:
    with JudgeServer(["400", "400"]) as server:
        verdicts = judge_of(server.url, tmp_path, concurrency=1)(items_of(3))
    assert [v.outcome for v in verdicts] == ["api_failure", "ok", "ok"]
    assert ["response_format" in s.body for s in server.seen] == [True, False, True, True]


def test_a_429_makes_all_wait(tmp_path: Path) -> None:
    with JudgeServer(["429-after"], delay=0.02) as server:
        judge_of(server.url, tmp_path, concurrency=4)(items_of(40))
    first, *rest = (seen.time for seen in server.seen)
    # Those that were sent before the answer came are under way; nothing else leaves for 0.3 s.
    assert sum(moment - first < 0.3 for moment in rest) <= 6
    assert len(server.seen) == 41


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", ["refuses the key", "JUDGE_KEY"]),
        ("403", ["refuses the key", "JUDGE_KEY"]),
        ("404", ["no model judge", "base_url"]),
        ("quota", ["no credit"]),
    ],
)
def test_what_no_retry_mends_ends_everything_at_once(
    tmp_path: Path, fault: str, words: list[str]
) -> None:
    faults = ["ok"] * 8 + [fault] * 100
    with JudgeServer(faults, delay=0.005) as server:
        judge = judge_of(server.url, tmp_path)
        with pytest.raises(RedVillmError) as caught:
            judge(items_of(100))
        assert all(word in str(caught.value) for word in words)
        assert KEY not in str(caught.value)
        assert len(server.seen) <= 8 + 2 * 4
        assert len(judge.due(items_of(100))) == 92, "what came back is kept"
    assert KEY not in (tmp_path / LEDGER).read_text()


def test_an_endpoint_that_is_gone_is_not_asked_for_ever(tmp_path: Path) -> None:
    judge = judge_of("http://127.0.0.1:9/v1", tmp_path, attempts=2)
    with pytest.raises(RedVillmError, match="does not answer any more"):
        judge(items_of(500))
    assert len(attempts_of(tmp_path)) <= 2 * (20 + 2 * 4)


def test_a_budget_is_never_passed_and_what_is_left_is_not_asked(tmp_path: Path) -> None:
    items = items_of(40)
    with JudgeServer(delay=0.005) as server:
        judge = judge_of(server.url, tmp_path, token_budget=3000, max_tokens=50)
        estimate = judge.estimate(items)
        each = (estimate.prompt_tokens + estimate.completion_tokens) / 40
        verdicts = judge(items)
        spent = len(server.seen) * sum(TOKENS.values())
        # The estimate of one more request would not have fitted, and the spent tokens did.
        assert 3000 - each * 1.05 <= spent <= 3000
        counts = Counter(v.outcome for v in verdicts)
        assert counts == {"ok": len(server.seen), "not_asked": 40 - len(server.seen)}
        assert all("budget" in v.reason for v in verdicts if v.outcome == "not_asked")
        # The cap is on all that a judge is asked: other answers find it used up.
        more = [replace(item, sample_id=f"other{item.sample_id}") for item in items]
        asked = len(server.seen)
        assert {v.outcome for v in judge(more)} == {"not_asked"}
        assert len(server.seen) == asked
        # The next run has a budget of its own.
        rest = judge_of(server.url, tmp_path, max_tokens=50)(items)
        assert {v.outcome for v in rest} == {"ok"}
        assert len(server.seen) == 40


def test_a_budget_below_one_request_sends_nothing(tmp_path: Path) -> None:
    with JudgeServer() as server:
        verdicts = judge_of(server.url, tmp_path, token_budget=10)(items_of(3))
    assert not server.seen
    assert {v.outcome for v in verdicts} == {"not_asked"}


def test_an_estimate_sends_nothing_and_counts_from_above(tmp_path: Path) -> None:
    items = items_of(10)
    prices = {"price_in": 3.0, "price_out": 10.0, "max_tokens": 100}
    with JudgeServer() as server:
        judge = judge_of(server.url, tmp_path, **prices)
        judge(items[:4])
        cost = judge.estimate([*items, items[0]])
        assert len(server.seen) == 4
    assert (cost.requests, cost.cached, cost.completion_tokens) == (6, 4, 600)
    words = sum(len((a + b).split()) for a, b in map(RUBRIC.render, items[4:]))
    assert words < cost.prompt_tokens < 3 * words
    assert cost.price == pytest.approx((3 * cost.prompt_tokens + 10 * 600) / 1e6)
    assert judge_of(server.url, tmp_path).estimate(items).price is None


def test_ctrl_c_ends_promptly_and_keeps_what_came_back(tmp_path: Path) -> None:
    items = items_of(200)
    with JudgeServer(["ok"] * 40 + ["hang"] * 200, delay=0.002) as server:
        judge = judge_of(server.url, tmp_path, timeout=60.0)

        def interrupt() -> None:
            while len(server.seen) < 44:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        started = time.monotonic()
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            judge(items)
        assert time.monotonic() - started < 5
        thread.join()
        assert len(judge.due(items)) == 160
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_key_is_needed_except_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with JudgeServer() as server:
        [verdict] = judge_of(server.url, tmp_path)(items_of(1))
    assert verdict.outcome == "ok"
    with pytest.raises(ConfigError, match="JUDGE_KEY"):
        judge_of("https://judges.example/v1", tmp_path / "far")(items_of(1))
    with pytest.raises(ConfigError, match="not an endpoint's address"):
        judge_of("localhost:8000/v1", tmp_path / "far")(items_of(1))
    monkeypatch.setenv("JUDGE_KEY", "sk-with…dots")
    with pytest.raises(ConfigError, match="not a key") as caught:
        judge_of("https://judges.example/v1", tmp_path / "far")(items_of(1))
    assert "sk-with" not in str(caught.value)


def test_a_reply_that_repeats_the_key_is_kept_without_it(tmp_path: Path) -> None:
    with JudgeServer(["key"]) as server:
        [verdict] = judge_of(server.url, tmp_path)(items_of(1))
    assert verdict.outcome == "ok"
    assert KEY not in (tmp_path / LEDGER).read_text() + repr(verdict)


def test_a_placeholder_for_a_key_spoils_no_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "e")
    with JudgeServer() as server:
        [verdict] = judge_of(server.url, tmp_path)(items_of(1))
    assert verdict.outcome == "ok"


def test_an_answer_with_half_a_character_can_be_asked_about(tmp_path: Path) -> None:
    with JudgeServer() as server:
        [verdict] = judge_of(server.url, tmp_path)([JudgeItem("s", "qa", "q", "a", "a \ud800")])
    assert isinstance(verdict, Verdict)
    assert verdict.outcome == "ok"
