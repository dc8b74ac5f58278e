"""Reading what judging models write."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judges.parse import Parsed, parse_reply


@pytest.mark.parametrize(
    ("text", "correct", "score"),
    [
        ('{"pred": "yes", "score": 4}', True, 4.0),
        ('{"pred": "no", "score": 0}', False, 0.0),
        ('```json\n{"pred": "yes", "score": 4.8}\n```', True, 4.8),
        ("```\n{'pred': 'no', 'score': 2}\n```", False, 2.0),
        ('Here is my mark: {"pred": "Yes.", "score": "4/5"} as asked.', True, 4.0),
        ('{"Pred": "YES", "SCORE": "five"}', True, 5.0),
        ('{"pred": "yes", "score": "4 out of 5",}', True, 4.0),
        ("{'pred': True, 'score': 3.5,}", True, 3.5),
        ('{"pred": false, "score": 1}', False, 1.0),
        ("{'pred': false, 'score': 1}", False, 1.0),
        ('{pred: "yes", score: 4}', True, 4.0),
        ("{“pred”: “yes”, “score”: 4}", True, 4.0),
        ('{"verdict": {"pred": "yes", "score": 4}}', True, 4.0),
        (
            """{"reason": "it has {'pred': 'yes', 'score': 5}", "pred": "no", "score": 1}""",
            False,
            1.0,
        ),
        ('[{"pred": "yes", "score": 4}]', True, 4.0),
        ('{"reason": "a score: 3 is too low", "pred": "yes", "score": 4}', True, 4.0),
        ("{'reason': 'so \\d, see', 'pred': 'yes', 'score': 4}", True, 4.0),
        ('{"pred": "yes", "score": 4} {"score": 4.0, "pred": "yes"}', True, 4.0),
        ("Pred: yes\nScore: 4/5", True, 4.0),
        ("**pred**: no, **score**: 1.5", False, 1.5),
        ("yes, 4", True, 4.0),
        ("Yes. 4/5", True, 4.0),
        ('{"pred": "是", "score": "四分"}', True, 4.0),
        ("{“pred”：“否”，“score”：２}", False, 2.0),
        ('{"pred": "对", "score": "4分"}', True, 4.0),
        ('{"pred": "错", "score": "两分"}', False, 2.0),
        ("判断：不正确\n评分：1.5分", False, 1.5),
    ],
)
def test_a_right_or_wrong_with_a_score_is_read(text: str, correct: bool, score: float) -> None:
    assert parse_reply(text, "qa") == Parsed("ok", correct, score)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 4.8}', 4.8),
        ("4.8", 4.8),
        ("4/5", 4.0),
        ("five", 5.0),
        ("4 out of 5.", 4.0),
        ("`3`", 3.0),
        ("四分", 4.0),
        ("４．５", 4.5),
        ("Score = 2", 2.0),
        ("总评分: 3分", 3.0),
        ('{"pred": "yes", "score": 4}', 4.0),
        ('{"score": 4, "reason": "it says {pred"}', 4.0),
    ],
)
def test_a_score_alone_is_read(text: str, score: float) -> None:
    assert parse_reply(text, "detail") == Parsed("ok", None, score)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (None, "empty"),
        ("The answer is 1 of many.", "no pred and score"),
        ('{"pred": "yes"}', "no pred and score"),
        ('{"score": 4}', "no pred and score"),
        ("yes", "no pred and score"),
        ("1", "no pred and score"),
        ('{"pred": "yes", "score": 4', "cut off"),
        ('{"pred": "yes", "sc', "cut off"),
        ('{"pred": "partly", "score": 4}', "neither yes nor no"),
        ('{"pred": 1, "score": 4}', "neither yes nor no"),
        ('{"pred": "not yes", "score": 4}', "neither yes nor no"),
        ('{"pred": ["yes"], "score": 4}', "neither yes nor no"),
        ('{"pred": "yes", "score": 5.1}', "outside"),
        ('{"pred": "yes", "score": "-1"}', "outside"),
        ('{"pred": "yes", "score": 45}', "outside"),
        ('{"pred": "yes", "score": NaN}', "outside"),
        ('{"pred": "yes", "score": Infinity}', "outside"),
        ('{"pred": "yes", "score": 1e999}', "outside"),
        ('{"pred": "yes", "score": 1' + "0" * 5000 + "}", ""),
        ('{"pred": "yes", "score": "nan"}', "not a score"),
        ('{"pred": "yes", "score": true}', "not a score"),
        ('{"pred": "yes", "score": null}', "not a score"),
        ('{"pred": "yes", "score": "8/10"}', "not a score"),
        ('{"pred": "yes", "score": "3-4"}', "not a score"),
        ('{"pred": "yes", "score": "4 or 5"}', "not a score"),
        ('{"pred": "yes", "score": 4} {"pred": "no", "score": 1}', "disagree"),
        ("Score: 3\nPred: yes\nScore: 4", "disagree"),
        ('{"a":' * 5000, "cut off"),
    ],
)
def test_what_cannot_be_read_is_a_failure_with_a_reason(text: str | None, words: str) -> None:
    parsed = parse_reply(text, "qa")
    assert (parsed.outcome, parsed.correct, parsed.score) == ("parse_failure", None, None)
    assert words in parsed.reason
    assert parsed.reason


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I can’t judge this.",
        "I cannot rate the answer.",
        "As an AI language model, I do not judge.",
        "对不起，我无法评分。",
        "抱歉，我不能回答。",
    ],
)
def test_a_refusal_in_words_is_refused(text: str) -> None:
    assert parse_reply(text, "qa").outcome == "refused"


def test_an_apology_with_a_verdict_is_a_verdict() -> None:
    assert parse_reply('Sorry. {"pred": "no", "score": 0}', "qa") == Parsed("ok", False, 0.0)


@given(
    pred=st.sampled_from(["yes", "no"]),
    tenths=st.integers(0, 50),
    before=st.text("abc \n:.,!`*", max_size=20),
    after=st.text("abc \n:.,!`*", max_size=20),
    write=st.sampled_from([json.dumps, repr]),
    extra=st.dictionaries(st.text(max_size=4), st.text(max_size=20), max_size=2),
)
def test_any_object_in_any_text_is_read(
    pred: str, tenths: int, before: str, after: str, write: object, extra: dict[str, str]
) -> None:
    extra = {k: v for k, v in extra.items() if k.strip().lower() not in ("pred", "score")}
    assert callable(write)
    reply = write({"pred": pred, "score": tenths / 10})
    assert parse_reply(before + reply + after, "qa") == Parsed("ok", pred == "yes", tenths / 10)
    reply = json.dumps({**extra, "pred": pred, "score": tenths / 10})
    assert parse_reply(before + reply, "qa") == Parsed("ok", pred == "yes", tenths / 10)


@given(st.text(max_size=200) | st.text("{}[]\"':,.0123456789 \npredscoeyn", max_size=200))
def test_any_text_is_a_verdict_within_bounds_or_none(text: str) -> None:
    for parsed in (parse_reply(text, "qa"), parse_reply(text, "temporal")):
        if parsed.outcome == "ok":
            assert parsed.score is not None
            assert 0 <= parsed.score <= 5
            assert math.isfinite(parsed.score)
        else:
            assert parsed.score is None
            assert parsed.reason
