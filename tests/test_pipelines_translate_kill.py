"""A translation that is killed again and again pays for each text once and loses none."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deepl_server import KEY, PASSING, DeepLServer
from pseudo_translation import hard_lines, pseudo
from zygote import Zygote

from features.annotations import load_annotations
from features.config import SplitConfig
from features.translation import Translation, read_translation
from pipelines.translate.lines import lines_path


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    started = Zygote("translate_zygote.py", DEEPL_TEST_KEY=KEY)
    yield started
    started.close()


def write_rows(path: Path, count: int) -> list[dict[str, str]]:
    """Half of the questions stand twice, and so do some answers."""
    lines = hard_lines(2 * count)
    rows = [
        {"q": lines[n // 2], "a": lines[count + n], "video_id": f"v_{n}"} for n in range(count - 5)
    ]
    rows += [{**row, "video_id": f"w_{n}"} for n, row in enumerate(rows[:5])]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return rows


def order(folder: Path, name: str, server: DeepLServer) -> dict[str, str]:
    recipe = folder / "deepl.yaml"
    recipe.write_text(
        f"kind: deepl\nserver_url: {server.url}\nkey_variable: DEEPL_TEST_KEY\n"
        "batch: 3\nconcurrency: 4\nfirst_wait: 0.02\nattempts: 30\n"
    )
    return {
        "file": str(folder / "in.json"),
        "target": str(folder / f"{name}.json"),
        "translator": str(recipe),
        "cache": str(folder / f"{name}-cache"),
    }


def wait_for_courier(cache: Path) -> None:
    """Until nobody holds the ledger."""
    (ledger,) = cache.glob("*/ledger.jsonl")
    with ledger.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def kill_and_count(zygote: Zygote, told: dict[str, str], server: DeepLServer, seed: int) -> int:
    """Kill a run at a random moment; how many texts were paid for after its death."""
    draw = random.Random(seed)
    pid = zygote.start(told)
    wanted, deadline = len(server.requests) + draw.randint(0, 8), time.monotonic() + 60
    while len(server.requests) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(draw.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    before = server.billed.total()
    assert zygote.wait() == -signal.SIGKILL, "it ended before it was killed"
    cache = Path(told["cache"])
    if not list(cache.glob("*/ledger.jsonl")):
        return 0  # killed before there was anything to hold
    wait_for_courier(cache)
    return server.billed.total() - before


@pytest.mark.parametrize(
    ("kills", "count"), [(3, 60), pytest.param(20, 250, marks=pytest.mark.soak)]
)
def test_after_kills_each_character_was_paid_for_once_and_the_file_is_the_same(
    tmp_path: Path, zygote: Zygote, kills: int, count: int
) -> None:
    rows = write_rows(tmp_path / "in.json", count)
    with DeepLServer(delay=0.02) as server:
        assert zygote.start(order(tmp_path, "calm", server)) > 0
        assert zygote.wait() == 0
    draw = random.Random(kills)
    faults = [draw.choice(PASSING) if draw.random() < 0.25 else "ok" for _ in range(900)]
    late = 0
    with DeepLServer(faults, delay=0.1) as server:
        told = order(tmp_path, "killed", server)
        for number in range(kills):
            late += kill_and_count(zygote, told, server, seed=100 * kills + number)
        zygote.start(told)
        assert zygote.wait() == 0
        asked = len(server.requests)
        zygote.start(told)
        assert zygote.wait() == 0
        assert len(server.requests) == asked, "what is there was asked again"
        print(f"{kills} kills; {late} of {server.billed.total()} texts were paid for behind them")
        assert late > 0, "no kill fell between a request and its reply"
        texts = {(row["q"], "") for row in rows} | {(row["a"], row["q"]) for row in rows}
        assert server.billed == Counter(dict.fromkeys(texts, 1))
        assert server.characters == sum(len(text) for text, _ in texts)
    calm, killed = tmp_path / "calm.json", tmp_path / "killed.json"
    assert calm.read_bytes() == killed.read_bytes()
    records = [read_translation(path) for path in (calm, killed)]
    assert {replace(record, digest="") for record in records if record} == {
        Translation("annotations", "en-zh", "deepl", "", 2 * count)
    }
    assert [
        {**json.loads(line), "key": ""} for line in lines_path(calm).read_bytes().splitlines()
    ] == [{**json.loads(line), "key": ""} for line in lines_path(killed).read_bytes().splitlines()]
    samples = load_annotations(SplitConfig("videoinstruct", killed))
    assert [(s.video_id, s.question, s.answer) for s in samples] == [
        (row["video_id"], pseudo(row["q"]), pseudo(row["a"])) for row in rows
    ]
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*.*"))
