"""What must stay becomes marks, and comes back."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest
from deepl_server import translate_xml
from pseudo_translation import KEPT, hard_lines, pseudo

from pipelines.translate.protect import Style, has_words, kept_tokens, mark, unmark

LINES = hard_lines(2000)


def test_every_token_that_must_stay_is_found_whole() -> None:
    for token in (*KEPT, "[12]", "【3】", "⟦7⟧", "<b>", "&amp;", "1️⃣"):
        assert kept_tokens(f"one {token} two") == [token], token
    assert kept_tokens("50% discount, 3 < 4, [a], {, `, @home, a&b") == []
    assert kept_tokens("See https://example.org/a(b).") == ["https://example.org/a(b"]


@pytest.mark.parametrize("style", ["xml", "brackets"])
def test_two_thousand_lines_through_a_faultless_translator_lose_nothing(style: Style) -> None:
    translate = translate_xml if style == "xml" else pseudo
    for line in LINES:
        target, wrong = unmark(line, translate(mark(line, style)), style)
        assert wrong == []
        assert target == pseudo(line)
        assert kept_tokens(target) == kept_tokens(line)


@pytest.mark.parametrize("style", ["xml", "brackets"])
def test_marks_that_nobody_touched_give_the_text_again(style: Style) -> None:
    for line in (*LINES[:200], "a < b & c > d", "[1] and [2]", '<x id="1">no</x>', "&lt;"):
        assert unmark(line, mark(line, style), style) == (line, [])


def test_marked_text_is_well_formed_xml_whatever_is_in_it() -> None:
    for line in LINES[:200]:
        ElementTree.fromstring(f"<all>{mark(line, 'xml')}</all>")


def test_a_mark_that_is_lost_doubled_or_made_up_is_told() -> None:
    source = "call {a} then {b}"
    assert mark(source, "brackets") == "call [1] then [2]"
    assert unmark(source, "叫 [1]", "brackets") == ("叫 {a}", ["{b}"])
    assert unmark(source, "叫 [2] [1] [2]", "brackets") == ("叫 {b} {a} {b}", ["{b}"])
    assert unmark(source, "叫 [1] [2] [3]", "brackets") == ("叫 {a} {b} [3]", ["[3]"])
    assert unmark(source, '叫 <x id="2">b</x>', "xml") == ("叫 {b}", ["{a}"])


def test_marks_that_a_model_wrote_in_the_chinese_way_are_marks() -> None:
    for raw in ("【1】叫", "\uff3b1\uff3d叫", "[ 1 ]叫"):
        assert unmark("{a} calls", raw, "brackets") == ("{a}叫", [])


def test_a_text_without_words_needs_no_translator() -> None:
    for text in ("3", "12:30", "🐱", "{name}", "`x`", "...", "https://example.org/a"):
        assert not has_words(text), text
    for text in ("a", "3 cats", "猫", "`x` is"):
        assert has_words(text), text


def test_what_compares_is_no_tag_and_a_long_word_takes_no_time() -> None:
    assert kept_tokens("is x<y and z>w?") == []
    for tag in ("<b>", "</b>", "<br/>", '<a href="x y">', "<first name>", "<video>"):
        assert kept_tokens(f"one {tag} two") == [tag]
    assert kept_tokens('in<b>side</b>, <a id="1">') == ["<b>", "</b>", '<a id="1">']
    start = time.perf_counter()
    assert kept_tokens("a" * 20_000) == kept_tokens("<a=" + "=" * 20_000) == []
    assert mark(" " * 20_000, "xml") == " " * 20_000
    assert time.perf_counter() - start < 0.5
    assert kept_tokens("write to me.and-you@example.org now") == ["me.and-you@example.org"]
