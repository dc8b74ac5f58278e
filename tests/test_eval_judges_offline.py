"""Verdicts worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest

from eval.judges.base import Cost, Judge, JudgeItem, Verdict, read_verdicts, write_verdicts
from eval.judges.make import make_judge
from eval.judges.offline import OfflineJudge
from eval.judges.options import JudgeConfig
from eval.overlap import normalise, token_f1
from features.config import Aspect
from features.errors import ConfigError, RedVillmError
from features.recipes import load_recipe


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  The Red\n circle. ", "red circle"),
        ("A an THE dog's", "dogs"),
        ("athena and theatre", "athena and theatre"),
        ("\uff27\uff52een\uff01", "green"),  # full-width letters (NFKC)
        ("ﬁve", "five"),
        ("“blue” \u2013 it moved", "blue it moved"),
        ("A.", "a"),  # an option's letter is not an article
        ("?!", "?!"),
        ("", ""),
        ("two dogs", "two dogs"),  # English number words stay words
    ],
)
def test_normalise(text: str, wanted: str) -> None:
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("红色\uff0c圆形。", "红色圆形"),  # full-width comma
        ("「红色」 的 圆形\uff01", "红色的圆形"),
        ("iPhone 手机", "iphone手机"),
        ("\uff13只猫", "3只猫"),  # a full-width digit
        ("三只猫。", "3只猫"),
        ("有两个人和十二只狗", "有2个人和12只狗"),
        ("三", "3"),
        ("两", "2"),
        ("零", "0"),
        ("十", "10"),
        ("十二", "12"),
        ("二十", "20"),
        ("九十九", "99"),
        ("一百", "100"),
        ("两百零五", "205"),
        ("一百一十五", "115"),
        ("三明治", "三明治"),  # a sandwich, not three of anything
        ("一起跳舞", "一起跳舞"),
        ("十分开心", "十分开心"),
        ("一百二", "一百二"),  # 120 in speech, 102 by the letter: left alone
        ("一百零五十", "一百零五十"),  # no number at all
        ("百个", "百个"),
        ("二零", "二零"),
    ],
)
def test_normalise_chinese(text: str, wanted: str) -> None:
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    ("pred", "answer", "wanted"),
    [
        ("red circle", "red circle", 1.0),
        ("red", "red circle", 2 / 3),  # precision 1, recall 1/2
        ("red red circle moves", "red circle", 4 / 6),  # 2 shared of 4 and of 2
        ("red red", "red", 2 / 3),  # counted with multiplicity
        ("blue", "red", 0.0),
        ("", "red", 0.0),
        ("一只狗", "一只猫", 2 / 3),  # Chinese by character
        ("12只狗", "12只猫", 2 / 3),  # a number is one token
    ],
)
def test_token_f1(pred: str, answer: str, wanted: float) -> None:
    assert token_f1(pred, answer) == pytest.approx(wanted)


def item(answer: str, pred: str, aspect: Aspect = "qa", pred2: str | None = None) -> JudgeItem:
    second = None if pred2 is None else "and in other words?"
    return JudgeItem("1", aspect, "what?", answer, pred, second, pred2)


def test_right_is_what_is_equal_after_normalisation_and_the_score_is_five_times_f1() -> None:
    judge: Judge = OfflineJudge()
    items = [item("Red.", "the red"), item("red", "red dog dog"), item("red", "")]
    assert judge(items) == [
        Verdict("1", "qa", "ok", True, 5.0),
        Verdict("1", "qa", "ok", False, 2.5),  # F1 = 2·1/(1+3)
        Verdict("1", "qa", "ok", False, 0.0),  # saying nothing is wrong
    ]
    assert judge.estimate(items) == Cost()
    assert "gpt" not in judge.record.name.lower()


@pytest.mark.parametrize("aspect", ["correctness", "detail", "context", "temporal"])
def test_an_aspect_has_a_score_and_no_right_or_wrong(aspect: Aspect) -> None:
    # 2 of the 4 words of each side are shared: F1 = 2·2/(4+4)
    verdicts = OfflineJudge()([item("man rides red bicycle", "man rides blue horse", aspect)])
    assert verdicts == [Verdict("1", aspect, "ok", None, 2.5)]


def test_of_a_pair_the_mean_counts() -> None:
    # F1 of "red dog" with "red circle" is 1/2, of "blue" 0: 5 · (1/2 + 0) / 2
    verdicts = OfflineJudge()([item("red circle", "red dog", "consistency", "blue")])
    assert verdicts == [Verdict("1", "consistency", "ok", None, 1.25)]


def test_chinese_answers() -> None:
    judge = OfflineJudge("zh")
    items = [item("3只猫", "三只猫。"), item("两", "2"), item("一只花猫", "一只小狗")]
    assert judge(items) == [
        Verdict("1", "qa", "ok", True, 5.0),
        Verdict("1", "qa", "ok", True, 5.0),
        Verdict("1", "qa", "ok", False, 2.5),  # 2 of 4 tokens on both sides
    ]
    assert judge.record.language == "zh"
    assert judge.record.slug != OfflineJudge().record.slug


def test_the_judge_of_stored_verdicts_stays_the_judge_it_was() -> None:
    """Studies and folders of verdicts go by these names, in both languages."""
    assert OfflineJudge().record.slug == "offline-em-f1-2-5d14fc51"
    assert OfflineJudge("zh").record.slug == "offline-em-f1-2-434938ef"
    assert OfflineJudge().record.label == "offline-em-f1-2"
    assert OfflineJudge("zh").record.label == "offline-em-f1-2 (zh)"


def test_words_of_chinese_are_another_judge_s_tokens() -> None:
    judge = OfflineJudge("zh", words=True)
    items = [
        item("红色的圆形", "红色的、圆形。"),  # punctuation is no word
        item("红色圆形", "红色方块"),  # 1 of 2 words; of 4 characters 2, and also 2.5
        item("骑自行车", "骑车"),  # 骑|自行车 and 骑车: no word shared, two characters are
    ]
    assert [(v.correct, v.score) for v in judge(items)] == [(True, 5.0), (False, 2.5), (False, 0.0)]
    by_character = OfflineJudge("zh")(items[2:])
    assert by_character[0].score == pytest.approx(5 * 2 * 2 / (4 + 2))
    assert judge.record.name == f"offline-em-f1-2-words-jieba-{version('jieba')}"
    assert judge.record.digest != OfflineJudge("zh").record.digest


def test_both_scripts_are_one_where_a_judge_says_so() -> None:
    items = [item("红色的汽车", "紅色的汽車"), item("红色的汽车", "紅色的汽車", "detail")]
    assert [v.score for v in OfflineJudge("zh")(items)] == [3.0, 3.0]  # 3 of 5 characters
    judge = OfflineJudge("zh", simplified=True)
    assert [(v.correct, v.score) for v in judge(items)] == [(True, 5.0), (None, 5.0)]
    assert judge.record.name == f"offline-em-f1-2-t2s-opencc-{version('opencc')}"


def test_recipes_lead_to_these_judges(tmp_path: Path) -> None:
    names = {}
    for name in ("offline", "offline-zh", "offline-zh-words"):
        record = make_judge(load_recipe("judges", name, JudgeConfig), tmp_path).record
        names[name] = (record.name.partition("-words")[0], record.language)
    zh = ("offline-em-f1-2", "zh")
    assert names == {
        "offline": ("offline-em-f1-2", "en"),
        "offline-zh": zh,
        "offline-zh-words": zh,
    }
    with pytest.raises(ConfigError, match="offline judge in Chinese"):
        JudgeConfig(words=True)
    with pytest.raises(ConfigError, match="offline judge in Chinese"):
        JudgeConfig("endpoint", "some-model", language="zh", simplified=True)


def test_verdicts_come_back_as_they_were_written(tmp_path: Path) -> None:
    lost = Verdict("3", "qa", "lost", reason="truncated")
    verdicts = [Verdict("1", "qa", "ok", True, 5.0, reply="是\n"), lost]
    write_verdicts(tmp_path / "verdicts.jsonl", verdicts)
    assert read_verdicts(tmp_path / "verdicts.jsonl") == verdicts
    lines = (tmp_path / "verdicts.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[1]) == asdict(lost)


@pytest.mark.parametrize("text", [b'{"sample_id": "1"}\n', b"[]\n", b'{"sample_id"', b"\xff\n"])
def test_a_file_that_holds_no_verdicts(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(text)
    with pytest.raises(RedVillmError, match=r"verdict.*verdicts\.jsonl"):
        read_verdicts(path)
