"""What is translated already, and what people said of it, stays when a file is translated again."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path

import pytest
from deepl_server import DeepLServer
from pseudo_translation import pseudo
from translate_world import ROWS, prepare, rows_of, translate, write

from features.translation import read_translation
from pipelines.__main__ import main
from pipelines.translate.lines import lines_path, read_lines, write_lines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


def test_reviewed_lines_of_a_memory_win_and_nothing_of_it_is_sent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        lines = read_lines(lines_path(folder / "out.json"))
        by_hand = replace(
            lines[0],
            target="{name}里有什么",
            machine=lines[0].target,
            status="edited",
            reviewer="Li",
            reviewed="2026-01-01T00:00:00Z",
        )
        kept = [by_hand, lines[1], replace(lines[4], status="rejected")]
        write_lines(folder / "old.json.lines.jsonl", kept)
        paid = server.characters
        memory = ("--memory", "old.json.lines.jsonl", "--cache", "another")
        write(folder / "in.json", ROWS[2:] + ROWS[:1])  # other rows, the same texts
        capsys.readouterr()
        assert translate(server, *memory) == 0
        assert "2 in the memory" in " ".join(capsys.readouterr().out.split())
        asked = {ROWS[2]["q"], ROWS[2]["a"], ROWS[3]["q"], ROWS[3]["a"]}
        assert server.characters - paid == sum(map(len, asked))
    found = read_lines(lines_path(folder / "out.json"))
    assert found[4] == replace(by_hand, id="2/question", row=2)
    assert rows_of(folder / "out.json")[2]["q"] == "{name}里有什么"
    record = read_translation(folder / "out.json")
    assert record is not None
    assert record.reviewed == 1


def test_a_memory_of_two_files_alone_translates_for_nothing_what_it_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chinese = [{**row, "q": pseudo(row["q"]), "a": pseudo(row["a"])} for row in ROWS]
    write(folder / "zh.json", chinese)
    write(folder / "en.json", ROWS)
    command = ["translate", "in.json", "--target", "out.json", "--translator", "memory"]
    assert main([*command, "--memory", "en.json=zh.json"]) == 0
    assert rows_of(folder / "out.json") == chinese
    write(folder / "in.json", [*ROWS, {"q": "what else", "a": "a red ball", "video_id": "v_5"}])
    capsys.readouterr()
    assert main([*command, "--memory", "en.json=zh.json"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "9 in the memory" in said, "the answer is there, after another question"
    assert "0 in the cache, 0 alike; to send: 0 texts" in said
    assert "1 of 10 texts have no translation (not in the memory: 1)" in said
    assert main([*command, "--memory", "zh.json=en.json", "--failed", "keep"]) == 0
    write(folder / "zh.json", chinese[:2])
    assert main([*command, "--memory", "en.json=zh.json"]) == 2
    assert "no translation of one another" in capsys.readouterr().err


def test_translating_again_keeps_every_word_of_the_reviewers(folder: Path) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        lines = read_lines(lines_path(folder / "out.json"))
        told = {"reviewer": "Li", "reviewed": "2026-01-01T00:00:00Z"}
        edited = replace(lines[0], target="{name}里有什么", status="edited", **told)
        rejected = replace(lines[5], status="rejected", **told)
        write_lines(lines_path(folder / "out.json"), [edited, *lines[1:5], rejected, *lines[6:]])
        paid = server.characters
        new = {"q": "what else", "a": "nothing", "video_id": "v_5"}
        write(folder / "in.json", [new, *ROWS])  # all rows move
        assert translate(server) == 0
        assert server.characters == paid + len("what else") + len("nothing")
    found = read_lines(lines_path(folder / "out.json"))
    assert found[2] == replace(edited, id="1/question", row=1)
    assert found[7] == replace(rejected, id="3/answer", row=3)
    rows = rows_of(folder / "out.json")
    assert [row["video_id"] for row in rows] == ["v_5", "v_1", "v_2", "v_4"], "no rejected line"
    assert rows[1]["q"] == "{name}里有什么"


def decide_on_the_page(folder: Path, name: str, status: str, target: str = "") -> None:
    """As the review page does it: a row more in its own file."""
    (line,) = [x for x in read_lines(lines_path(folder / "out.json")) if x.id == name]
    row = {"id": name, "source": line.source, "target": target or line.target, "status": status}
    told = {**row, "reviewer": "Li", "reviewed": "2026-01-01T00:00:00.000000+00:00"}
    with (folder / "out.json.decisions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def test_a_decision_is_about_its_own_row_and_not_about_all_that_read_alike(folder: Path) -> None:
    rows = [{"q": "how many", "a": f"cats {n // 2}", "video_id": f"v_{n}"} for n in range(5)]
    write(folder / "in.json", rows)
    with DeepLServer() as server:
        assert translate(server) == 0
        decide_on_the_page(folder, "1/question", "rejected")
        decide_on_the_page(folder, "3/question", "accepted")
        decide_on_the_page(folder, "4/answer", "edited", "两只猫")
        assert translate(server) == 0
        found = {line.id: line for line in read_lines(lines_path(folder / "out.json"))}
        assert {k: v.status for k, v in found.items() if v.status != "machine"} == {
            "1/question": "rejected",
            "3/question": "accepted",
            "4/answer": "edited",
        }
        assert [row["video_id"] for row in rows_of(folder / "out.json")] == [
            *("v_0", "v_2", "v_3", "v_4")
        ]
        record = read_translation(folder / "out.json")
        assert record is not None
        assert record.reviewed == 2
        assert (folder / "out.json.decisions.jsonl").exists(), "they are about these lines still"
        # the rows move; the page's file would now be about others
        write(folder / "in.json", [{"q": "a man", "a": "yes", "video_id": "w"}, *rows])
        assert translate(server) == 0
    found = {line.id: line for line in read_lines(lines_path(folder / "out.json"))}
    assert {k: v.status for k, v in found.items() if v.status != "machine"} == {
        "2/question": "rejected",
        "4/question": "accepted",
        "5/answer": "edited",
    }
    assert found["5/answer"].target == "两只猫"
    assert not (folder / "out.json.decisions.jsonl").exists()
    assert len(list(folder.glob("out.json.decisions.*.jsonl"))) == 1
    assert not list(folder.glob("out.json.lines.2*")), "no word was lost"


def test_lines_that_are_under_review_are_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        decide_on_the_page(folder, "0/question", "rejected")
        before = lines_path(folder / "out.json").read_bytes()
        with (folder / "out.json.decisions.jsonl").open("rb") as page:
            fcntl.flock(page, fcntl.LOCK_EX)
            assert translate(server) == 2
    assert "end `review serve` first" in capsys.readouterr().err
    assert lines_path(folder / "out.json").read_bytes() == before


def test_another_source_to_the_same_target_leaves_what_people_said_in_a_file_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        decide_on_the_page(folder, "0/question", "edited", "{name}里有什么")
        write(folder / "in.json", [{"q": "what else", "a": "no", "video_id": "v"}])
        capsys.readouterr()
        assert translate(server) == 0
    (kept,) = folder.glob("out.json.lines.*.jsonl")
    assert kept.name in "".join(capsys.readouterr().out.split())
    old = read_lines(kept)
    assert (old[0].status, old[0].target) == ("edited", "{name}里有什么")
    assert len(old) == 2 * len(ROWS)


def test_the_record_names_the_memory_s_translator_too(folder: Path) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        Path("out.json").rename("deepl.json")
        lines_path(Path("out.json")).rename("deepl.json.lines.jsonl")
        write(folder / "in.json", [*ROWS, {"q": "what else", "a": "no", "video_id": "v"}])
        recipe = f"kind: endpoint\nmodel: tiny\nserver_url: {server.url}/v1\n"
        assert translate(server, "--memory", "deepl.json.lines.jsonl", recipe=recipe) == 0
    record = read_translation(folder / "out.json")
    assert record is not None
    assert record.engine == "tiny + deepl"


def test_a_decision_about_an_earlier_text_stops_nothing_and_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, path = folder / "out.json.decisions.jsonl", lines_path(folder / "out.json")
    with DeepLServer() as server:
        assert translate(server) == 0
        decide_on_the_page(folder, "0/question", "rejected")
        lines = read_lines(path)
        earlier = {**json.loads(log.read_text(encoding="utf-8")), "machine": lines[0].target}
        log.write_text(json.dumps(earlier) + "\n", encoding="utf-8")
        write_lines(path, [replace(lines[0], target="{name}", engine="other"), *lines[1:]])
        decide_on_the_page(folder, "0/answer", "edited", "好球")
        said = log.read_bytes()
        capsys.readouterr()
        assert translate(server, "--dry_run") == 0
        left = "1 decisions about texts of an earlier translation left"
        assert f"out.json: {left}" in " ".join(capsys.readouterr().out.split())
        assert log.read_bytes() == said, "nothing is written"
        Path("other.json.lines.jsonl").write_bytes(path.read_bytes())
        Path("other.json.decisions.jsonl").write_bytes(said)
        assert translate(server, "--memory", "other.json.lines.jsonl") == 0
        assert f"the memory: {left}" in " ".join(capsys.readouterr().out.split())
    (kept,) = folder.glob("out.json.decisions.*.jsonl")
    assert kept.read_bytes() == said
    assert not log.exists()
    found = read_lines(path)
    assert (found[1].status, found[1].target) == ("edited", "好球")
    assert found[0].status == "machine", "a word about an earlier text is kept, and decides nothing"
    assert Path("other.json.decisions.jsonl").read_bytes() == said


def test_decisions_whose_lines_are_gone_are_kept(folder: Path) -> None:
    with DeepLServer() as server:
        assert translate(server) == 0
        decide_on_the_page(folder, "0/question", "rejected")
        said = (folder / "out.json.decisions.jsonl").read_bytes()
        lines_path(folder / "out.json").unlink()
        assert translate(server) == 0
    (kept,) = folder.glob("out.json.decisions.*.jsonl")
    assert kept.read_bytes() == said
    assert len(read_lines(lines_path(folder / "out.json"))) == 2 * len(ROWS)
