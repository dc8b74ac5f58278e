"""The Chinese rubrics say the same to the judge as the English ones, in Chinese."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from eval.judges.base import JudgeItem
from eval.judges.rubric import load_rubric, reply_schema
from features.config import Aspect

HAN = "\u3400-\u9fff"


def item(aspect: Aspect) -> JudgeItem:
    pair = ("他做了什么", "他跳了") if aspect == "consistency" else (None, None)
    return JudgeItem("1", aspect, "男人在做什么", "跳舞", "在{answer}跳舞", *pair)


@pytest.mark.parametrize("aspect", get_args(Aspect))
def test_a_chinese_rubric_asks_for_the_same_json_between_the_same_marks(aspect: Aspect) -> None:
    (system, user), (_, english) = (
        load_rubric(language).render(item(aspect)) for language in ("zh", "en")
    )
    example = json.loads(system.rstrip().splitlines()[-1])
    assert list(example) == reply_schema(aspect)["required"]
    marks = re.compile(r"^=== (\w{8}) .+ ===$", re.MULTILINE)
    assert marks.findall(user) == marks.findall(english)
    assert len(marks.findall(user)) == (6 if aspect == "consistency" else 4)
    # what stands between the marks is the same as well
    ours, theirs = (
        [part.strip() for part in re.split(marks.pattern, text, flags=re.MULTILINE)][2:-1:2]
        for text in (user, english)
    )
    assert ours == theirs
    assert "在{answer}跳舞" in ours


@pytest.mark.parametrize("aspect", get_args(Aspect))
def test_a_chinese_rubric_is_chinese(aspect: Aspect) -> None:
    template = load_rubric("zh").templates[aspect]
    text = template.system + template.user
    assert not re.search(rf"[{HAN}] ?[,.;:?!()]|[,.;:?!()] ?[{HAN}]", text)  # full width
    assert not re.search(rf"[{HAN}]\n[{HAN}]", text)  # a line break would be a blank
    words = set(re.findall(r"[A-Za-z]+", re.sub(r"\{[^{}]*\}", "", text)))
    assert words <= {"JSON", "score", "pred", "yes", "no", "a", "b", "c", "d"}  # 0a1b2c3d


def test_languages_are_two_rubrics() -> None:
    assert load_rubric("zh").digest != load_rubric("en").digest
