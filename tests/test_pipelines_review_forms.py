"""Lines out, decisions back: exactly, once, and never by accident."""

from __future__ import annotations

import csv
import io
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.errors import RedVillmError
from pipelines.translate.checks import Flag
from pipelines.translate.decisions import machine_text, merge, undecided
from pipelines.translate.lines import Line
from pipelines.translate.review_forms import LABELLING, export_lines, read_decisions

HARD = (
    "=1+1",
    "+49",
    "-a",
    "@x",
    "'=1",
    "''@",
    "'a",
    "\tx",
    "a\r\nb",
    'say "a", b;c',
    "半\ud83d",
    "a\u2028b",
    "\uff1d1",
    "'\uff20",
)
LINES = [
    Line(f"{at}/answer", at, "answer", f"{text} source", "what?", text, "machine", "deepl")
    for at, text in enumerate(HARD)
]
FAILED = Line("99/answer", 99, "answer", "lost", "what?", None, "failed", error="quota")
FLAGS = {"0/answer": [Flag("0/answer", "numbers", "got 1, wanted 2")]}
WHEN = "2026-05-01T10:00:00.000000+00:00"
Rows = list[dict[str, Any]]


def edit_jsonl(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    rows = [json.loads(row) for row in path.read_bytes().split(b"\n")[:-1]]
    for row in rows:
        change(row)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def edit_csv(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As a spreadsheet does it: semicolons, other line ends."""
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    for row in rows:
        change(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8-sig"))


def edit_tasks(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """As Label Studio exports what was annotated."""
    exported = []
    for number, task in enumerate(json.loads(path.read_text(encoding="utf-8")), start=1):
        row = {**task["data"], "id": task["data"]["line"], "status": "", "reviewed": ""}
        change(row)
        area = {"from_name": "target", "to_name": "source", "type": "textarea", "origin": "manual"}
        result = [{**area, "id": "x", "value": {"text": [row["target"]]}}]
        if row["status"] == "rejected":
            box = {"from_name": "verdict", "to_name": "source", "type": "choices"}
            result.append({**box, "id": "y", "value": {"choices": ["rejected"]}})
        annotation = {
            **{"id": 7, "completed_by": {"id": 3, "email": row.get("reviewer", "")}},
            **{"result": result, "was_cancelled": not row["status"], "ground_truth": False},
            "updated_at": row["reviewed"].replace("+00:00", "Z"),
        }
        exported.append({**task, "id": number, "annotations": [annotation]})
    path.write_text(json.dumps(exported), encoding="utf-8")


EDITS = {".jsonl": edit_jsonl, ".csv": edit_csv, ".json": edit_tasks}


def annotate(row: dict[str, Any]) -> None:
    """Every third line is left alone, the others accepted, edited or rejected."""
    at = int(row["id"].split("/")[0])
    if at % 3 and at != 99:
        status = ("accepted", "edited", "rejected")[at % 4 % 3]
        row |= {"status": status, "reviewer": "=Ann", "reviewed": WHEN}
        if status == "edited":
            row["target"] += "改"


@pytest.mark.parametrize("suffix", EDITS)
def test_a_round_trip_gives_every_decision_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path, lines = tmp_path / f"review{suffix}", [*LINES, FAILED]
    export_lines(path, lines, FLAGS)
    assert read_decisions(path, lines) == []
    EDITS[suffix](path, annotate)
    merged = merge(lines, read_decisions(path, lines))
    for old, new in zip(lines, merged.lines, strict=True):
        row = {"id": old.id, "target": old.target or "", "status": ""}
        annotate(row)
        if not row["status"]:
            assert new == old
            continue
        assert (new.status, new.reviewer, new.reviewed) == (row["status"], "=Ann", WHEN)
        if new.status == "edited":
            wanted = old.target + "改"
            spelt = wanted.replace("\r\n", "\n").replace("\ud83d", "\\ud83d")
            assert new.target == (spelt if suffix == ".csv" else wanted)
            assert new.machine == old.target
        else:
            assert (new.target, new.machine) == (old.target, None)
    assert merged.decided == 9
    again = merge(merged.lines, read_decisions(path, merged.lines))
    assert again.lines == merged.lines
    assert again.changed == 0


def test_no_cell_is_a_formula_and_excel_knows_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    export_lines(path, LINES, FLAGS)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    cells = [cell for row in rows[1:] for cell in row]
    assert not [
        cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff20")
    ]
    assert rows[1][rows[0].index("flags")] == "numbers: got 1, wanted 2"


def test_tasks_fit_the_labelling_configuration(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    export_lines(path, [LINES[0], FAILED], FLAGS)
    first, failed = json.loads(path.read_text(encoding="utf-8"))
    config = {node.get("name"): node for node in ElementTree.fromstring(LABELLING).iter()}
    for name, node in config.items():
        if node.tag == "Text":
            assert node.get("value") == f"${name}"
            assert isinstance(first["data"][name], str)
    (result,) = first["predictions"][0]["result"]
    assert result["value"] == {"text": ["=1+1"]}
    area = config[result["from_name"]]
    assert (area.tag, area.get("toName")) == ("TextArea", result["to_name"])
    assert first["predictions"][0]["model_version"] == "deepl"
    assert failed["predictions"][0]["result"] == []


def decided(tmp_path: Path, *rows: dict[str, Any], lines: list[Line] = LINES) -> list[Line]:
    path = tmp_path / "some.jsonl"
    told = {"id": "1/answer", "source": "+49 source", "target": "+49", "status": "accepted"}
    told |= {"reviewer": "Ann", "reviewed": WHEN}
    path.write_text("".join(json.dumps(told | row) + "\n" for row in rows), encoding="utf-8")
    return merge(lines, read_decisions(path, lines)).lines


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "77/answer"}, "no such line.*some.jsonl, line 2.*77/answer"),
        ({"id": "77/answer", "status": ""}, "no such line.*line 2"),
        ({"source": "another"}, "another source.*line 2.*1/answer"),
        ({"target": "x"}, "accepted, but not what the machine said.*line 2"),
        ({"status": "edited", "target": "  "}, "without a text.*line 2"),
        ({"status": "acepted"}, "no such status.*line 2.*accepted"),
        ({"reviewer": ""}, "nobody.*line 2.*--reviewer"),
        ({"reviewed": "yesterday"}, "not a time.*line 2"),
        ({"target": None}, "not a row of ours.*line 2"),
        ({"id": "2/answer", "source": "-a source"}, "not what the machine said.*line 2"),
    ],
)
def test_a_row_that_cannot_be_is_named_and_changes_nothing(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    good = {"id": "0/answer", "source": "=1+1 source", "target": "=1+1"}
    with pytest.raises(RedVillmError, match=message):
        decided(tmp_path, good, row)


def test_a_second_word_of_somebody_else_is_a_conflict_that_names_both(tmp_path: Path) -> None:
    other = {"status": "edited", "target": "好", "reviewer": "Bo"}
    with pytest.raises(RedVillmError, match=r"conflicts.*line 2.*edited by Bo.*accepted by Ann"):
        decided(tmp_path, {}, other)
    lines = decided(tmp_path, {})
    with pytest.raises(RedVillmError, match=r"conflicts.*line 1"):
        decided(tmp_path, other, lines=lines)
    assert decided(tmp_path, {"reviewer": "Bo"}, lines=lines) == lines  # they agree


def test_the_same_persons_later_word_counts_in_any_order(tmp_path: Path) -> None:
    later = {"status": "rejected", "reviewed": "2026-05-01T12:30:00+02:00"}
    both = decided(tmp_path, {}, later)
    assert (both[1].status, both[1].reviewed) == ("rejected", "2026-05-01T10:30:00.000000+00:00")
    assert decided(tmp_path, {}, lines=decided(tmp_path, later)) == both
    with pytest.raises(RedVillmError, match="conflicts"):  # at the same moment there is no later
        decided(tmp_path, {}, {"status": "rejected"})


def test_a_word_that_says_which_one_it_replaces_counts(tmp_path: Path) -> None:
    t2, t3 = (f"2026-05-01T1{hour}:00:00.000000+00:00" for hour in (1, 2))
    chain = [
        {},
        {"status": "rejected", "reviewer": "Bo", "reviewed": t2, "replaces": WHEN},
        {"status": "edited", "target": "好", "reviewer": "Cy", "reviewed": t3, "replaces": t2},
    ]
    last = decided(tmp_path, *chain)
    assert (last[1].status, last[1].target, last[1].machine) == ("edited", "好", "+49")
    for known in range(4):  # whatever part of the file was taken in before
        assert decided(tmp_path, *chain, lines=decided(tmp_path, *chain[:known])) == last
    back = {"status": "machine", "reviewer": "Cy", "reviewed": t3 + "", "replaces": t3}
    assert decided(tmp_path, *chain, back) == LINES


def test_the_same_word_again_can_be_replaced_by_whoever_saw_it(tmp_path: Path) -> None:
    t2, t3 = (f"2026-05-01T1{hour}:00:00.000000+00:00" for hour in (1, 2))
    chain = [
        {},
        {"reviewed": t2, "replaces": WHEN},
        {"status": "rejected", "reviewer": "Bo", "reviewed": t3, "replaces": t2},
    ]
    last = decided(tmp_path, *chain)
    assert (last[1].status, last[1].reviewer) == ("rejected", "Bo")
    for known in range(4):
        assert decided(tmp_path, *chain, lines=decided(tmp_path, *chain[:known])) == last


def test_what_the_machine_said_is_never_lost() -> None:
    edited = replace(LINES[0], status="edited", target="x", machine="=1+1", reviewer="A")
    assert machine_text(edited) == "=1+1"
    assert undecided(replace(edited, reviewed=WHEN)) == LINES[0]
    saved = replace(FAILED, status="edited", target="x", reviewer="A", reviewed=WHEN)
    assert machine_text(saved) is None
    assert undecided(saved) == FAILED


def test_a_line_that_a_kill_tore_was_never_there(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    row = {"id": "0/answer", "source": "=1+1 source", "target": "x", "status": "edited"}
    whole = json.dumps({**row, "reviewer": "A", "reviewed": WHEN}) + "\n"
    path.write_text(whole + whole[:30], encoding="utf-8")
    assert [decision.target for decision in read_decisions(path, LINES)] == ["x"]
    path.write_text(whole[:30] + "\n" + whole, encoding="utf-8")
    with pytest.raises(RedVillmError, match=r"not valid JSON.*line 1"):
        read_decisions(path, LINES)


@pytest.mark.parametrize(
    "text", ["[1]", '[{"data": {}}]', '{"a": 1}', "[", '[{"annotations": [{}]}]']
)
def test_what_is_not_label_studios_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(text, encoding="utf-8")
    if text == '[{"data": {}}]':
        assert read_decisions(path, LINES) == []  # a task that nobody looked at
        return
    with pytest.raises(RedVillmError, match=r"export\.json"):
        read_decisions(path, LINES)


def test_an_unknown_suffix_is_no_form(tmp_path: Path) -> None:
    with pytest.raises(RedVillmError, match=r"\.xlsx.*\.csv"):
        export_lines(tmp_path / "a.xlsx", LINES, {})


def annotation(text: str, person: object, **more: object) -> dict[str, Any]:
    result = {"from_name": "target", "to_name": "source", "type": "textarea"}
    told = {"result": [result | {"value": {"text": [text]}}], "completed_by": person}
    return told | {"was_cancelled": False, "updated_at": "2026-05-01T10:00:00.5Z"} | more


def test_annotations_of_several_people_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    data = {"line": "0/answer", "source": "=1+1 source"}
    skipped = annotation("no", 2, was_cancelled=True)
    agreeing = [annotation("=1+1", 1), skipped, annotation("=1+1", {"id": 3})]
    path.write_text(json.dumps([{"id": 5, "data": data, "annotations": agreeing}]))
    line = merge(LINES, read_decisions(path, LINES)).lines[0]
    assert (line.status, line.reviewer) == ("accepted", "1")
    assert line.reviewed == "2026-05-01T10:00:00.500000+00:00"
    other = [annotation("=1+1", 1), annotation("two", {"id": 3, "email": "b@c.d"})]
    path.write_text(json.dumps([{"id": 5, "data": data, "annotations": other}]))
    with pytest.raises(RedVillmError, match=r"conflicts.*task 5.*edited by b@c.d"):
        merge(LINES, read_decisions(path, LINES))


def test_a_file_again_changes_nothing_although_somebody_else_decided_since(tmp_path: Path) -> None:
    t2, t3 = (f"2026-05-01T1{hour}:00:00.000000+00:00" for hour in (1, 2))
    log = [{}, {"status": "machine", "reviewed": t2, "replaces": WHEN}]
    assert decided(tmp_path, *log) == LINES
    theirs = {"status": "edited", "target": "好", "reviewer": "Bo", "reviewed": t3}
    lines = decided(tmp_path, theirs)
    assert lines[1].reviewer == "Bo"
    assert decided(tmp_path, *log, lines=lines) == lines


def test_a_row_without_a_time_is_as_old_as_its_file(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    lines = decided(tmp_path, {"status": "rejected"})
    row = {"id": "1/answer", "source": "+49 source", "target": "x", "status": "edited"}
    path.write_text(json.dumps(row | {"reviewer": "Ann"}) + "\n", encoding="utf-8")
    os.utime(path, (1_000_000_000, 1_000_000_000))  # long before
    assert merge(lines, read_decisions(path, lines)).lines == lines
    found = merge(LINES, read_decisions(path, LINES)).lines
    assert found[1].reviewed == "2001-09-09T01:46:40.000000+00:00"


def test_all_conflicts_are_told_at_once(tmp_path: Path) -> None:
    names = [(line.id, line.source) for line in LINES[:3]]
    lines = decided(tmp_path, *({"id": n, "source": s, "status": "rejected"} for n, s in names))
    other = {"status": "edited", "target": "好", "reviewer": "Bo"}
    with pytest.raises(RedVillmError, match=r"about 3 lines.*0/answer.*1/answer.*2/answer"):
        decided(tmp_path, *({"id": n, "source": s, **other} for n, s in names), lines=lines)


def test_a_torn_last_row_is_nothing_in_the_pages_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "back.jsonl"
    path.write_text('{"id": "0/answer", "sou', encoding="utf-8")
    with pytest.raises(RedVillmError, match=r"not valid JSON.*line 1"):
        read_decisions(path, LINES)


def test_json_min_is_refused_and_an_annotation_of_nothing_is_no_decision(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    data = {"line": "0/answer", "source": "=1+1 source"}
    path.write_text(json.dumps([{"id": 5, "annotator": 1, **data, "target": "x"}]))
    with pytest.raises(RedVillmError, match=r"task 5.*not as JSON-MIN"):
        read_decisions(path, LINES)
    cleared = annotation("x", 1) | {"result": []}
    path.write_text(
        json.dumps([{"id": 5, "data": data, "annotations": [cleared, annotation("two", 2)]}])
    )
    assert [found.target for found in read_decisions(path, LINES)] == ["two"]


def test_what_a_spreadsheet_changes_by_itself_is_no_decision(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    lines = [
        replace(line, target=target) for line, target in zip(LINES, ("2-3", "真"), strict=False)
    ]
    export_lines(path, lines, {})

    def excel(row: dict[str, Any]) -> None:
        row["target"] = "2月3日" if row["id"] == "0/answer" else f"{row['target']} "
        if row["id"] == "1/answer":
            row |= {"status": " Accepted", "reviewer": "Ann"}

    edit_csv(path, excel)
    (found,) = merge(lines, read_decisions(path, lines)).lines[1:]
    assert (found.target, found.status) == ("真", "accepted")
    assert merge(lines, read_decisions(path, lines)).decided == 1


def test_a_file_in_another_encoding_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_bytes("id,source,target,status\n0/answer,a,你好,edited\n".encode("gbk"))
    with pytest.raises(RedVillmError, match="save it as CSV UTF-8"):
        read_decisions(path, LINES)
