"""`python -m pipelines translate` against a DeepL on loopback: files, caps, quotas, kills."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deepl_server import KEY, DeepLServer
from pseudo_translation import pseudo
from translate_world import CHARACTERS, ROWS, SENT, prepare, rows_of, translate, write
from zygote import INTERRUPTED, Zygote

from eval.answer_files import to_line
from eval.folders import prediction_row, read_rows
from features.annotations import NO_QUESTIONS, QASample
from features.translation import Translation, read_translation
from pipelines.__main__ import main
from pipelines.translate.lines import lines_path, read_lines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


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


def test_predictions_without_their_last_line_end_and_empty_files_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = to_line(prediction_row(QASample("q1", "v1", "猫在做什么", "跳"), "跳"))
    for text, what in ((row.rstrip(), "no line end"), ("", NO_QUESTIONS), ("[]", NO_QUESTIONS)):
        (folder / "in.json").write_text(text, encoding="utf-8")
        with DeepLServer() as server:
            assert translate(server, "--to", "en") == 2
        assert what in " ".join(capsys.readouterr().err.split())


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
