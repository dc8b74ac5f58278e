"""The stories world: a harder demo world, for captions and paraphrased questions.

It looks like the demo world (`pipelines.world`), but its actor always lives through two events,
sometimes three, and its questions take the forms of Video-ChatGPT's generative benchmark: captions
(judged for correctness, detail and context), questions about order (temporal), and pairs of
wordings with one answer (consistency).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from pipelines import story_text, world, world_text
from pipelines.world import BIG, CELLS, COLOURS, QA, SMALL, Scene, Story, Thing

CAPTIONS = ("deeds", "still", "describe")
"""Kinds of captions of a video."""
MAX_WORDS = 14
"""No answer is longer."""
_THIRD = 0.4
"""Share of a third event, where the actor has not vanished."""
_CUTS = ((4, 8), (12, 16), (20, 25))
"""First frames of three events: far enough apart for every event to show in 8 sampled frames."""
_Ask = tuple[str, dict[str, str], str]  # kind, slots, answer: all concepts
_Kind = Literal["temporal", "spatial"]


def sample_story(rng: np.random.Generator) -> Story:
    """Draws one of the demo world's stories of two events, and sometimes prolongs it by a third."""
    story = world.sample_story(rng)
    while len(story.events) < 2:
        story = world.sample_story(rng)
    actor = story.phases[-1]
    if actor is None or rng.random() >= _THIRD:
        return story
    options = _what_next(story, actor, rng)
    names = [name for name in options if name not in story.events]
    event = names[rng.integers(len(names))]
    return replace(
        story,
        phases=(*story.phases, options[event]),
        events=(*story.events, event),
        cuts=tuple(int(rng.integers(*span)) for span in _CUTS),
    )


def _what_next(story: Story, actor: Thing, rng: np.random.Generator) -> dict[str, Thing | None]:
    """Returns what may still happen to an actor, and what it is afterwards."""
    taken = {thing.cell for thing in (*story.statics, actor)}
    free = [name for name in CELLS if name not in taken]
    others = [name for name in COLOURS if name != actor.colour]
    x, y = CELLS[free[rng.integers(len(free))]]
    small = actor.size == SMALL
    return {
        "moves": replace(actor, x=x, y=y),
        "changes": replace(actor, colour=others[rng.integers(len(others))]),
        "grows" if small else "shrinks": replace(actor, size=BIG if small else SMALL),
        "vanishes": None,
    }


def actor_of(story: Story) -> Thing:
    """Returns the actor as it is first seen."""
    return next(phase for phase in story.phases if phase is not None)


def captions(story: Story, rng: np.random.Generator, seen: bool = True) -> list[QA]:
    """Asks for captions of a video, in any wording.

    Args:
        story: the video's truth.
        rng: draws the wordings.
        seen: what stands still is to be seen; else only what happens is asked for.
    """
    actor, events = actor_of(story), story.events
    deeds = QA(_word("deeds", {}, rng), story_text.tell_deeds(actor, events), "temporal")
    if not seen:
        return [deeds]
    still = QA(_word("still", {}, rng), story_text.list_things(story.statics), "spatial")
    whole = story_text.describe(story.statics, actor, events)
    return [deeds, still, QA(_word("describe", {}, rng), whole, "temporal")]


def qa(story: Story, rng: np.random.Generator, num_temporal: int, num_spatial: int) -> list[QA]:
    """Asks short questions about a story, in any wording; fewer where it has fewer to offer."""
    temporal = _draw(rng, temporal_asks(story), num_temporal)
    spatial = _draw(rng, _spatial_asks(story, rng), num_spatial)
    return [
        *(_say(ask, "temporal", rng) for ask in temporal),
        *(_say(ask, "spatial", rng) for ask in spatial),
    ]


def scene_qa(scene: Scene, rng: np.random.Generator, num_questions: int) -> list[QA]:
    """Asks about everything in a still picture, in any wording; always for a list of it."""
    things = QA(_word("list", {}, rng), story_text.list_things(scene.things), "spatial")
    asks = _draw(rng, world.spatial_asks(scene.things, list(scene.things), rng), num_questions - 1)
    return [things, *(_say(ask, "spatial", rng) for ask in asks)]


def pairs(story: Story, rng: np.random.Generator, count: int) -> list[tuple[QA, str]]:
    """Asks about deeds and about what stands still in turn, and gives each second wording."""
    kinds: tuple[tuple[list[_Ask], _Kind], ...] = (
        (_draw(rng, temporal_asks(story), count), "temporal"),
        (_draw(rng, _spatial_asks(story, rng), count), "spatial"),
    )
    found = []
    for number in range(count):
        asks, kind = kinds[number % 2]
        name, slots, answer = asks[number // 2]
        first, second = (story_text.question(name, slots, wording) for wording in (0, 1))
        found.append((QA(first, world_text.phrase(answer), kind), second))
    return found


def exam(story: Story, rng: np.random.Generator, count: int) -> list[tuple[str, QA, str | None]]:
    """Asks what the generative benchmark asks: (its file, a question, the second wording).

    Every caption once (`generic`), and `count` questions each of `temporal` and `consistency`.
    """
    return [
        *(("generic", ask, None) for ask in captions(story, rng)),
        *(("temporal", ask, None) for ask in qa(story, rng, count, 0)),
        *(("consistency", ask, second) for ask, second in pairs(story, rng, count)),
    ]


def temporal_asks(story: Story) -> list[_Ask]:
    """Returns every short question about the actor's deeds and their order."""
    shape = {"shape": story.actor_shape}
    asks: list[_Ask] = [("first", shape, story.events[0]), ("last", shape, story.events[-1])]
    for earlier, later in pairwise(story.events):
        asks += [("after", {"event": earlier}, later), ("before", {"event": later}, earlier)]
    for event, before, after in zip(story.events, story.phases, story.phases[1:], strict=False):
        if before is None or after is None:
            continue
        if event == "moves":
            asks += [("cell before", shape, before.cell), ("cell after", shape, after.cell)]
        if event == "changes":
            asks += [("colour before", shape, before.colour), ("colour after", shape, after.colour)]
    return asks


def _spatial_asks(story: Story, rng: np.random.Generator) -> list[_Ask]:
    seen = [*story.statics, *filter(None, story.phases)]
    return world.spatial_asks(story.statics, seen, rng)


def _draw(rng: np.random.Generator, asks: list[_Ask], count: int) -> list[_Ask]:
    return [asks[i] for i in rng.permutation(len(asks))[:count]]


def _word(kind: str, slots: dict[str, str], rng: np.random.Generator) -> str:
    wording = int(rng.integers(len(story_text.WORDINGS[kind])))
    return story_text.question(kind, slots, wording)


def _say(ask: _Ask, kind: _Kind, rng: np.random.Generator) -> QA:
    return QA(_word(ask[0], ask[1], rng), world_text.phrase(ask[2]), kind)
