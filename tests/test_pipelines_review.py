"""`review check|export|import|rate|finish` as they are typed."""

# ruff: noqa: RUF001

from __future__ import annotations

import csv
import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from review_world import EVIL, WHEN, World, decide, faultless, make_world, review

from eval.folders import prediction_row, read_rows
from eval.words import converter
from features.annotations import QASample, load_annotations, write_qa_pairs
from features.config import SplitConfig
from features.errors import RedVillmError
from features.translation import Translation, read_translation, write_translation
from pipelines.review_commands import ImportOptions, run_import
from pipelines.translate import review_forms, scripts
from pipelines.translate.checks import Flag
from pipelines.translate.decisions import Decision
from pipelines.translate.files import Document, read_document
from pipelines.translate.lines import Line, lines_path, read_lines, write_lines
from pipelines.translate.review_forms import read_decisions
from pipelines.translate.review_rate import edit_rate, wilson
from pipelines.translate.review_session import Session

SPOILT = {"1/answer": "好。", "4/question": None, "6/answer": EVIL}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, spoilt=SPOILT)


def test_check_counts_flags_by_check_and_keeps_them(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert review("check", world.lines) == 0
    told = capsys.readouterr().out
    flags = [json.loads(row) for row in Path(f"{world.out}.flags.jsonl").read_text().splitlines()]
    assert {flag["id"] for flag in flags} == set(SPOILT)
    assert {flag["check"] for flag in flags if flag["id"] == "4/question"} == {"empty"}
    assert {"id", "check", "reason"} == set(flags[0])
    rows = {row.split()[1]: row.split()[3] for row in told.splitlines() if row.startswith("│")}
    assert rows["empty"] == "1"
    assert rows["loop"] == "0"
    assert f"{len(flags)} flags on 3 of 20 lines" in told


def test_check_takes_a_glossary(world: World, tmp_path: Path) -> None:
    terms = tmp_path / "terms.tsv"
    terms.write_text("window\t窗户\n", encoding="utf-8")
    assert review("check", world.lines, "--glossary", terms) == 0
    flags = [json.loads(row) for row in Path(f"{world.out}.flags.jsonl").read_text().splitlines()]
    unused = {flag["id"] for flag in flags if flag["check"] == "glossary"}
    lines = read_lines(world.lines)
    assert unused == {line.id for line in lines if "window" in line.source and line.target}
    assert unused


def test_export_takes_the_flagged_and_the_same_sample_each_time(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv", "all.csv", "tasks.json")]
    for path, args in zip(
        paths, (["5", "0"], ["5", "0"], ["5", "1"], ["500", "0"], ["0", "0"]), strict=True
    ):
        assert review("export", world.lines, path, "--sample", args[0], "--seed", args[1]) == 0
    taken = []
    for path in paths[:4]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            taken.append([row["id"] for row in csv.DictReader(file)])
    ids = [line.id for line in read_lines(world.lines)]
    assert [len(names) for names in taken] == [8, 8, 8, 20]
    assert taken[0] == taken[1] != taken[2]
    assert all(set(SPOILT) <= set(names) for names in taken)
    assert all(names == [name for name in ids if name in names] for names in taken)  # in order
    assert len(json.loads(paths[4].read_text(encoding="utf-8"))) == 3
    assert '<TextArea name="target"' in capsys.readouterr().out


def test_the_sample_stays_while_people_review(world: World, tmp_path: Path) -> None:
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    assert review("export", world.lines, before, "--sample", 5) == 0
    decide(world, _1_answer="edited:这个好", _4_question="edited:什么", _0_answer="edited:好。")
    assert review("export", world.lines, after, "--sample", 5) == 0
    names = [[json.loads(row)["id"] for row in p.read_text().splitlines()] for p in (before, after)]
    assert names[0] == names[1]


def test_an_import_that_fails_changes_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = tmp_path / "back.jsonl", world.lines.read_bytes()
    line = read_lines(world.lines)[0]
    good = {"id": line.id, "source": line.source, "target": "好", "status": "edited"}
    rows = [good | {"reviewer": "A"}, good | {"reviewer": "A", "source": "other"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert review("import", world.lines, path) == 2
    assert "back.jsonl, line 2" in capsys.readouterr().err
    assert world.lines.read_bytes() == before


def test_finish_writes_videoinstruct_that_our_reader_reads_with_provenance(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    decide(
        world,
        _0_question="accepted",
        _0_answer="edited:好答案",
        _1_answer="rejected",
        _4_question="edited:问什么？",
    )
    assert review("finish", world.lines, world.source) == 0
    assert "9 of 10 rows, 1 left out" in capsys.readouterr().out
    samples = load_annotations(SplitConfig("videoinstruct", world.out))
    assert [sample.video_id for sample in samples] == [f"v{n}" for n in range(10) if n != 1]
    lines = {line.id: line for line in read_lines(world.lines)}
    assert samples[0].answer == "好答案"
    assert samples[3].question == "问什么？"
    assert samples[1].question == lines["2/question"].target
    first = json.loads(world.out.read_text(encoding="utf-8"))[0]["provenance"]
    told = {"engine": "pseudo", "reviewer": "Ann", "reviewed": WHEN}
    source = json.loads(world.source.read_text(encoding="utf-8"))[0]
    assert first == {
        "question": told | {"source": source["q"], "status": "accepted"},
        "answer": told
        | {"source": source["a"], "status": "edited", "machine": faultless(source["a"])},
    }
    record = read_translation(world.out)
    assert record is not None
    assert (record.lines, record.reviewed, record.failed) == (18, 3, 0)  # of the rows in it
    before = world.out.read_bytes()
    assert review("finish", world.lines, world.source) == 0
    assert world.out.read_bytes() == before


def translated(document: Document, out: Path, *more: Path, what: Any = "annotations") -> Path:
    """As the translator leaves a file; every text is a word of its own."""
    lines = [
        Line(*(text.id, text.row, text.field, text.source, text.context), f"译{n}", "machine")
        for n, text in enumerate(document.texts)
    ]
    document.write({line.id: line.target or "" for line in lines}, out, *more)
    write_lines(lines_path(out), lines)
    write_translation(out, Translation(what, "en-zh", "pseudo", "d" * 64, len(lines)))
    return lines_path(out)


def test_finish_of_two_files_leaves_a_row_out_of_both(tmp_path: Path) -> None:
    samples = [QASample(f"q{n}", f"v{n}", f"what {n}", f"a {n}", "0") for n in range(3)]
    names = ("q.json", "a.json", "out_q.json", "out_a.json")
    questions, answers, out, out_answers = (tmp_path / name for name in names)
    write_qa_pairs(questions, answers, samples)
    lines = translated(read_document(questions, answers=answers), out, out_answers)
    decide(World(questions, out, lines), _1_answer="rejected", _2_answer="edited:好")
    more = ("--answers", answers, "--target_answers", out_answers)
    assert review("finish", lines, questions, *more) == 0
    found = load_annotations(SplitConfig("qa-pairs", out, out_answers))
    assert [(s.sample_id, s.question, s.answer) for s in found] == [
        ("q0", "译0", "译1"),
        ("q2", "译4", "好"),
    ]


def test_finish_of_predictions_leaves_all_but_the_answers(tmp_path: Path) -> None:
    samples = [QASample(f"q{n}", f"v{n}", f"what {n}", f"a {n}", "0") for n in range(3)]
    rows = [prediction_row(sample, f"said {n}") for n, sample in enumerate(samples)]
    source, out = tmp_path / "predictions.jsonl", tmp_path / "zh.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = translated(read_document(source), out, what="predictions")
    decide(World(source, out, lines), _0_pred="rejected", _1_pred="edited:好")
    assert review("finish", lines, source) == 0
    assert read_rows(out) == [rows[1] | {"pred": "好"}, rows[2] | {"pred": "译2"}]


def test_finish_can_refuse_lines_without_a_text(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.out.read_bytes()
    assert review("finish", world.lines, world.source, "--failed", "refuse") == 2
    assert "4/question (failed)" in capsys.readouterr().err
    assert world.out.read_bytes() == before
    assert review("finish", world.lines, world.source) == 0
    assert len(json.loads(world.out.read_text(encoding="utf-8"))) == 9


def test_finish_refuses_another_source(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(world.source.read_text(encoding="utf-8"))
    rows[3]["a"] += " more"
    world.source.write_text(json.dumps(rows), encoding="utf-8")
    assert review("finish", world.lines, world.source) == 2
    assert "3/answer" in capsys.readouterr().err


def test_rate_counts_what_people_did(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    decide(
        world,
        _1_answer="rejected",  # flagged: length and more
        _6_answer="accepted",  # flagged: length and more
        _4_question="edited:问",  # flagged: empty, and no machine's text to compare
        _0_answer="edited:好",
        _2_answer="accepted",
    )
    assert review("rate", world.lines) == 0
    told = capsys.readouterr().out
    assert "5 of 20 lines reviewed" in told
    rate: dict[str, Any] = json.loads(Path(f"{world.out}.rate.json").read_text())
    counts = {name: (share["count"], share["of"]) for name, share in rate["statuses"].items()}
    assert counts == {"accepted": (2, 5), "edited": (2, 5), "rejected": (1, 5)}
    assert rate["reviewers"]["Ann"]["edited"]["count"] == 2
    assert (rate["checks"]["empty"]["count"], rate["checks"]["empty"]["of"]) == (1, 1)
    assert (rate["checks"]["length"]["count"], rate["checks"]["length"]["of"]) == (1, 2)
    assert (rate["flagged"]["count"], rate["flagged"]["of"]) == (2, 3)
    assert (rate["unflagged"]["count"], rate["unflagged"]["of"]) == (1, 2)
    assert rate["statuses"]["edited"]["low"] is None  # of a mixture
    # 3 lines have flags and 17 have none: 3 · 2/3 = 2 and 17 · 1/2 = 8.5 would be changed
    assert rate["changed"] == pytest.approx(10.5 / 20)
    assert rate["missed"] == pytest.approx(8.5 / 10.5)
    assert "people would change 52.5 % of the whole file; of these 81.0 % have no flag" in told
    assert 0 < rate["chrf"] < 100
    assert "asian:yes" in rate["signatures"][1]


def test_rate_of_nothing_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert review("rate", world.lines) == 2
    assert "nothing was reviewed" in capsys.readouterr().err


def edited(target: str, machine: str, at: int) -> Line:
    place = (f"{at}/answer", at, "answer", f"source {at}", "")
    status = "accepted" if target == machine else "edited"
    kept = None if target == machine else machine
    return Line(*place, target, status, machine=kept, reviewer="A", reviewed=WHEN)


def test_edit_rates_are_those_worked_out_by_hand() -> None:
    english = [
        edited("the cat sat on a mat", "the dog sat on a mat", 0),
        edited("a b c d", "a b c d", 1),
    ]
    assert edit_rate(english, {}, "zh-en").ter == pytest.approx(100 * 1 / 10)
    chinese = [
        edited("猫坐在垫子上", "狗坐在垫上", 0)
    ]  # one character replaced, one put in, of six
    assert edit_rate(chinese, {}, "en-zh").ter == pytest.approx(100 * 2 / 6)
    # chrF of "ab" for "ac": of the character n-grams 1 of 2 unigrams is right, the bigram is not;
    # both orders count, with precision = recall: the mean of 1/2 and 0
    assert edit_rate([edited("ac", "ab", 0)], {}, "zh-en").chrf == pytest.approx(25)
    case = [edited("A cat sat", "a cat sat", 0)]  # of three words one has another case
    assert edit_rate(case, {}, "zh-en").ter == pytest.approx(100 * 1 / 3)
    same = edit_rate([edited("好的", "好的", 0)], {}, "en-zh")
    assert (same.chrf, same.ter) == (pytest.approx(100), 0)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.ter", None)
    with pytest.raises(RedVillmError, match=r"sacrebleu.*pip install -e '\.\[translate\]'"):
        edit_rate([edited("a", "b", 0)], {}, "zh-en")
    monkeypatch.setitem(sys.modules, "opencc", None)
    converter.cache_clear()
    with pytest.raises(RedVillmError, match=r"opencc.*pip install -e '\.\[translate\]'"):
        scripts.mixed_scripts("\u9f98")


def test_rates_go_by_what_the_machine_said() -> None:
    lines = [edited("好", "坏", 0), replace(edited("a", "a", 1), status="rejected")]
    flags = {"0/answer": [Flag("0/answer", "numbers", "x"), Flag("0/answer", "names", "x")]}
    rate = edit_rate(lines, flags, "en-zh")
    assert (rate.checks["numbers"].count, rate.checks["numbers"].of) == (1, 1)
    assert rate.checks["length"].of == 0
    assert rate.checks["length"].low is None
    assert (rate.unflagged.count, rate.unflagged.of) == (1, 1)


@pytest.mark.parametrize(("count", "of"), [(0, 7), (3, 10), (80, 80)])
def test_wilsons_interval_is_the_formulas(count: int, of: int) -> None:
    z, p = 1.959963984540054, count / of
    middle, spread = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    share = wilson(count, of)
    assert share.low == pytest.approx((middle - spread) / (1 + z * z / of), abs=1e-9)
    assert share.high == pytest.approx((middle + spread) / (1 + z * z / of), abs=1e-9)


def test_a_file_without_a_record_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = world.lines.with_name("other.json.lines.jsonl")
    write_lines(lines, read_lines(world.lines))
    assert review("check", lines) == 2
    assert "no record of a translation" in capsys.readouterr().err
    assert review("check", world.out) == 2
    assert ".lines.jsonl" in capsys.readouterr().err


def keep_in_log(world: World, *rows: dict[str, Any]) -> None:
    """Decisions as the page keeps them, each of a line by its id."""
    lines = {line.id: line for line in read_lines(world.lines)}
    told = []
    for row in rows:
        line = lines[row["id"]]
        about = {"source": line.source, "target": line.target or "", "machine": line.target or ""}
        told.append(about | {"reviewer": "Ann", "reviewed": WHEN} | row)
    log = Path(f"{world.out}.decisions.jsonl")
    log.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")


def test_what_was_decided_on_the_page_counts_without_an_import(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = {"id": "0/answer", "status": "edited", "target": "好答案"}
    rejected = {"id": "1/answer", "status": "rejected"}
    keep_in_log(world, edited, rejected, {"id": "4/question", "status": "rejected"})
    assert review("rate", world.lines) == 0
    assert "3 of 20 lines reviewed" in capsys.readouterr().out
    assert review("check", world.lines) == 0
    shown = capsys.readouterr().out
    assert "flags on 2 of 20 lines" in shown  # two are rejected, and the edit is short
    exported = tmp_path / "a.jsonl"
    assert review("export", world.lines, exported, "--sample", 0) == 0
    told = [json.loads(row)["status"] for row in exported.read_text().splitlines()]
    assert told == ["rejected", "rejected", ""]
    assert review("finish", world.lines, world.source) == 0
    assert "8 of 10 rows, 2 left out" in capsys.readouterr().out
    assert json.loads(world.out.read_text(encoding="utf-8"))[0]["a"] == "好答案"
    lines = {line.id: line.status for line in read_lines(world.lines)}  # for another translation
    assert (lines["0/answer"], lines["1/answer"]) == ("edited", "rejected")


def translated_again(world: World) -> None:
    """By another engine, which says everything otherwise."""
    lines = [
        replace(line, target=f"{line.target}又", engine="other") if line.target else line
        for line in read_lines(world.lines)
    ]
    write_lines(world.lines, lines)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_an_export_that_nobody_touched_decides_nothing_about_another_translation(
    world: World, tmp_path: Path, suffix: str
) -> None:
    exported = tmp_path / f"review{suffix}"
    assert review("export", world.lines, exported, "--sample", 500) == 0
    translated_again(world)
    before = world.lines.read_bytes()
    assert review("import", world.lines, exported, "--reviewer", "Ann") == 0
    assert world.lines.read_bytes() == before


def test_decisions_about_another_translation_are_refused_or_set_aside(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "review.jsonl"
    assert review("export", world.lines, exported, "--sample", 500) == 0
    rows = [json.loads(row) for row in exported.read_text(encoding="utf-8").splitlines()]
    rows = [row | {"status": "rejected", "reviewer": "Ann"} for row in rows[:2]]
    exported.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keep_in_log(world, {"id": "0/answer", "status": "rejected"})
    translated_again(world)
    before = world.lines.read_bytes()
    assert review("import", world.lines, exported) == 2
    told = capsys.readouterr().err
    assert "decisions about 2 lines cannot be taken" in told
    assert "another translation" in told
    assert "0/question" in told
    assert "0/answer" in told
    assert world.lines.read_bytes() == before
    log = Path(f"{world.out}.decisions.jsonl")
    session = Session(read_lines(world.lines), {}, log, "Ann")
    session.close()
    assert session.set_aside == 1
    assert session.lines[1].status == "machine"
    assert review("finish", world.lines, world.source) == 0
    assert "1 decisions about texts of an earlier translation" in capsys.readouterr().out


def test_imports_at_once_lose_no_decision(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*args: Any) -> list[Decision]:
        time.sleep(0.3)
        return read_decisions(*args)

    monkeypatch.setattr(review_forms, "read_decisions", slowly)
    lines = read_lines(world.lines)[:2]
    imports = []
    for number, line in enumerate(lines):
        path = tmp_path / f"back-{number}.jsonl"
        row = {"id": line.id, "source": line.source, "target": "", "status": "rejected"}
        path.write_text(json.dumps(row | {"reviewer": f"R{number}", "reviewed": WHEN}) + "\n")
        imports.append(ImportOptions(world.lines, path))
    with ThreadPoolExecutor() as pool:
        list(pool.map(run_import, imports))
    assert [line.reviewer for line in read_lines(world.lines)[:2]] == ["R0", "R1"]


FORMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "videoinstruct": ("f.json", [{"q": "q", "a": "a", "video_id": "v"}] * 4),
    "vcgbench": ("f.json", [{"Q": "q", "A": "a", "video_name": "v"}] * 4),
    "consistency": ("f.json", [{"Q1": "q", "Q2": "r", "A": "a", "video_name": "v"}] * 4),
    "msvd": ("f.json", [{"question": "q", "answer": "a", "video_id": "v"}] * 4),
    "tgif": ("f.csv", [{"gif_name": "v", "question": "q", "answer": "a", "type": "0"}] * 4),
    "jsonl": ("f.jsonl", [{"video": "v", "question": "q", "answer": "a"}] * 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_stay_where_a_row_is_left_out(tmp_path: Path, form: Any) -> None:
    name, rows = FORMS[form]
    source, out = tmp_path / name, tmp_path / f"out_{name}"
    text = json.dumps(rows)
    if form == "tgif":
        text = "".join("\t".join(cells) + "\n" for cells in (rows[0], *(r.values() for r in rows)))
    elif form == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    source.write_text(text, encoding="utf-8")
    lines = translated(read_document(source, form), out)
    first = 1 if form == "jsonl" else 0
    decide(World(source, out, lines), **{f"_{first + 1}_answer": "rejected"})
    assert review("finish", lines, source) == 0
    ids = [sample.sample_id for sample in load_annotations(SplitConfig(form, source))]
    left = load_annotations(SplitConfig(form, out))
    assert [sample.sample_id for sample in left] == [ids[0], *ids[2:]]
    again = read_document(out, form)  # and so they do when it is translated once more
    again.write({text.id: "x" for text in again.texts}, tmp_path / f"more_{name}")
    found = load_annotations(SplitConfig(form, tmp_path / f"more_{name}"))
    assert [sample.sample_id for sample in found] == [ids[0], *ids[2:]]


@pytest.mark.parametrize("said", [[0, 0], [0, None], [0, "x"], [0, -1]])
def test_row_numbers_that_cannot_be_are_refused(tmp_path: Path, said: list[Any]) -> None:
    row = {"Q": "q", "A": "a", "video_name": "v"}
    file = tmp_path / "f.json"
    rows = [row | ({} if n is None else {"source_row": n}) for n in said]
    file.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(RedVillmError, match="row"):
        load_annotations(SplitConfig("vcgbench", file))
