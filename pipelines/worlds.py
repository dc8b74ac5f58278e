"""The worlds that bases are trained on and datasets are rendered from, by name."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from pipelines import story_text, story_world, world, world_text, world_zh
from pipelines.world import QA, Scene, Story

WorldName = Literal["demo", "stories", "bilingual"]


def _caption(scene: Scene, _rng: np.random.Generator) -> QA:
    return world.caption(scene)


def _no_captions(_story: Story, _rng: np.random.Generator, _seen: bool) -> list[QA]:
    return []


@dataclass(frozen=True)
class World:
    """What a world draws and asks; what it looks like is `pipelines.world`'s for all."""

    name: WorldName
    modules: tuple[ModuleType, ...]
    """The code that decides what is rendered and asked."""
    vocabulary: Callable[[], list[str]]
    """Every word of its language."""
    sample_story: Callable[[np.random.Generator], Story]
    qa: Callable[[Story, np.random.Generator, int, int], list[QA]]
    """Short questions about a video: so many temporal ones, so many spatial ones."""
    scene_qa: Callable[[Scene, np.random.Generator, int], list[QA]]
    """So many questions about a still picture."""
    captions: Callable[[Story, np.random.Generator, bool], list[QA]] = _no_captions
    """Captions of a video; False: only those that need nothing but what happens."""
    exam: Callable[[Story, np.random.Generator, int], list[tuple[str, QA, str | None]]] | None = (
        None
    )
    """Evaluation in the five-aspect form: file, question, second wording; None: `qa` serves."""
    max_new_tokens: int = 8
    """Of the base's own generation config: the longest answer and its end."""
    caption: Callable[[Scene, np.random.Generator], QA] = _caption
    """The question for everything in a still picture."""
    twins: tuple[tuple[str, str], ...] = ()
    """Words of a second language, each with the first one's of its meaning: where both words'
    embeddings start close together."""
    tongues: tuple[tuple[str, World], ...] = ()
    """The languages of a world of several: each one's name and the same world in it alone."""

    @cached_property
    def digest(self) -> str:
        """sha256 of the code: another world gives other videos, with other ids."""
        code = (Path(str(module.__file__)).read_bytes() for module in self.modules)
        return hashlib.sha256(b"".join(code)).hexdigest()


def _in_either(english: Callable[..., list[QA]], chinese: Callable[..., list[QA]]) -> Any:
    """The same questions, each in either language by a fair draw."""

    def ask(what: Story | Scene, rng: np.random.Generator, *counts: int) -> list[QA]:
        twin = copy.deepcopy(rng)
        pairs = zip(english(what, rng, *counts), chinese(what, twin, *counts), strict=True)
        return [pair[rng.integers(2)] for pair in pairs]

    return ask


def _caption_in_either(scene: Scene, rng: np.random.Generator) -> QA:
    return (world.caption, world_zh.caption)[rng.integers(2)](scene)


DEMO = World(
    "demo", (world, world_text), world_text.vocabulary, world.sample_story, world.qa, world.scene_qa
)
STORIES = World(
    "stories",
    (world, world_text, story_world, story_text),
    story_text.vocabulary,
    story_world.sample_story,
    story_world.qa,
    story_world.scene_qa,
    story_world.captions,
    story_world.exam,
    max_new_tokens=story_world.MAX_WORDS + 2,
)
CHINESE = replace(
    DEMO,
    modules=(world, world_text, world_zh),
    vocabulary=world_zh.vocabulary,
    qa=world_zh.qa,
    scene_qa=world_zh.scene_qa,
    caption=lambda scene, _rng: world_zh.caption(scene),
)
"""The demo's videos, asked about in Chinese."""
BILINGUAL = World(
    "bilingual",
    CHINESE.modules,
    lambda: [*world_text.vocabulary(), *world_zh.vocabulary()],
    world.sample_story,
    _in_either(world.qa, world_zh.qa),
    _in_either(world.scene_qa, world_zh.scene_qa),
    caption=_caption_in_either,
    twins=world_zh.twins(),
    tongues=(("English", DEMO), ("Chinese", CHINESE)),
)
WORLDS: dict[WorldName, World] = {"demo": DEMO, "stories": STORIES, "bilingual": BILINGUAL}
