"""The report's tables and files, from evaluation folders written here by hand."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_runs import (
    MODEL,
    OFFLINE,
    TEST,
    answer_rows,
    build,
    cells,
    exactly,
    one,
    save_judged,
    scored,
)
from rich.console import Console

from eval.judges.base import Verdict
from eval.report.build import NamedRun, Part, terminal_table
from eval.report.markdown import plain
from features.config import Aspect
from features.errors import RedVillmError
from train.loggers import make_loggers

EVIL = '<script>alert("x")</script>&amp;<img src=x onerror=alert(1)>|\n[a](javascript:x) \\` *b*'
RED, HALF = ["red"] * 8, ["red", "no", "red", "red", "no", "no", "red", "red"]


def test_report_json_has_the_numbers(tmp_path: Path) -> None:
    # By type (spatial, temporal), two questions a video; "b"'s second seed is right everywhere.
    seeds = [save_judged(tmp_path / f"b{i}", answer_rows(p)) for i, p in enumerate((HALF, RED))]
    runs = [one("a", save_judged(tmp_path / "a0", answer_rows(HALF))), NamedRun("b", tuple(seeds))]
    out = tmp_path / "out"
    report = build(runs, out, compare=[("b", "a")], seconds={"train": 1.26})
    assert report == json.loads((out / "report.json").read_text("utf-8"))
    assert report["judge"] == "offline-em-f1-2"
    assert report["split"] == "test"
    assert report["seconds"] == {"train": 1.3}
    assert report["fingerprints"].items() >= {
        ("checkpoint of a", "c-a0"),
        ("checkpoint of b (seed 1)", "c-b0"),
        ("checkpoint of b (seed 2)", "c-b1"),
        ("base", "b"),
        ("spec", "s"),
        ("features", "f"),
        ("annotations", "a1"),
        ("judge offline-em-f1-2", OFFLINE.digest),
    }
    (table,) = report["tables"]
    assert report["rows"] == table["rows"]
    assert (table["dataset"], table["split"], table["aspect"]) == ("demo", "test", "qa")
    assert table["judge_slug"] == OFFLINE.slug
    a, b = table["rows"]
    assert (a["name"], a["seeds"], b["name"], b["seeds"]) == ("a", 1, "b", 2)
    assert {k: v["accuracy"] for k, v in a["types"].items()} == {"spatial": 75, "temporal": 50}
    assert b["types"]["temporal"]["accuracy"] == 75
    assert b["all"]["accuracy"] == 81.25
    assert b["all"]["score"] == 4.062  # of 5, rounded half to even
    assert a["all"]["exact"] == 62.5
    assert (a["macro"], b["macro"]) == (62.5, 81.25)
    for row in (a, b):
        for score in row["types"].values():
            assert {"asked": 4, "judged": 4, "lost": 0}.items() <= score.items()
            assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 100
    points = {d["type"]: d["points"] for d in table["differences"]}
    assert points == {"spatial": 12.5, "temporal": 25, "all": 18.75}
    assert report["cost"][1] == {
        "run": "b",
        "dataset": "demo",
        "split": "test",
        "judge": "offline-em-f1-2",
        "generate_s": 5.0,
        "new_tokens": 2 * 8 * 3,
        "truncated": 2,
        "judge_prompt_tokens": 0,
        "judge_completion_tokens": 0,
    }


def test_lost_questions_take_the_numbers_away_but_not_the_counts(tmp_path: Path) -> None:
    lost = ["red", "red", None, None, "red", "red"]
    runs = [
        one("good", save_judged(tmp_path / "g", answer_rows(["red"] * 6))),
        one("bad", save_judged(tmp_path / "b", answer_rows(lost))),
    ]
    report = build(runs, tmp_path / "out", compare=[("bad", "good")])
    bad = report["rows"][1]
    numbers = ("accuracy", "low", "high", "score", "score_low", "score_high", "exact", "f1")
    assert {bad["types"]["spatial"][key] for key in numbers} == {None}
    assert {"asked": 3, "judged": 2, "lost": 1}.items() <= bad["types"]["spatial"].items()
    assert bad["lost"] == {"truncated": 2}
    assert bad["macro"] is None
    assert "only 4 of 6 questions were judged" in bad["refused"]
    assert {(d["points"], d["score"]) for d in report["differences"]} == {(None, None)}
    assert "only 4 of 6 questions were judged" in (tmp_path / "out/report.md").read_text("utf-8")
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(terminal_table(report))
    text = console.export_text()
    assert "\N{EN DASH} (2 of 3 judged)" in text
    assert "100.0 [100.0..100.0]" in text
    assert "offline-em-f1-2" in text


def test_types_by_number_get_names(tmp_path: Path) -> None:
    rows = answer_rows(RED, types=("0", "1"))
    run = save_judged(tmp_path / "r", rows, type_names=["object", "number"])
    assert list(build([one("r", run)], tmp_path / "out")["rows"][0]["types"]) == [
        "number",
        "object",
    ]


def test_a_type_without_numbers_has_its_counts_and_no_difference(tmp_path: Path) -> None:
    def failing(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        if number in (2, 4):
            return Verdict(row["sample_id"], aspect, "refused" if number == 2 else "api_failure")
        return exactly(number, row, aspect)

    rows = answer_rows(HALF, types=("spatial", "temporal", "temporal", "temporal"))
    runs = [
        one("all", save_judged(tmp_path / "a", rows, judges=[(MODEL, exactly)])),
        one("few", save_judged(tmp_path / "f", rows, judges=[(MODEL, failing)])),
    ]
    # Judged: of temporal 5 of 6, of spatial 1 of 2, of all 6 of 8.
    report = build(runs, tmp_path / "out", compare=[("few", "all")], min_coverage=0.75)
    row = report["rows"][1]
    assert row["refused"] is None
    assert row["all"]["accuracy"] == 66.67
    assert row["types"]["temporal"]["accuracy"] == 60
    spatial = row["types"]["spatial"]
    assert (spatial["accuracy"], spatial["score"], spatial["exact"]) == (None, None, None)
    assert (spatial["asked"], spatial["judged"]) == (2, 1)
    assert row["macro"] is None
    differences = {d["type"]: (d["points"], d["excludes_zero"]) for d in report["differences"]}
    assert differences == {"spatial": (None, None), "temporal": (0, False), "all": (0, False)}
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "\n- Run few: no numbers for spatial (1 of 2 judged).\n" in text
    with (tmp_path / "out/report.csv").open(newline="", encoding="utf-8") as file:
        failures = {(line["run"], line["type"]): line["failures"] for line in csv.DictReader(file)}
    assert failures["few", "all"] == "api_failure:1;refused:1"
    assert failures["few", "temporal"] == "refused:1"
    assert failures["all", "all"] == ""


def test_zero_is_excluded_before_rounding(tmp_path: Path) -> None:
    def a_little(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        return Verdict(row["sample_id"], aspect, "ok", None, 2.0001)

    rows = answer_rows(RED)
    save = {"part": TEST, "aspects": ["detail"]}
    runs = [
        one("a", save_judged(tmp_path / "a", rows, judges=[(MODEL, a_little)], **save)),
        one("b", save_judged(tmp_path / "b", rows, judges=[(MODEL, scored([2] * 8))], **save)),
    ]
    found = build(runs, tmp_path / "out", compare=[("a", "b")])["differences"][-1]
    assert (found["score"], found["score_low"], found["excludes_zero"]) == (0, 0, True)


def test_one_type_stands_for_all_only_where_it_is_all(tmp_path: Path) -> None:
    def heads(name: str, *types: str) -> tuple[dict[str, Any], list[str], str]:
        run = save_judged(tmp_path / name, answer_rows(HALF, types=types))
        report = build([one("r", run)], tmp_path / name)
        text = (tmp_path / name / "report.md").read_text("utf-8")
        console = Console(record=True, width=200, file=io.StringIO())
        console.print(terminal_table(report))
        shown = [
            head.removesuffix(" %, offline-em-f1-2") for head in cells(text, "### demo, test")[0]
        ]
        return report["rows"][0], shown[2:-3], console.export_text()

    row, shown, terminal = heads("whole", "what")
    assert (row["covers_all"], shown) == (True, ["what"])
    assert " all " not in terminal
    for name, other in (("untyped", ""), ("called-all", "all")):
        row, shown, terminal = heads(name, "what", other)
        assert (row["covers_all"], shown, row["macro"]) == (False, ["what", "all"], None)
        assert row["types"]["what"]["asked"] == 4
        assert row["all"]["asked"] == 8
        assert " all " in terminal
    row, shown, _ = heads("none", "")
    assert (row["covers_all"], shown) == (True, ["all"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("snake_case __init__", r"snake\_case \_\_init\_\_"),
        ("~~gone~~ ~x~", r"\~\~gone\~\~ \~x\~"),
        ("*a* **b**", r"\*a\* \*\*b\*\*"),
        ("`code` \\", r"\`code\` \\"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("a|b", r"a\|b"),
        ("[a](b) ![c](d)", r"\[a]\(b) !\[c]\(d)"),
        ("[a]: b", r"\[a]\: b"),
        ("[1](b) [1][2]", r"[1]\(b) [1]\[2]"),
        ("50.0 [40.0, 60.0] [-1.0, 2.0]", "50.0 [40.0, 60.0] [-1.0, 2.0]"),
        ("two\nlines\r\n| x |", r"two lines \| x \|"),
    ],
)
def test_no_text_is_markup_in_markdown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_without_types_there_is_one_column(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(HALF, types=("",)))
    (row,) = build([one("r", run)], tmp_path / "out")["rows"]
    assert row["types"] == {"all": row["all"]}
    assert row["macro"] is None


def test_a_run_has_rows_where_it_was_evaluated_and_says_how_many_of_its_seeds(
    tmp_path: Path,
) -> None:
    val, unborn = Part("demo", "val"), tmp_path / "unborn"
    everywhere = save_judged(tmp_path / "a", answer_rows(RED))
    save_judged(everywhere, answer_rows(HALF), part=val, annotations="a2")
    begun = save_judged(tmp_path / "begun", answer_rows(RED))
    next(begun.rglob("summary.json")).unlink()
    runs = [
        one("a", everywhere),
        one("unborn", unborn),
        one("begun", begun),
        NamedRun("two", (unborn, save_judged(tmp_path / "b", answer_rows(HALF)))),
    ]
    out = tmp_path / "out"
    test, on_val = build(runs, out, TEST, val, Part("demo", "never"))["tables"]
    named = [(row["name"], row["seeds"], row["of_seeds"]) for row in test["rows"]]
    assert named == [("a", 1, 1), ("two", 1, 2)]
    assert test["rows"][1]["all"]["accuracy"] == 62.5
    assert [row["name"] for row in on_val["rows"]] == ["a"]
    assert cells((out / "report.md").read_text("utf-8"), "### demo, test")[2][:2] == [
        "two",
        "1 of 2",
    ]


def test_judges_never_share_a_table_and_their_agreement_is_said(tmp_path: Path) -> None:
    def other(number: int, row: dict[str, Any], aspect: Aspect) -> Verdict:
        right = number < 4
        return Verdict(row["sample_id"], aspect, "ok", right, 4.0 if right else 1.0, "said", "", 7)

    judges = [(OFFLINE, exactly), (MODEL, other)]
    run = save_judged(tmp_path / "r", answer_rows(HALF), judges=judges)
    report = build([one("r", run)], tmp_path / "out")
    labels = ["offline-em-f1-2", "some-model-2026 (rubric abababab)"]
    assert [table["judge"] for table in report["tables"]] == labels
    assert [table["rows"][0]["all"]["accuracy"] for table in report["tables"]] == [62.5, 50]
    (agreed,) = report["agreement"]
    # They differ on questions 1, 6 and 7. Expected by chance: (5 * 4 + 3 * 4) / 64 = 1/2.
    assert (agreed["run"], agreed["a"], agreed["b"]) == ("r", *labels)
    assert (agreed["questions"], agreed["same"]) == (8, 62.5)
    assert agreed["kappa"] == 0.25
    assert agreed["score_gap"] == 0.625
    assert [one["judge_prompt_tokens"] for one in report["cost"]] == [0, 56]
    _, first, second, *_ = cells((tmp_path / "out/report.md").read_text("utf-8"), "## Cost")
    assert first[3:] == ["2.5", "24", "1", "0", "0"]
    assert second[3:] == ["", "", "", "56", "0"]  # said once: it was answered once
    heads = cells((tmp_path / "out/report.md").read_text("utf-8"), "### demo, test")[0]
    assert all("offline-em-f1-2" in head or "no judge" in head for head in heads[2:])
    alone = build([one("r", run)], tmp_path / "out", judges=[MODEL.slug])
    assert [table["judge_slug"] for table in alone["tables"]] == [MODEL.slug]
    assert alone["agreement"] == []


def test_judges_of_one_name_are_told_apart(tmp_path: Path) -> None:
    warm = replace(MODEL, temperature=1.0)
    run = save_judged(tmp_path / "r", answer_rows(RED), judges=[(MODEL, exactly), (warm, exactly)])
    report = build([one("r", run)], tmp_path / "out")
    slugs = [table["judge_slug"] for table in report["tables"]]
    assert set(slugs) == {MODEL.slug, warm.slug}
    assert [table["judge"] for table in report["tables"]] == [
        f"some-model-2026 (rubric abababab), {slug[-8:]}" for slug in slugs
    ]


def test_csv_and_markdown_parse_back_to_the_same_numbers(tmp_path: Path) -> None:
    runs = [
        one(EVIL, save_judged(tmp_path / "1", answer_rows(HALF))),
        one("lost", save_judged(tmp_path / "2", answer_rows([*RED[:7], None]))),
    ]
    out = tmp_path / "out"
    report = build(runs, out)
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    wanted = [
        (row["name"], kind, score)
        for row in report["rows"]
        for kind, score in (row["types"] | {"all": row["all"]}).items()
    ]
    assert [(line["run"], line["type"]) for line in lines] == [(n, k) for n, k, _ in wanted]
    assert {(line["seeds"], line["of_seeds"], line["judge_slug"]) for line in lines} == {
        ("1", "1", OFFLINE.slug)
    }
    assert [line["macro"] for line in lines] == ["", "", "62.5", "", "", ""]
    assert [line["refused"] for line in lines] == [""] * 3 + [report["rows"][1]["refused"]] * 3
    for line, (_, _, score) in zip(lines, wanted, strict=True):
        assert (line["dataset"], line["split"], line["aspect"]) == ("demo", "test", "qa")
        assert line["judge"] == "offline-em-f1-2"
        for key in ("asked", "accuracy", "low", "high", "score", "score_high", "exact", "f1"):
            assert (float(line[key]) if line[key] else None) == score[key]
    text = (out / "report.md").read_text("utf-8")
    head, first, second = cells(text, "### demo, test")
    assert [name.split()[0] for name in head[2:5]] == ["spatial", "temporal", "all"]
    total = report["rows"][0]["all"]
    shown = f"{total['accuracy']:.1f} [{total['low']:.1f}, {total['high']:.1f}]"
    assert first[4] == shown
    assert second[2:5] == ["\N{EN DASH}"] * 3
    assert "<script" not in text
    assert "\n- Run lost: no score: only 7 of 8 questions were judged" in text
    assert "<img" not in text
    assert "](javascript" not in text
    for block in text.split("\n\n"):
        if block.startswith("| "):  # nothing in a cell ends it
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_curves_come_from_the_runs_own_log(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(RED))
    history = [
        {"loss": 2.0 - step / 2000, "lr": 1e-5} | ({"val_loss": 3.0} if step % 400 == 0 else {})
        for step in range(1, 1201)
    ]
    for logger in make_loggers(run, None, history):
        logger.save()
    log = run / "logs" / "metrics.csv"
    log.write_text(log.read_text() + "1.25,0.0")  # the training goes on
    runs = [one("r", run), one("untuned", save_judged(tmp_path / "u", answer_rows(RED)))]
    curves = build(runs, tmp_path / "out")["curves"]
    assert list(curves) == ["r"]
    curve = curves["r"]
    assert 400 <= len(curve["step"]) <= 500
    assert curve["step"] == sorted(set(curve["step"]))
    assert (curve["step"][0], curve["step"][-1]) == (1, 1200)
    assert curve["loss"] == pytest.approx([2.0 - step / 2000 for step in curve["step"]])
    assert {s for s, v in zip(curve["step"], curve["val"], strict=True) if v == 3.0} == {
        400,
        800,
        1200,
    }


@pytest.mark.parametrize(
    ("rows", "meta", "message"),
    [
        (answer_rows(RED), {"annotations": "a2"}, "different annotations"),
        (answer_rows(RED, prefix="x"), {}, "answered other questions"),
        (answer_rows(RED)[:-1], {}, "answered other questions"),
    ],
)
def test_what_cannot_be_compared_is_left_out_and_said(
    tmp_path: Path, rows: list[dict[str, Any]], meta: dict[str, str], message: str
) -> None:
    runs = [
        one("one", save_judged(tmp_path / "1", answer_rows(RED))),
        one("two", save_judged(tmp_path / "2", rows, **meta)),
    ]
    report = build(runs, tmp_path / "out")
    assert [row["name"] for row in report["rows"]] == ["one"]
    (warning,) = report["warnings"]
    assert warning.startswith("left out: two, seed 1")
    assert message in warning
    assert message in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    run = one("one", save_judged(tmp_path / "1", answer_rows(RED)))
    with pytest.raises(RedVillmError, match="distinct names"):
        build([run, run], tmp_path / "out")
    with pytest.raises(RedVillmError, match="no such run to compare"):
        build([run], tmp_path / "out", compare=[("one", "two")])
    with pytest.raises(RedVillmError, match="nothing was evaluated"):
        build([run], tmp_path / "out", Part("demo", "val"))
    (tmp_path / "1/eval/demo/test/predictions.jsonl").write_text("")
    with pytest.raises(RedVillmError, match="changed after they were judged"):
        build([run], tmp_path / "out")
