"""The worlds that bases are trained on and datasets are rendered from, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from pipelines import story_text, story_world, world, world_text
from pipelines.world import QA, Scene, Story

WorldName = Literal["demo", "stories"]


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

    @cached_property
    def digest(self) -> str:
        """sha256 of the code: another world gives other videos, with other ids."""
        code = (Path(str(module.__file__)).read_bytes() for module in self.modules)
        return hashlib.sha256(b"".join(code)).hexdigest()


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
WORLDS: dict[WorldName, World] = {"demo": DEMO, "stories": STORIES}
