"""README.zh.md is README.md in Chinese: neither says or shows what the other does not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE = (
    (PROJECT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")
)
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Lines of all blocks of code, without the remarks behind them."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [re.sub(r"\s+# .*", "", line).rstrip() for line in lines]


def figures(text: str) -> Counter[str]:
    """Numbers as they are written, and how often each is."""
    return Counter(re.findall(r"\d(?:[\d.,]*\d)?(?:e-\d+)?", FENCE.sub("", text)))


def inline(text: str) -> set[str]:
    """Names, options and short commands within the text."""
    return set(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


def shape(text: str) -> list[str]:
    """Headings by their depth, and tables by their columns, from top to bottom."""
    lines = FENCE.sub("", text).splitlines()
    return [
        line.split(" ")[0] if line.startswith("#") else "|" * line.replace("\\|", "").count("|")
        for line in lines
        if line.startswith(("#", "|"))
    ]


def test_every_command_is_the_same() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
    assert len(commands(ENGLISH)) > 30


def test_every_figure_is_there() -> None:
    assert figures(ENGLISH) - figures(CHINESE) == Counter()
    assert figures(ENGLISH).total() > 200


def test_every_name_is_there() -> None:
    assert inline(ENGLISH) - inline(CHINESE) == set()
    assert inline(CHINESE) - inline(ENGLISH) == set()


def test_sections_and_tables_are_the_same() -> None:
    assert shape(CHINESE) == shape(ENGLISH)


def test_no_line_ends_within_a_sentence_s_words() -> None:
    """A line break between two Chinese characters would be shown as a blank."""
    han = "[\u3400-\u9fff]"
    assert not re.search(f"{han}\n{han}", FENCE.sub("", CHINESE))


@pytest.mark.parametrize(("text", "other"), [(ENGLISH, "README.zh.md"), (CHINESE, "README.md")])
def test_all_links_lead_somewhere_and_each_to_the_other(text: str, other: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert other in links
    assert all((PROJECT / link).exists() for link in links)
    same = set(re.findall(r"\]\(([^)#]+)\)", ENGLISH)) ^ set(re.findall(r"\]\(([^)#]+)\)", CHINESE))
    assert same == {"README.md", "README.zh.md"}
