"""The ledger of requests and replies on real files and processes."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from eval.judges.asking import Reply
from eval.judges.ledger import LEDGER, Ledger
from features.errors import RedVillmError, StoreError

REPLY = Reply("ok", '{"score": 4}\u2028', "", "model", 7, 3)


def test_replies_come_back_as_they_were(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        attempt = ledger.attempt("k")
        ledger.reply("k", REPLY)
        ledger.attempt("k")
        ledger.reply("k", Reply("refused", None, "content filter"))
        ledger.attempt("under way")
        said = ledger.replies
    again = Ledger(tmp_path)
    again.read()
    assert again.replies == said == {"k": [REPLY, Reply("refused", None, "content filter")]}
    rows = [json.loads(line) for line in (tmp_path / LEDGER).read_bytes().splitlines()]
    assert [row["row"] for row in rows] == ["attempt", "reply", "attempt", "reply", "attempt"]
    assert rows[0]["attempt"] == rows[1]["attempt"] == attempt
    assert len({row["attempt"] for row in rows}) == 3
    assert abs(rows[0]["time"] - time.time()) < 60


def test_an_attempt_is_in_the_file_before_its_request_leaves(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.attempt("k")
        assert json.loads((tmp_path / LEDGER).read_bytes())["key"] == "k"


def test_a_line_torn_anywhere_does_not_exist(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for key in ("a", "b"):
            ledger.attempt(key)
            ledger.reply(key, REPLY)
    whole = (tmp_path / LEDGER).read_bytes()
    first = len(b"".join(whole.splitlines(keepends=True)[:3]))
    for size in range(first, len(whole)):
        (tmp_path / LEDGER).write_bytes(whole[:size])
        with Ledger(tmp_path) as ledger:
            assert set(ledger.replies) == {"a"}
            ledger.attempt("b")
            ledger.reply("b", REPLY)
        again = Ledger(tmp_path)
        again.read()
        assert again.replies == {"a": [REPLY], "b": [REPLY]}


def test_a_ledger_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for _ in range(2):
        with ledger:
            assert not ledger.replies
            ledger.attempt("a")
            ledger.reply("a", REPLY)
        assert len((tmp_path / LEDGER).read_bytes().splitlines()) == 2
        (tmp_path / LEDGER).unlink()


def test_damage_before_the_end_is_named(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.attempt("a")
        ledger.reply("a", REPLY)
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes() + b'{"row": "reply", "key": \n')
    with pytest.raises(RedVillmError, match=r"damaged.*ledger\.jsonl, byte"):
        Ledger(tmp_path).__enter__()


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open a ledger"):
        Ledger(tmp_path / "file").__enter__()


def _hold(folder: Path, holds: object, seconds: float) -> None:
    with Ledger(folder) as ledger:
        holds.set()  # type: ignore[attr-defined]
        time.sleep(seconds)
        ledger.attempt("theirs")
        ledger.reply("theirs", REPLY)


def test_a_second_process_waits_and_then_knows_what_the_first_was_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, holds, 0.5))
    process.start()
    assert holds.wait(60)
    with Ledger(tmp_path) as ledger:
        assert set(ledger.replies) == {"theirs"}
    process.join()
    assert process.exitcode == 0
    assert "waiting" in capsys.readouterr().err


READ = """
import sys, time
from pathlib import Path
from eval.judges.ledger import Ledger
ledger, started = Ledger(Path(sys.argv[1])), time.process_time()
ledger.read()
first = time.process_time()
ledger.read()
print(len(ledger.replies), first - started, time.process_time() - first)
"""


def test_half_a_million_replies_are_read_in_seconds(tmp_path: Path) -> None:
    row = {"row": "reply", "attempt": "0" * 32, "key": "KEY", "time": 1.5, **asdict(REPLY)}
    text = json.dumps(row) + "\n"
    lines = (text.replace("KEY", f"{i:064x}") for i in range(50_000))
    (tmp_path / LEDGER).write_text("".join(lines))
    # In a process of its own, where calls are not checked.
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, first, second = map(float, done.stdout.split())
    assert count == 50_000
    assert first * 10 < 15, "ten times as many"
    assert second < 0.1, "what was read is not read again"
