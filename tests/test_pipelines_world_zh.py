from __future__ import annotations

import copy
import re
from collections import Counter

import numpy as np
import pytest
from world_parser import ENGLISH, in_chinese, in_english

from pipelines import world, world_text, world_zh
from pipelines.worlds import BILINGUAL, CHINESE, DEMO, World


def stories(seed: int, count: int) -> list[world.Story]:
    rng = np.random.default_rng(seed)
    return [world.sample_story(rng) for _ in range(count)]


def test_both_languages_ask_the_same_questions_in_the_same_order() -> None:
    rng, kinds = np.random.default_rng(1), set()
    for story in stories(1, 300):
        scene = story.scene_at(int(rng.integers(world.NUM_FRAMES)))
        twin = copy.deepcopy(rng)
        english = [*world.qa(story, rng, 5, 5), *world.scene_qa(scene, rng, 7)]
        chinese = [*world_zh.qa(story, twin, 5, 5), *world_zh.scene_qa(scene, twin, 7)]
        assert rng.bit_generator.state == twin.bit_generator.state
        english.append(world.caption(scene))
        chinese.append(world_zh.caption(scene))
        assert [in_english(ask) for ask in english] == [in_chinese(ask) for ask in chinese]
        assert [ask.type for ask in english] == [ask.type for ask in chinese]
        kinds |= {in_chinese(ask)[0] for ask in chinese}
    assert kinds == set(ENGLISH.questions)


def test_every_concept_and_kind_of_question_is_said_with_nothing_but_chinese_characters() -> None:
    assert list(world_zh.CHINESE.words) == list(ENGLISH.words)
    assert list(world_zh.CHINESE.questions) == list(ENGLISH.questions)
    for kind, template in world_zh.CHINESE.questions.items():
        slots = re.findall(r"\{(\w+)\}", template)
        assert sorted(slots) == sorted(re.findall(r"\{(\w+)\}", ENGLISH.questions[kind]))
    rng = np.random.default_rng(2)
    for story in stories(2, 100):
        for ask in world_zh.qa(story, rng, 4, 4):
            assert re.fullmatch("[\u4e00-\u9fff]+", ask.question + ask.answer)


def test_questions_are_what_a_speaker_would_ask() -> None:
    assert world_zh.question("first", {"shape": "circle"}) == "圆形最先做了什么"
    assert world_zh.question("after", {"event": "changes"}) == "它变色之后发生了什么"
    assert world_zh.question("cell before", {"shape": "cross"}) == "十字形移动之前在哪里"
    assert world_zh.question("exists", {"colour": "red", "shape": "square"}) == "有没有红色的方形"
    assert world_zh.phrase("top-left") == "左上角"
    assert {"最先", "有没有", "没有", "左上角"} <= set(world_zh.vocabulary())
    twins = dict(world_zh.twins())
    assert twins["变色"] == "changes"
    assert set(twins) <= set(world_zh.vocabulary())
    assert set(twins.values()) <= set(world_text.vocabulary())


def test_the_bilingual_world_asks_each_question_in_either_language_by_a_fair_draw() -> None:
    rng = np.random.default_rng(3)
    drawn: Counter[bool] = Counter()
    rows = set()
    for story in stories(3, 400):
        both = [world_fn(story, copy.deepcopy(rng), 3, 3) for world_fn in (world.qa, world_zh.qa)]
        asks = BILINGUAL.qa(story, rng, 3, 3)
        assert all(ask in pair for ask, *pair in zip(asks, *both, strict=True))
        tongues = [ask.question.isascii() for ask in asks]
        assert tongues == [ask.answer.isascii() for ask in asks]
        drawn.update(tongues)
        rows.add(tuple(tongues))
        scene = story.scene_at(0)
        drawn.update(ask.question.isascii() for ask in BILINGUAL.scene_qa(scene, rng, 3))
        drawn[BILINGUAL.caption(scene, rng).question.isascii()] += 1
    assert abs(drawn[True] / drawn.total() - 0.5) < 0.03  # 4 deviations of 4,000 draws
    assert len(rows) == 2**6, "each for itself"


@pytest.mark.parametrize("of", [DEMO, CHINESE, BILINGUAL], ids=["en", "zh", "both"])
def test_a_worlds_vocabulary_has_all_its_words(of: World) -> None:
    texts = {
        DEMO: [ENGLISH],
        CHINESE: [world_zh.CHINESE],
        BILINGUAL: [ENGLISH, world_zh.CHINESE],
    }[of]
    words = {
        word
        for tongue in texts
        for text in [*tongue.words.values(), *tongue.questions.values()]
        for word in text.split()
        if "{" not in word
    }
    assert set(of.vocabulary()) == words
    assert len(of.vocabulary()) == len(words)
