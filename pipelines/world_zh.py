"""The demo world in Chinese: its words, question templates and vocabulary, and its questions.

Not a translation: `qa`, `scene_qa` and `caption` draw the same asks from the same random stream as
`pipelines.world` and say them in Chinese. Question k of a video is therefore the same in both
languages, and a translation of one can be scored against the other. The Chinese words are not in
`world_text.LANGUAGES`, because a change of that file would give all videos other ids.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipelines import world, world_text
from pipelines.world import QA, SHAPES, Scene, Story

CHINESE = world_text.Language(
    words={
        "red": "红色",
        "green": "绿色",
        "blue": "蓝色",
        "yellow": "黄色",
        "purple": "紫色",
        "white": "白色",
        "circle": "圆形",
        "square": "方形",
        "triangle": "三角形",
        "cross": "十字形",
        "top-left": "左上角",
        "top-right": "右上角",
        "bottom-left": "左下角",
        "bottom-right": "右下角",
        "small": "小",
        "big": "大",
        "yes": "有",
        "no": "没有",
        "nothing": "什么也没发生",
        "then": "然后",
        ".": "。",
        "moves": "移动",
        "appears": "出现",
        "vanishes": "消失",
        "grows": "变大",
        "shrinks": "变小",
        "changes": "变色",
    },
    questions={
        "first": "{shape} 最先 做了 什么",
        "last": "{shape} 最后 做了 什么",
        "after": "它 {event} 之后 发生了 什么",
        "before": "它 {event} 之前 发生了 什么",
        "cell before": "{shape} 移动 之前 在 哪里",
        "cell after": "{shape} 移动 之后 在 哪里",
        "colour before": "{shape} 变色 之前 是 什么 颜色",
        "colour after": "{shape} 变色 之后 是 什么 颜色",
        "colour": "{shape} 是 什么 颜色",
        "cell": "{shape} 在 哪里",
        "shape": "{cell} 是 什么 形状",
        "caption": "画面里 有 什么",
        "exists": "有没有 {colour} 的 {shape}",
    },
)
"""Blanks divide the words of the mini tokenizer; they are not written. Yes and no answer 有没有."""
_Ask = tuple[str, dict[str, str], str]  # kind, slots, answer: all concepts


def question(kind: str, slots: dict[str, str]) -> str:
    """Renders a question of one kind, each slot given as a concept."""
    told = CHINESE.questions[kind].format(**{k: CHINESE.words[v] for k, v in slots.items()})
    return told.replace(" ", "")


def phrase(concept: str) -> str:
    """Returns the word for a concept."""
    return CHINESE.words[concept]


def vocabulary() -> list[str]:
    """Returns every word of the language, sorted, each once."""
    texts = [*CHINESE.words.values(), *CHINESE.questions.values()]
    return sorted({word for text in texts for word in text.split() if not word.startswith("{")})


def twins() -> tuple[tuple[str, str], ...]:
    """Returns every concept's Chinese word with its English one (`changes` of `changes colour`)."""
    return tuple((word, world_text.phrase(c).split()[0]) for c, word in CHINESE.words.items())


def qa(story: Story, rng: np.random.Generator, num_temporal: int, num_spatial: int) -> list[QA]:
    """Asks what `world.qa` asks with the same generator, in the same order."""
    temporal = world._draw(rng, world.temporal_asks(story), num_temporal)
    present = [*story.statics, *filter(None, story.phases)]
    spatial = world._draw(rng, world.spatial_asks(story.statics, present, rng), num_spatial)
    return [
        *(_say(ask, "temporal") for ask in temporal),
        *(_say(ask, "spatial") for ask in spatial),
    ]


def scene_qa(scene: Scene, rng: np.random.Generator, num_questions: int) -> list[QA]:
    """Asks what `world.scene_qa` asks with the same generator, in the same order."""
    asks = world.spatial_asks(scene.things, list(scene.things), rng)
    return [_say(ask, "spatial") for ask in world._draw(rng, asks, num_questions)]


def caption(scene: Scene) -> QA:
    """Asks for everything in a still picture: shape, colour and cell, in the order of shapes."""
    things = sorted(scene.things, key=lambda thing: SHAPES.index(thing.shape))
    concepts = [word for thing in things for word in (thing.shape, thing.colour, thing.cell)]
    return QA(question("caption", {}), "".join(map(phrase, concepts)), "spatial")


def _say(ask: _Ask, kind: Literal["temporal", "spatial"]) -> QA:
    return QA(question(ask[0], ask[1]), phrase(ask[2]), kind)
