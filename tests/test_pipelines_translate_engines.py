"""Services on loopback: which key goes where, glossaries, endpoints, and what is asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deepl_server import KEY, DeepLServer
from pseudo_translation import pseudo
from translate_world import CHARACTERS, ROWS, SENT, prepare, rows_of, translate, write

from pipelines.__main__ import main
from pipelines.translate.options import Translator, TranslatorConfig


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, monkeypatch)


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
