"""Judging that is killed again and again asks, pays and judges once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import JudgeServer, random_faults
from judge_zygote import COUNT, killed_items, killed_judge
from zygote import Zygote

from eval.judges.ledger import LEDGER
from eval.judges.parse import parse_reply

KEY = "sk-the-key-of-the-test"
FAULTS = ("429", "500", "503", "cut", "fence", "wrong-json", "no-choices", "html")
KILLS, CONCURRENCY = 20, 4


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    started = Zygote("judge_zygote.py", JUDGE_KEY=KEY)
    yield started
    started.close()


def kill_after(pid: int, server: JudgeServer, more: int, pause: float) -> None:
    """Kill when the server has seen so many more requests, and a pause later."""
    wanted, deadline = len(server.seen) + more, time.monotonic() + 60
    while len(server.seen) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)


def test_after_twenty_kills_each_sample_is_judged_once(
    tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(6)
    with JudgeServer(random_faults(6, 900, FAULTS, 0.25), delay=0.02) as server:
        for _ in range(KILLS):
            pid = zygote.start({"url": server.url, "folder": str(tmp_path)})
            kill_after(pid, server, draw.randint(0, 14), draw.random() * 0.02)
            assert zygote.wait() == -signal.SIGKILL, "it ended before it was killed"
        monkeypatch.setenv("JUDGE_KEY", KEY)
        verdicts = killed_judge(server.url, tmp_path)(killed_items())
        count = len(server.seen)
        assert killed_judge(server.url, tmp_path)(killed_items()) == verdicts
        assert len(server.seen) == count
    assert [(v.sample_id, v.outcome, v.score) for v in verdicts] == [
        (f"s{i}", "ok", float(i % 6)) for i in range(COUNT)
    ]
    check_ledger(tmp_path, server)
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*.*"))


def check_ledger(folder: Path, server: JudgeServer) -> None:
    rows = [json.loads(line) for line in (folder / LEDGER).read_bytes().splitlines()]
    attempts = [row["attempt"] for row in rows if row["row"] == "attempt"]
    replied = {row["attempt"] for row in rows if row["row"] == "reply"}
    seen = [request.attempt for request in server.seen]
    # Every request that arrived is one attempt of the ledger; what else is there was killed first.
    assert len(set(attempts)) == len(attempts)
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(attempts)
    assert replied <= set(seen)
    assert len(attempts) - len(seen) <= KILLS * CONCURRENCY
    # Each sample got one good reply, and was not asked again after it.
    done: set[str] = set()
    for row in rows:
        assert row["key"] not in done
        if row["row"] == "reply" and parse_reply(row["text"], "qa").outcome == "ok":
            done.add(row["key"])
    assert len(done) == COUNT
    # Retries as the ledger counts them, and each has a cause: a fault, or a kill on the way back.
    tries = Counter(
        row["key"] for row in rows if row["attempt"] in seen and row["row"] == "attempt"
    )
    assert len(seen) == COUNT + sum(tries[key] - 1 for key in done)
    faulty = {r.attempt for r in server.seen if r.fault not in ("ok", "fence")}
    killed = set(seen) - faulty - replied
    assert len(seen) == COUNT + len(faulty) + len(killed)
    assert 0 < len(killed) <= KILLS * CONCURRENCY
    assert faulty
