"""A file to translate, and the command that does it at a server on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deepl_server import KEY, DeepLServer

from pipelines.__main__ import main

ROWS = [
    {"q": "what is in {name}", "a": "a red ball", "video_id": "v_1"},
    {"q": "how many", "a": "3", "video_id": "v_2"},
    {"q": 'is it <video> & "big"?', "a": "a red ball", "video_id": "v_3"},
    {"q": "how many", "a": "two & a half 🐱", "video_id": "v_4"},
]
"""Seven texts with words, of which `how many` stands twice."""
SENT = 6
CHARACTERS = sum(
    map(len, {"what is in {name}", "how many", 'is it <video> & "big"?', "two & a half 🐱"})
) + 2 * len("a red ball")


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with in.json and the key to the server."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEEPL_TEST_KEY", KEY)
    write(folder / "in.json", ROWS)
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def translate(server: DeepLServer, *more: str, recipe: str = "") -> int:
    text = recipe or f"kind: deepl\nserver_url: {server.url}\n"
    Path("t.yaml").write_text(f"{text}key_variable: DEEPL_TEST_KEY\nfirst_wait: 0.02\n")
    return main(["translate", "in.json", "--target", "out.json", "--translator", "t.yaml", *more])
