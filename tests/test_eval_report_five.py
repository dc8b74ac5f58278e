"""The five aspects side by side: whoever was judged for some of them has a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_runs import MODEL, answer_rows, build, cells, one, save_judged, scored
from rich.console import Console

from eval.judges.base import Verdict
from eval.report.build import NamedRun, Part, terminal_table
from features.config import Aspect

GENERIC, TEMPORAL, PAIRS = (Part("vcgbench", s) for s in ("generic", "temporal", "consistency"))
PARTS = (GENERIC, TEMPORAL, PAIRS)


def judged(
    run: Path,
    generic: Sequence[float] | None,
    temporal: Sequence[float] | None,
    pairs: Sequence[float] | None,
) -> Path:
    """A run with these scores of three, one and one aspects; two questions a video."""
    if generic is not None:
        rows = answer_rows(["red"] * len(generic), types=("",))
        judge, three = [(MODEL, scored(generic))], ("correctness", "detail", "context")
        save_judged(run, rows, part=GENERIC, aspects=three, judges=judge)
    if temporal is not None:
        rows = answer_rows(["red"] * len(temporal), types=("",))
        judge = [(MODEL, scored(temporal))]
        save_judged(run, rows, part=TEMPORAL, aspects=["temporal"], judges=judge)
    if pairs is not None:
        rows = answer_rows(["red"] * len(pairs), types=("",), pairs=True)
        judge = [(MODEL, scored(pairs))]
        save_judged(run, rows, part=PAIRS, aspects=["consistency"], judges=judge)
    return run


def test_the_five_aspects_have_both_averages(tmp_path: Path) -> None:
    generic, temporal, pairs = PARTS
    aspects: list[Aspect] = ["correctness", "detail", "context"]
    rows, few = answer_rows(["red"] * 4, types=("",)), answer_rows(["red"] * 2, types=("",))

    def three(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", None, float(aspects.index(aspect) + 1))

    run = tmp_path / "r"
    save_judged(run, rows, part=generic, aspects=aspects, judges=[(MODEL, three)])
    save_judged(run, few, part=temporal, aspects=["temporal"], judges=[(MODEL, scored([4, 5]))])
    half = build([one("r", run)], tmp_path / "out", generic, temporal)
    assert half["five"] == []
    twice = answer_rows(["red"] * 2, types=("",), pairs=True)
    save_judged(run, twice, part=pairs, aspects=["consistency"], judges=[(MODEL, scored([0, 1]))])
    report = build([one("r", run)], tmp_path / "out", generic, temporal, pairs)
    (five,) = report["five"]
    (row,) = five["rows"]
    scores = {aspect: score["score"] for aspect, score in row["aspects"].items()}
    assert scores == {
        "correctness": 1,
        "detail": 2,
        "context": 3,
        "temporal": 4.5,
        "consistency": 0.5,
    }
    assert row["mean_of_aspects"]["mean"] == 2.2  # (1 + 2 + 3 + 4.5 + 0.5) / 5
    assert row["question_weighted"]["mean"] == 2.125  # (4 * 6 + 9 + 1) / 16
    assert all(table["rows"][0]["all"]["accuracy"] is None for table in report["tables"])
    text = (tmp_path / "out/report.md").read_text("utf-8")
    found = cells(text, "### vcgbench, the five aspects")[1]
    assert [cell.split()[0] for cell in found[-2:]] == ["2.20", "2.12"]
    assert "RED-VILLM | LLaVA-7B | 2.57 | 2.64 | 3.13 | 2.21 | 2.39" in text
    console = Console(record=True, width=300, file=io.StringIO())
    console.print(terminal_table(report))
    text = console.export_text()
    assert "4.50" in text
    assert "4.50 [" not in text  # one video has no spread


def test_a_run_that_was_not_judged_for_all_five_has_a_row_and_no_mean(tmp_path: Path) -> None:
    runs = [
        one("order", judged(tmp_path / "o", None, [4, 5], None)),
        NamedRun("most", (judged(tmp_path / "m", [1, 2, 3, 4], [4, 5], None), tmp_path / "never")),
        one("whole", judged(tmp_path / "w", [1, 2, 3, 4], [4, 5], [1, 2])),
    ]
    report = build(runs, tmp_path / "out", *PARTS, compare=[("most", "whole"), ("whole", "most")])
    assert report["run_order"] == ["order", "most", "whole"]
    (five,) = report["five"]
    order, most, whole = five["rows"]  # in the order of runs, whichever table has them
    assert (order["name"], list(order["aspects"])) == ("order", ["temporal"])
    assert order["missing"] == ["correctness", "detail", "context", "consistency"]
    assert (most["name"], most["seeds"], most["of_seeds"]) == ("most", 1, 2)
    assert most["missing"] == ["consistency"]
    assert set(most["aspects"]) == {"correctness", "detail", "context", "temporal"}
    assert most["aspects"]["temporal"]["score"] == 4.5
    nothing = {"mean": None, "low": None, "high": None}
    assert most["mean_of_aspects"] == most["question_weighted"] == nothing
    assert whole["missing"] == []
    assert whole["mean_of_aspects"]["mean"] == 2.7  # (3 * 2.5 + 4.5 + 1.5) / 5
    assert [(d["mean_of_aspects"], d["excludes_zero"]) for d in five["differences"]] == [
        (nothing, None)
    ] * 2
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "- Run most: not judged for: consistency." in text
    head, _, first, *_ = cells(text, "### vcgbench, the five aspects")
    assert head[:2] == ["run", "seeds"]
    assert first[:2] == ["most", "1 of 2"]
    assert first[6:] == ["\N{EN DASH}"] * 3
    console = Console(record=True, width=300, file=io.StringIO())
    console.print(terminal_table(report))
    shown = console.export_text()
    assert "2.50 [1.50..3.50] (1 of 2 seeds)" in shown
    assert "4.50" in shown


def test_a_run_whose_aspect_is_withheld_has_no_mean(tmp_path: Path) -> None:
    def half(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        if number:
            return Verdict(row["sample_id"], aspect, "refused")
        return Verdict(row["sample_id"], aspect, "ok", None, 5.0)

    run = judged(tmp_path / "r", [1, 2, 3, 4], [4, 5], None)
    rows = answer_rows(["red"] * 2, types=("",), pairs=True)
    save_judged(run, rows, part=PAIRS, aspects=["consistency"], judges=[(MODEL, half)])
    (five,) = build([one("r", run)], tmp_path / "out", *PARTS)["five"]
    (row,) = five["rows"]
    assert row["missing"] == []
    assert row["aspects"]["consistency"]["score"] is None
    assert row["mean_of_aspects"]["mean"] is None
    assert row["question_weighted"]["mean"] is None


def test_the_means_of_two_runs_are_compared_pair_by_pair(tmp_path: Path) -> None:
    runs = [
        one("good", judged(tmp_path / "g", [3, 3, 5, 5], [4, 4, 5, 5], [2, 2, 3, 3])),
        one("poor", judged(tmp_path / "p", [1, 1, 4, 4], [4, 4, 4, 4], [1, 1, 1, 1])),
    ]
    compare = [("good", "poor"), ("good", "good")]
    report = build(runs, tmp_path / "out", *PARTS, compare=compare)
    (five,) = report["five"]
    found, itself = five["differences"]
    # Video 0: generic 2, temporal 0, pairs 1; video 1: 1, 1, 2. With two videos the interval
    # reaches from the mean in the one, (3 * 2 + 0 + 1) / 5, to that in the other, (3 + 1 + 2) / 5.
    assert (found["a"], found["b"]) == ("good", "poor")
    wanted = {"mean": 1.3, "low": 1.2, "high": 1.4}
    assert found["mean_of_aspects"] == pytest.approx(wanted)
    assert found["excludes_zero"] is True
    assert itself["mean_of_aspects"] == {"mean": 0, "low": 0, "high": 0}
    assert itself["excludes_zero"] is False
    text = (tmp_path / "out/report.md").read_text("utf-8")
    row = cells(text, "### Of the mean of the five aspects")[1]
    assert row[0] == "good \N{MINUS SIGN} poor"
    assert row[3] == "1.30 [1.20, 1.40]"
