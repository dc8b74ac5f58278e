"""Chinese cut into words, without a trace on the machine or on stderr."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from eval import words as module
from eval.words import converter, package_name, words
from features.errors import ConfigError

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("一个男人在骑自行车。", ["1", "个", "男人", "在", "骑", "自行车"]),
        ("「红色」 的 圆形\uff01", ["红色", "的", "圆形"]),
        ("《红楼梦》", ["红楼梦"]),
        ("跳舞\uff0c和她", ["跳舞", "和", "她"]),
        ("三只猫、\uff13只狗", ["3", "只", "猫", "3", "只", "狗"]),
        ("a dog's iPhone手机", ["dogs", "iphone", "手机"]),
        ("。", ["。"]),  # as normalisation leaves it
        ("", []),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_traditional_characters() -> None:
    assert converter("t2s")("電腦後面的貓") == "电脑后面的猫"
    assert converter("t2s")("a 猫") == "a 猫"


def test_jieba_neither_warns_nor_chats_nor_reads_or_writes_a_shared_folder(tmp_path: Path) -> None:
    poisoned = marshal.dumps(({"红色圆形": 10**9, "红": 0, "红色": 0, "红色圆": 0}, 10**9))
    (tmp_path / "jieba.cache").write_bytes(poisoned)
    code = "from eval.words import words; print(ascii(words('红色圆形')))"
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(["红色", "圆形"])
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "jieba.cache"]
    assert (tmp_path / "jieba.cache").read_bytes() == poisoned


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with pytest.raises(ConfigError, match=r"another package.*jieba.*pip install -e '\.\[zh\]'"):
        package_name("jieba")
