"""Which lines people review: one sample for all who ask, and parts that make up the whole."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from review_world import EVIL, World, decide, make_world, review

from features.errors import RedVillmError
from pipelines.translate.lines import Line, read_lines, write_lines
from pipelines.translate.review_log import log_path
from pipelines.translate.review_sample import draw_sample, read_sample, sample_path, take_part
from pipelines.translate.review_session import Session

SPOILT = {"1/answer": "好。", "4/question": None, "6/answer": EVIL}
"""The lines with flags, three of twenty."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, spoilt=SPOILT)


def exported(world: World, *more: object) -> list[str]:
    """Ids of the lines that an export has."""
    path = world.lines.with_name("export.jsonl")
    assert review("export", world.lines, path, *more) == 0
    return [json.loads(row)["id"] for row in path.read_text(encoding="utf-8").splitlines()]


def record(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{world.out}.sample.json").read_text("utf-8"))
    return found


def smallest(ids: list[str], size: int, seed: int) -> list[str]:
    """The sample, naively."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:size]


def test_a_sample_is_recorded_and_drawn_again_by_whoever_says_nothing_else(world: World) -> None:
    others = [line.id for line in read_lines(world.lines) if line.id not in SPOILT]
    assert len(exported(world)) == 20, "200 where nobody said anything, and there are 17"
    drawn = smallest(others, 5, 3)
    assert set(exported(world, "--sample", 5, "--seed", 3)) == {*SPOILT, *drawn}
    assert record(world) == {"schema": 1, "size": 5, "seed": 3, "ids": drawn}
    written = sample_path(world.lines).stat()
    assert set(exported(world)) == {*SPOILT, *drawn}
    assert set(exported(world, "--sample", 0)) == {*SPOILT}, "none, and the sample stays"
    assert sample_path(world.lines).stat() == written
    more = exported(world, "--sample", 9)
    assert set(more) == {*SPOILT, *smallest(others, 9, 3)}
    assert {*drawn} < {*more}
    other = exported(world, "--seed", 4)
    assert set(other) == {*SPOILT, *smallest(others, 9, 4)}
    assert set(other) != set(more)
    assert [name for name in others if name in other] == [x for x in other if x not in SPOILT]


def test_every_line_without_a_flag_is_as_likely_as_every_other(world: World) -> None:
    lines, times = read_lines(world.lines), 340
    drawn = Counter(
        name for seed in range(times) for name in draw_sample(lines, SPOILT, None, 5, seed).ids
    )
    assert len(drawn) == 17
    assert drawn.total() == 5 * times
    p = 5 / 17
    assert all(abs(n - times * p) < 4 * (times * p * (1 - p)) ** 0.5 for n in drawn.values())


def test_of_lines_that_changed_the_sample_changes_by_those_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = exported(world, "--sample", 6)
    assert exported(world) == before
    assert "the sample has" not in capsys.readouterr().out
    drawn = record(world)["ids"]
    lines = read_lines(world.lines)
    gone = next(line.row for line in lines if line.id == drawn[0])
    kept = [line for line in lines if line.row != gone]
    bad = next(name for name in drawn if not name.startswith(f"{gone}/"))
    spoilt = [replace(line, target="好。") if line.id == bad else line for line in kept]
    new = [replace(kept[0], id=f"{n}/question", row=n) for n in range(10, 20)]
    write_lines(world.lines, [*spoilt, *new])
    names = exported(world)
    assert "lines or their flags are not what they were" in capsys.readouterr().out
    flagged = {*SPOILT, bad}
    others = [line.id for line in (*kept, *new) if line.id not in flagged]
    now = smallest(others, 6, 0)
    assert set(names) == {line.id for line in kept if line.id in flagged} | set(now)
    assert record(world)["ids"] == now
    sample = read_sample(world.lines)
    assert sample == draw_sample([*kept, *new], flagged, sample)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 99, "size": 1, "seed": 0, "ids": []}']
)
def test_a_damaged_record_is_refused_and_says_what_to_do(
    world: World, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    sample_path(world.lines).write_text(text, encoding="utf-8")
    assert review("export", world.lines, world.lines.with_name("a.csv")) == 2
    told = capsys.readouterr().err
    assert "out.json.sample.json" in told
    assert "remove it" in told


def test_what_is_refused_leaves_the_record_as_it_was(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(world, "--sample", 4)
    before = sample_path(world.lines).read_bytes()
    target = world.lines.with_name("a.csv")
    assert review("export", world.lines, target, "--sample", 9, "--part", "3/2") == 2
    with closing(Session(read_lines(world.lines), {}, log_path(world.lines), "Ann")):
        assert review("serve", world.lines, "--sample", 9) == 2
    assert "another process" in capsys.readouterr().err
    assert sample_path(world.lines).read_bytes() == before


def test_a_sample_of_less_than_nothing_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert review("export", world.lines, world.lines.with_name("a.csv"), "--sample", -1) == 2
    assert "not the size of a sample" in capsys.readouterr().err
    assert not sample_path(world.lines).exists()


def rated(world: World) -> dict[str, Any]:
    assert review("rate", world.lines) == 0
    found: dict[str, Any] = json.loads(Path(f"{world.out}.rate.json").read_text("utf-8"))
    return found


def test_what_the_checks_miss_is_told_by_the_sample_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(world, "--sample", 4)
    drawn = record(world)["ids"]
    beside = [line.id for line in read_lines(world.lines) if line.id not in {*SPOILT, *drawn}]
    told = {"1/answer": "rejected", "4/question": "rejected", "6/answer": "accepted"}
    told |= {drawn[0]: "accepted", drawn[1]: "edited:好", drawn[2]: "accepted"}
    told |= dict.fromkeys(beside[:5], "rejected")  # looked for, and not drawn
    decide(world, **{f"_{name.replace('/', '_')}": status for name, status in told.items()})
    capsys.readouterr()
    rate = rated(world)
    said = " ".join(capsys.readouterr().out.split())
    assert (rate["reviewed"], rate["statuses"]["rejected"]["count"]) == (11, 7)
    assert (rate["flagged"]["count"], rate["flagged"]["of"]) == (2, 3)
    assert (rate["unflagged"]["count"], rate["unflagged"]["of"]) == (1, 3)
    assert (rate["drawn"], rate["beside"]) == (4, 5)
    # 3 lines have flags and 17 have none: 3 · 2/3 = 2 and 17 · 1/3 would be changed
    assert rate["changed"] == pytest.approx((2 + 17 / 3) / 20)
    assert rate["missed"] == pytest.approx((17 / 3) / (2 + 17 / 3))
    assert "no flag, of the sample" in said
    assert "3 of the 4 lines of the sample reviewed; 5 more lines without a flag" in said
    sample_path(world.lines).unlink()  # as of a review from before: all are taken as if drawn
    rate = rated(world)
    said = " ".join(capsys.readouterr().out.split())
    assert (rate["unflagged"]["count"], rate["unflagged"]["of"]) == (6, 8)
    assert (rate["drawn"], rate["beside"]) == (None, 0)
    assert rate["changed"] == pytest.approx((2 + 17 * 6 / 8) / 20)
    assert "no flag, no sample was drawn: of all" in said
    assert "lines of the sample" not in said


def test_without_a_reviewed_line_of_the_sample_the_whole_file_is_not_known(world: World) -> None:
    exported(world, "--sample", 1)
    name = next(
        x.id for x in read_lines(world.lines) if x.id not in {*SPOILT, *record(world)["ids"]}
    )
    decide(world, _1_answer="accepted", **{f"_{name.replace('/', '_')}": "rejected"})
    rate = rated(world)
    assert (rate["unflagged"]["of"], rate["beside"]) == (0, 1)
    assert rate["changed"] is rate["missed"] is None


def test_parts_are_the_whole_and_no_row_is_torn(world: World) -> None:
    whole = exported(world, "--sample", 9)
    parts = [exported(world, "--part", f"{k}/3") for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert all(part == [name for name in whole if name in part] for part in parts)  # in order
    decide(world, _1_answer="edited:好", _0_question="accepted", _6_answer="rejected")
    assert [exported(world, "--part", f"{k}/3") for k in (1, 2, 3)] == parts, "as people review"


def test_parts_of_any_lines_are_equal_but_for_one_row() -> None:
    chance = random.Random(5)
    for _ in range(50):
        fields = ("question", "question2", "answer")
        lines = [
            Line(f"{row}/{field}", row, field, "s", "", "t", "machine")
            for row in range(chance.randint(0, 40))
            for field in chance.sample(fields, chance.randint(1, 3))
        ]
        count = chance.randint(1, 9)
        parts = [take_part(lines, f"{k}/{count}") for k in range(1, count + 1)]
        assert sorted(line.id for part in parts for line in part) == sorted(x.id for x in lines)
        rows = [row for part in parts for row in {line.row for line in part}]
        assert len(rows) == len(set(rows))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 3
        assert take_part(lines, "1/1") == lines


@pytest.mark.parametrize("part", ["0/3", "4/3", "1/0", "1", "a/b", "1/2/3", "-1/2", "1.5/2", "/"])
def test_what_is_no_part_is_refused(
    world: World, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    target = world.lines.with_name("a.csv")
    assert review("export", world.lines, target, f"--part={part}") == 2
    assert "k/n with k from 1 to n" in capsys.readouterr().err
    assert not target.exists()
    with pytest.raises(RedVillmError, match="not a part"):
        take_part([], part)
