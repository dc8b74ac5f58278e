"""`python -m pipelines translate` against a DeepL and an endpoint on loopback."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deepl_server import KEY, DeepLServer
from pseudo_translation import pseudo
from zygote import INTERRUPTED, Zygote

from eval.answer_files import to_line
from eval.folders import prediction_row, read_rows
from features.annotations import NO_QUESTIONS, QASample
from features.translation import Translation, read_translation
from pipelines.__main__ import main
from pipelines.translate.lines import lines_path, read_lines, write_lines
from pipelines.translate.options import Translator, TranslatorConfig

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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPL_TEST_KEY", KEY)
    write(tmp_path / "in.json", ROWS)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def translate(server: DeepLServer, *more: str, recipe: str = "") -> int:
    text = recipe or f"kind: deepl\nserver_url: {server.url}\n"
    Path("t.yaml").write_text(f"{text}key_variable: DEEPL_TEST_KEY\nfirst_wait: 0.02\n")
    return main(["translate", "in.json", "--target", "out.json", "--translator", "t.yaml", *more])


def test_a_file_comes_back_in_chinese_with_its_lines_and_its_record(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer(["429", "503", "cut", "half"]) as server:
        assert translate(server, "--dry_run") == 0
        dry = " ".join(capsys.readouterr().out.split())
        assert server.requests == []
        assert translate(server) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert server.characters == CHARACTERS
        # every question in one request, every answer with its own
        contexts = {request.get("context", "") for request in server.requests}
        assert contexts == {"", ROWS[0]["q"], ROWS[2]["q"], ROWS[3]["q"]}
        (sent,) = {tuple(r["text"]) for r in server.requests if "context" not in r}
        assert sent[2] == 'is it <x id="1">&lt;video&gt;</x> &amp; "big"?'
        assert {(r["source_lang"], r["target_lang"]) for r in server.requests} == {
            ("EN", "ZH-HANS")
        }
    for told in (dry, said):
        assert f"to send: {SENT} texts, {CHARACTERS} characters, 4 requests" in told
        assert "1 without words, 0 in the cache, 1 alike" in told
        assert "the account has 1,000,000,000 characters left" in told
    wanted = [{**row, "q": pseudo(row["q"]), "a": pseudo(row["a"])} for row in ROWS]
    assert rows_of(folder / "out.json") == wanted
    lines = read_lines(lines_path(folder / "out.json"))
    assert [(line.id, line.source, line.target) for line in lines] == [
        (f"{n}/{field}", row[key], new[key])
        for n, (row, new) in enumerate(zip(ROWS, wanted, strict=True))
        for field, key in (("question", "q"), ("answer", "a"))
    ]
    record = read_translation(folder / "out.json")
    assert record is not None
    assert replace(record, digest="") == Translation("annotations", "en-zh", "deepl", "", 8)


def test_quota_ends_it_with_one_line_and_what_came_is_not_paid_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = "batch: 1\nconcurrency: 1\n"
    with DeepLServer(limit=CHARACTERS - 5) as server:
        recipe = f"kind: deepl\nserver_url: {server.url}\n{one}"
        assert translate(server, recipe=recipe) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "quota for this period is used up" in line
        assert "run again" in line
        assert not (folder / "out.json").exists()
        paid = server.characters
        assert 0 < paid < CHARACTERS
        server.limit = 10**6
        assert translate(server, recipe=recipe) == 0
        assert server.characters == CHARACTERS
        assert max(server.billed.values()) == 1


def test_a_cap_sends_the_first_texts_alone_and_the_rest_is_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cap = len("what is in {name}") + len("a red ball") + len("how many") + 3
    with DeepLServer() as server:
        assert translate(server, "--max_characters", str(cap)) == 2
        assert server.characters == cap - 3
        assert not (folder / "out.json").exists()
        said = " ".join(capsys.readouterr().out.split())
        assert "3 of 8 texts have no translation (not asked: beyond --max_characters: 3)" in said
        lines = read_lines(lines_path(folder / "out.json"))
        assert [line.status for line in lines] == [
            *("machine", "machine", "machine", "machine"),
            *("failed", "failed", "machine", "failed"),
        ]
        assert translate(server, "--max_characters", "0", "--failed", "keep") == 0
        assert rows_of(folder / "out.json")[2] == ROWS[2]
        record = read_translation(folder / "out.json")
        assert record is not None
        assert record.failed == 3


def test_a_refused_key_is_named_by_its_variable_and_shown_nowhere(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPL_TEST_KEY", "another-key-of-the-test")
    with DeepLServer() as server:
        assert translate(server) == 2
    err = capsys.readouterr().err
    assert "DEEPL_TEST_KEY" in err
    found = [file for file in folder.rglob("*") if file.is_file()]
    assert found
    texts = [err, *(file.read_text(encoding="utf-8") for file in found)]
    assert not any("another-key-of-the-test" in text for text in texts)
    monkeypatch.delenv("DEEPL_TEST_KEY")
    with DeepLServer() as server:
        assert translate(server) == 2
    assert "DeepL needs a key" in capsys.readouterr().err


def test_a_text_that_is_refused_fails_alone_and_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"q": f"is it {n}", "a": "3", "video_id": f"v_{n}"} for n in range(13)]
    write(folder / "in.json", rows)
    with DeepLServer(refused="it 7") as server:
        assert translate(server) == 2
        said = " ".join(capsys.readouterr().out.split())
        why = "Bad request, message: cannot do that"
        assert f"1 of 26 texts have no translation ({why}: 1)" in said
        assert KEY not in lines_path(folder / "out.json").read_text(encoding="utf-8")
        assert max(server.billed.values()) == 1
        server.refused = ""
        assert translate(server) == 0
        assert server.billed.total() == len(server.billed) == 13


def test_when_every_request_is_refused_it_ends_soon(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"q": f"is it {n}", "a": "3", "video_id": f"v_{n}"} for n in range(90)]
    write(folder / "in.json", rows)
    with DeepLServer(refused="is it") as server:
        recipe = f"kind: deepl\nserver_url: {server.url}\nbatch: 1\nconcurrency: 2\n"
        assert translate(server, recipe=recipe) == 2
    (ledger,) = Path("runs/translation-cache").glob("*/ledger.jsonl")
    assert 20 <= ledger.read_text().count('"row": "reply"') <= 24
    assert "DeepL refuses every request" in capsys.readouterr().err


def test_texts_that_no_request_can_hold_as_they_are_harm_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"q": f"it is {character} there", "a": "3", "video_id": f"v_{number}"}
        for number, character in enumerate("\x0b\x08\x1b\ud83d\uffff")
    ]
    (folder / "in.json").write_text(json.dumps(rows))
    with DeepLServer() as server:
        assert translate(server) == 0
        assert len(server.requests) == 1
        (folder / "out.json").unlink()
        recipe = f"kind: endpoint\nmodel: tiny\nserver_url: {server.url}/v1\n"
        rows[3]["a"] = "a cat \ud83d"  # its context cannot be sent as it is, either
        (folder / "in.json").write_text(json.dumps(rows))
        assert translate(server, recipe=recipe) == 0
    # fifty answers of 600 characters, six bytes each, and one that is too long alone
    chinese = [f"{n}{'猫在跳' * 200}" for n in range(50)]
    rows = [{"q": "3", "a": text, "video_id": "v"} for text in [*chinese, "猫" * 25_000]]
    write(folder / "in.json", rows)
    with DeepLServer() as server:
        capsys.readouterr()
        assert translate(server, "--to", "en") == 2
        said = " ".join(capsys.readouterr().out.split())
        assert "1 of 102 texts have no translation (longer than a request may be: 150,0" in said
        assert server.billed.total() == 50
        assert len(server.requests) == 2


def test_line_breaks_stay_though_the_server_joins_lines(folder: Path) -> None:
    row = {"q": "what", "a": "a cat\n\n- a dog  \r\n  and more", "video_id": "v"}
    write(folder / "in.json", [row])
    with DeepLServer() as server:
        assert translate(server) == 0
        assert {request["tag_handling_version"] for request in server.requests} == {"v2"}
    target = rows_of(folder / "out.json")[0]["a"]
    parts = re.split(r"(\s*[\r\n]\s*)", target)
    assert parts[1::2] == ["\n\n", "  \r\n  "]
    assert parts[::2] == [pseudo("a cat"), pseudo("- a dog"), pseudo("and more")]


def test_repeated_attempts_count_against_the_cap_and_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "in.json", [{"q": "0123456 a", "a": "3", "video_id": "v"}])
    with DeepLServer(["half", "half"]) as server:
        assert translate(server, "--max_characters", "20") == 2
        said = " ".join(capsys.readouterr().out.split())
        assert "sent 18 characters, 9 of them repeated (may have been billed twice)" in said
        assert "not asked: beyond --max_characters: 1" in said
        assert len(server.requests) == 2
        assert translate(server, "--max_characters", "20") == 0
        assert "sent 9 characters; DeepL billed 9 for" in " ".join(capsys.readouterr().out.split())


def test_what_was_paid_for_in_vain_is_asked_again_only_when_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "in.json", ROWS[:1])
    with DeepLServer(blank=True) as server:
        for _ in range(2):
            assert translate(server) == 2
            assert "(a blank translation: 2)" in " ".join(capsys.readouterr().out.split())
            assert len(server.requests) == 2
        server.blank = False
        assert translate(server, "--dry_run") == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "2 came unusable before and wait for --retry_failed" in said
        assert translate(server, "--retry_failed") == 0
        assert len(server.requests) == 4


def test_a_reply_that_the_server_cut_off_is_none_though_it_counts_no_tokens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "in.json", ROWS[:1])
    with DeepLServer(finish="length") as server:
        recipe = f"kind: endpoint\nmodel: tiny\nserver_url: {server.url}/v1\n"
        for _ in range(2):
            assert translate(server, recipe=recipe) == 2
            said = " ".join(capsys.readouterr().out.split())
            assert "(longer than 2048 tokens: 2)" in said
        assert len(server.requests) == 2
        server.finish = "stop"
        assert translate(server, recipe=f"{recipe}max_tokens: 4096\n") == 0, "it has more room"
        assert len(server.requests) == 4


def test_each_kind_of_service_is_sent_its_own_key_alone() -> None:
    assert TranslatorConfig("deepl").key_name == "DEEPL_AUTH_KEY"
    assert TranslatorConfig("endpoint", "m").key_name == "OPENAI_API_KEY"
    assert TranslatorConfig("endpoint", "m", key_variable="MINE").key_name == "MINE"


def test_an_endpoint_never_sees_the_key_to_deepl(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPL_AUTH_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("t.yaml").write_text("kind: endpoint\nmodel: tiny\n")
    assert main(["translate", "in.json", "--target", "out.json", "--translator", "t.yaml"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err


def test_what_changes_no_translation_buys_none_again() -> None:
    def key(
        text: str, terms: dict[str, str] | None = None, kind: str = "deepl", **more: Any
    ) -> str:
        config = TranslatorConfig(kind, "m", **more)  # type: ignore[arg-type]
        return Translator(config, "en-zh", terms or {}, "label").key(text, "")

    plain = key("two Studies of horses")
    assert key("two Studies of horses", {"red ball": "红球", "stop": "停"}) == plain
    for term in ("study", "Horse", "studies of horse", "two"):
        assert key("two Studies of horses", {term: "词"}) != plain, term
    assert key("一只猫在跳", {"猫": "cat"}) != key("一只猫在跳") == key("一只猫在跳", {"狗": "dog"})
    for more in (
        {"beams": 2, "seed": 3, "temperature": 1.0, "prefix": "x", "max_tokens": 9},
        {"server_url": "https://api.deepl.com"},
        {"server_url": "https://api-free.deepl.com/"},
    ):
        assert key("two Studies of horses", **more) == plain
    assert key("two Studies of horses", formality="prefer_more") != plain
    assert key("two Studies of horses", server_url="http://127.0.0.1:1") != plain
    asked = key("a", kind="endpoint")
    assert key("a", kind="endpoint", max_tokens=9) == asked
    assert key("a", kind="endpoint", server_url="https://api.openai.com/v1/") == asked
    assert key("a", kind="endpoint", seed=1) != asked


def test_no_source_is_written_over_and_no_target_twice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "in.json").read_bytes()
    (folder / "link.json").symlink_to(folder / "in.json")
    with DeepLServer() as server:
        translate(server, "--dry_run")
        for target in ("./in.json", "link.json"):
            assert main(["translate", "in.json", "--target", target, "--translator", "t.yaml"]) == 2
            assert "the target is the source" in capsys.readouterr().err
        assert server.requests == []
        write(folder / "q.json", [{"video_name": "a", "question_id": "1", "question": "what"}])
        write(folder / "a.json", [{"question_id": "1", "answer": "a cat", "type": 2}])
        command = ["translate", "q.json", "--answers", "a.json", "--translator", "t.yaml"]
        assert main([*command, "--target", "o.json", "--target_answers", "o.json"]) == 2
        assert "two translations would go there" in capsys.readouterr().err
        assert main([*command, "--target", "o.json", "--target_answers", "q.json"]) == 2
    assert (folder / "in.json").read_bytes() == before


def test_an_estimate_needs_no_key(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPL_TEST_KEY")
    with DeepLServer() as server:
        assert translate(server, "--dry_run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"to send: {SENT} texts, {CHARACTERS} characters" in said
    assert "what the account has left is not known: DeepL needs a key" in said


def test_a_new_glossary_takes_the_place_of_the_old_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = folder / "terms.tsv"
    terms.write_text("red ball\t红球\n", encoding="utf-8")
    with DeepLServer(busy=3) as server:
        assert translate(server, "--glossary", "terms.tsv") == 0
        paid = server.characters
        terms.write_text("red ball\t红球\nname\t名字\nhorse\t马\n", encoding="utf-8")
        assert translate(server, "--glossary", "terms.tsv") == 0
        assert server.characters == paid, "no text has the new terms as words"
        write(folder / "in.json", [{"q": "a big horse", "a": "3", "video_id": "v"}])
        assert translate(server, "--glossary", "terms.tsv") == 0
        assert list(server.glossaries) == ["glossary-1"], "there is room for one alone"
        server.glossaries["theirs"] = {**server.glossaries.pop("glossary-1"), "name": "theirs"}
        terms.write_text("big\t大\n", encoding="utf-8")
        assert translate(server, "--glossary", "terms.tsv") == 2
    assert "no room for another glossary" in capsys.readouterr().err
    assert list(server.glossaries) == ["theirs"]


def test_predictions_without_their_last_line_end_and_empty_files_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = to_line(prediction_row(QASample("q1", "v1", "猫在做什么", "跳"), "跳"))
    for text, what in ((row.rstrip(), "no line end"), ("", NO_QUESTIONS), ("[]", NO_QUESTIONS)):
        (folder / "in.json").write_text(text, encoding="utf-8")
        with DeepLServer() as server:
            assert translate(server, "--to", "en") == 2
        assert what in " ".join(capsys.readouterr().err.split())


def test_a_glossary_is_made_once_and_goes_with_every_request(folder: Path) -> None:
    (folder / "terms.tsv").write_text("red ball\t红球\nname\t名字\n", encoding="utf-8")
    with DeepLServer() as server:
        assert translate(server, "--glossary", "terms.tsv") == 0
        write(folder / "in.json", [*ROWS, {"q": "what else", "a": "nothing", "video_id": "v_5"}])
        assert translate(server, "--glossary", "terms.tsv") == 0
        assert list(server.glossaries) == ["glossary-0"]
        assert {request["glossary_id"] for request in server.requests} == {"glossary-0"}
        assert server.characters == CHARACTERS + len("what else") + len("nothing")
        # without its terms texts that have them may be translated otherwise, and no others
        paid = server.characters
        assert translate(server) == 0
        assert server.characters == paid + 2 * len("a red ball")


@pytest.mark.parametrize(
    ("text", "what"), [("red ball", "line 1"), ("a\tb\tc", "line 1"), ("a\tb\na\tc", "two")]
)
def test_a_glossary_that_is_none_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, what: str
) -> None:
    (folder / "terms.tsv").write_text(text)
    with DeepLServer() as server:
        assert translate(server, "--glossary", "terms.tsv") == 2
        assert server.requests == []
    assert what in capsys.readouterr().err


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


def test_chinese_predictions_go_to_english_with_their_questions_as_context(folder: Path) -> None:
    sample = QASample("q1", "v1", "猫在做什么", "跳")
    rows = [
        prediction_row(sample, "它在 <b> 跳"),
        prediction_row(QASample("q2", "v1", "谁", "他"), None, None, "oom"),
    ]
    (folder / "in.json").write_text("".join(map(to_line, rows)), encoding="utf-8")
    with DeepLServer() as server:
        assert translate(server, "--to", "en") == 0
        (request,) = server.requests
    assert (request["source_lang"], request["target_lang"]) == ("ZH", "EN-US")
    assert request["context"] == "猫在做什么"
    record = read_translation(folder / "out.json")
    assert record is not None
    assert (record.what, record.direction, record.lines) == ("predictions", "zh-en", 1)
    assert [row["sample_id"] for row in read_rows(folder / "out.json")] == ["q1", "q2"]
    with DeepLServer() as server:
        none = ("--to", "en", "--max_characters", "0", "--failed", "keep", "--cache", "another")
        assert translate(server, *none) == 0
    assert read_rows(folder / "out.json") == rows[1:], "nothing in the wrong language is judged"


def test_an_endpoint_is_told_context_marks_and_the_terms_that_occur(folder: Path) -> None:
    (folder / "terms.tsv").write_text("red ball\t红球\nhorse\t马\n", encoding="utf-8")
    with DeepLServer() as server:
        recipe = f"kind: endpoint\nmodel: tiny\nserver_url: {server.url}/v1\n"
        assert translate(server, "--glossary", "terms.tsv", recipe=recipe) == 0
        assert len(server.requests) == SENT
        assert translate(server, "--glossary", "terms.tsv", recipe=recipe) == 0
        assert len(server.requests) == SENT
    told = [[m["content"] for m in request["messages"]] for request in server.requests]
    (asked,) = [user for _, user in told if "red ball" in user and "{name}" in user]
    assert asked.endswith(f"{ROWS[0]['q']}\n\na red ball")
    assert {("red ball = 红球" in system) for system, user in told if "red ball" in user} == {True}
    assert not any("马" in system for system, _ in told)
    (marked,) = [user for _, user in told if user.startswith("is it")]
    assert marked == 'is it [1] & "big"?'
    wanted = [{**row, "q": pseudo(row["q"]), "a": pseudo(row["a"])} for row in ROWS]
    assert rows_of(folder / "out.json") == wanted


def test_a_translation_that_was_cut_off_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeepLServer() as server:
        recipe = f"kind: endpoint\nmodel: tiny\nmax_tokens: 10\nserver_url: {server.url}/v1\n"
        assert translate(server, recipe=recipe) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "(longer than 10 tokens: 5)" in said


def test_a_dataset_is_translated_split_by_split_to_where_the_other_recipe_has_it(
    folder: Path,
) -> None:
    asked = [{"video_name": "a", "question_id": "a_1", "question": "what is it"}]
    replies = [{"question_id": "a_1", "answer": "a cat", "type": 2}]
    write(folder / "q.json", asked)
    write(folder / "a.json", replies)
    for name, end in (("en", ""), ("zh", "_zh")):
        (folder / f"{name}.yaml").write_text(
            f"name: {name}\nvideos: videos\nsplits:\n"
            f"  train: {{format: videoinstruct, questions: in{end}.json}}\n"
            f"  test: {{format: qa-pairs, questions: q{end}.json, answers: a{end}.json}}\n"
        )
    with DeepLServer() as server:
        Path("t.yaml").write_text(
            f"kind: deepl\nserver_url: {server.url}\nkey_variable: DEEPL_TEST_KEY\n"
        )
        command = ["translate", "en.yaml", "--translator", "t.yaml", "--target"]
        assert main([*command, "en.yaml"]) == 2, "onto itself"
        assert server.requests == []
        cap = str(CHARACTERS + len("what is it"))  # of the whole command, not of each file
        assert main([*command, "zh.yaml", "--max_characters", cap]) == 2
        assert server.characters == int(cap)
        assert not (folder / "q_zh.json").exists()
        assert main([*command, "zh.yaml"]) == 0
    assert [row["q"] for row in rows_of(folder / "in_zh.json")] == [pseudo(r["q"]) for r in ROWS]
    assert rows_of(folder / "q_zh.json") == [{**asked[0], "question": pseudo("what is it")}]
    assert rows_of(folder / "a_zh.json") == [{**replies[0], "answer": pseudo("a cat")}]
    assert read_translation(folder / "q_zh.json") is not None


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


def test_an_interrupted_command_waits_for_what_is_paid_and_says_that_it_is_kept(
    folder: Path,
) -> None:
    write(folder / "in.json", [{"q": f"is it {n}", "a": "no", "video_id": "v"} for n in range(60)])
    with DeepLServer(delay=0.3) as server:
        text = f"kind: deepl\nserver_url: {server.url}\nbatch: 1\nconcurrency: 3\n"
        Path("t.yaml").write_text(f"{text}key_variable: DEEPL_TEST_KEY\n")
        zygote = Zygote("translate_zygote.py")
        order = {"file": "in.json", "target": "out.json", "translator": "t.yaml", "cache": "c"}
        pid = zygote.start(order)
        while len(server.requests) < 7:
            time.sleep(0.01)
        os.kill(pid, signal.SIGINT)
        assert zygote.wait() == INTERRUPTED
        (ledger,) = Path("c").glob("*/ledger.jsonl")
        kept = {
            row["key"]
            for row in map(json.loads, ledger.read_text().splitlines())
            if row["row"] == "reply"
        }
        assert len(kept) == server.billed.total() < 60
        server.delay = 0
        zygote.start(order)
        assert zygote.wait() == 0
        zygote.close()
        assert max(server.billed.values()) == 1
        assert server.billed.total() == 60 + 60, "sixty questions, and as many answers in context"


def test_two_commands_at_once_pay_for_each_text_once(folder: Path) -> None:
    with DeepLServer(delay=0.5) as server:
        text = f"kind: deepl\nserver_url: {server.url}\nbatch: 1\nconcurrency: 1\n"
        Path("t.yaml").write_text(f"{text}key_variable: DEEPL_TEST_KEY\n")
        zygote = Zygote("translate_zygote.py")
        order = {"file": "in.json", "translator": "t.yaml", "cache": "runs/translation-cache"}
        zygote.start({**order, "target": "other.json"})
        while not server.requests:
            time.sleep(0.01)
        command = ["translate", "in.json", "--target", "out.json", "--translator", "t.yaml"]
        assert main(command) == 0
        assert zygote.wait() == 0
        zygote.close()
        assert server.billed.total() == len(server.billed) == SENT
    assert rows_of(folder / "out.json") == rows_of(folder / "other.json")
