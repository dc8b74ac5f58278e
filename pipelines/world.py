"""The demo world: short videos of coloured shapes in a 2x2 grid, with questions about them.

One actor lives through one or two events among one or two static objects. Temporal questions ask
what the actor did and in which order; spatial ones ask about what stands still, which a mean over
time shows. Objects overflow their cells, because a mean over patches would drown smaller ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines import world_text

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
    "purple": (160, 50, 190),
    "white": (235, 235, 235),
}
SHAPES = ("circle", "square", "triangle", "cross")
CELLS = {
    "top-left": (0.25, 0.25),
    "top-right": (0.75, 0.25),
    "bottom-left": (0.25, 0.75),
    "bottom-right": (0.75, 0.75),
}
EVENTS = ("moves", "changes", "appears", "vanishes", "grows", "shrinks")
NUM_FRAMES = 32
GLIDE = 4
"""Frames that a move or a growth takes."""
BIG, SMALL = 0.38, 0.25
"""Half the extent of an object, as a part of the frame: a big one shows in half of the patches."""


@dataclass(frozen=True)
class Thing:
    """One object: its centre and half extent are parts of the frame's side."""

    shape: str
    colour: str
    x: float
    y: float
    size: float = BIG

    @property
    def cell(self) -> str:
        """The grid cell that holds the centre."""
        return f"{'top' if self.y < 0.5 else 'bottom'}-{'left' if self.x < 0.5 else 'right'}"

    @property
    def concepts(self) -> tuple[str, str, str, str]:
        """What there is to say: colour, shape, cell and size."""
        size = "big" if self.size > (BIG + SMALL) / 2 else "small"
        return self.colour, self.shape, self.cell, size


@dataclass(frozen=True)
class Scene:
    """What one frame shows; later things hide earlier ones."""

    things: tuple[Thing, ...]
    shade: int
    """Grey level of the background."""


@dataclass(frozen=True)
class Story:
    """A video's whole truth: the actor is `phases[i]` before event i and `phases[i + 1]` after."""

    statics: tuple[Thing, ...]
    phases: tuple[Thing | None, ...]
    events: tuple[str, ...]
    cuts: tuple[int, ...]
    """First frame of each event."""
    shade: int

    @cached_property
    def actor_shape(self) -> str:
        """The actor's shape: it never changes, and no other object shares it."""
        return next(phase.shape for phase in self.phases if phase is not None)

    def actor_at(self, frame: int) -> Thing | None:
        """Returns the actor at one frame, None where it is not to be seen."""
        index = sum(frame >= cut for cut in self.cuts)
        after = self.phases[index]
        done = min((frame - self.cuts[index - 1] + 1) / GLIDE, 1.0) if index else 1.0
        before = self.phases[index - 1] if index else None
        if done == 1 or before is None or after is None or self.events[index - 1] == "changes":
            return after
        mix = {k: (1 - done) * getattr(before, k) + done * getattr(after, k) for k in _GEOMETRY}
        return replace(after, **mix)

    def scene_at(self, frame: int) -> Scene:
        """Returns what one frame shows."""
        actor = self.actor_at(frame)
        return Scene(self.statics if actor is None else (*self.statics, actor), self.shade)


@dataclass(frozen=True)
class QA:
    """One question with its only right answer."""

    question: str
    answer: str
    type: Literal["temporal", "spatial"]


_GEOMETRY = ("x", "y", "size")
_Ask = tuple[str, dict[str, str], str]  # kind, slots, answer: all concepts


def sample_story(rng: np.random.Generator) -> Story:
    """Draws a story; every event is about equally likely to come first, or last."""
    shapes = rng.permutation(SHAPES)
    cells = list(rng.permutation(list(CELLS)))
    statics = tuple(
        Thing(str(shape), _pick(rng, COLOURS), *CELLS[cells.pop()])
        for shape in shapes[1 : rng.integers(2, 4)]
    )
    events = _sample_events(rng)
    sizing = next((event for event in events if event in ("grows", "shrinks")), "")
    size = {"grows": SMALL, "shrinks": BIG}.get(sizing, float(rng.choice([SMALL, BIG])))
    actor = Thing(str(shapes[0]), _pick(rng, COLOURS), *CELLS[cells.pop()], size)
    phases: list[Thing | None] = [None if events[0] == "appears" else actor]
    for event in events:
        actor = _apply(event, actor, cells, rng)
        phases.append(None if event == "vanishes" else actor)
    spans = [(8, 21)] if len(events) == 1 else [(5, 11), (17, 24)]
    cuts = tuple(int(rng.integers(*span)) for span in spans)
    shade = int(rng.integers(0, 50))
    return Story(statics, tuple(phases), events, cuts, shade)


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    names = list(options)
    return names[rng.integers(len(names))]


def _sample_events(rng: np.random.Generator) -> tuple[str, ...]:
    first, last = rng.permutation(EVENTS)[:2]
    while first == "vanishes" or last == "appears":
        first, last = rng.permutation(EVENTS)[:2]
    if rng.random() < 0.85:
        return str(first), str(last)
    return (_pick(rng, EVENTS),)


def _apply(event: str, actor: Thing, free: list[str], rng: np.random.Generator) -> Thing:
    if event == "moves":
        x, y = CELLS[free[rng.integers(len(free))]]
        return replace(actor, x=x, y=y)
    if event == "changes":
        return replace(actor, colour=_pick(rng, tuple(c for c in COLOURS if c != actor.colour)))
    return replace(actor, size={"grows": BIG, "shrinks": SMALL}.get(event, actor.size))


def coverage(thing: Thing, size: int) -> NDArray[np.float32]:
    """Returns the share of each pixel that a thing covers, float32 (size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = axis[None, :] - thing.x, axis[:, None] - thing.y
    r = thing.size
    if thing.shape == "circle":
        distance = np.sqrt(x * x + y * y) - r
    elif thing.shape == "square":
        distance = np.maximum(abs(x), abs(y)) - 0.9 * r
    elif thing.shape == "triangle":
        distance = np.maximum(abs(x) * 0.9 - (y + r) * 0.45, y - 0.95 * r)
    else:
        across = np.minimum(abs(x), abs(y)) - 0.34 * r
        distance = np.maximum(across, np.maximum(abs(x), abs(y)) - r)
    return np.clip(0.5 - distance * size, 0, 1).astype(np.float32)


def render_scene(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """Draws one frame, uint8 (size, size, 3)."""
    image = np.full((size, size, 3), scene.shade, np.float32)
    for thing in scene.things:
        alpha = coverage(thing, size)[..., None]
        image += alpha * (np.array(COLOURS[thing.colour], np.float32) - image)
    return image.round().astype(np.uint8)


def render(story: Story, size: int = 64) -> NDArray[np.uint8]:
    """Draws a story's frames, uint8 (32, size, size, 3)."""
    return np.stack([render_scene(story.scene_at(frame), size) for frame in range(NUM_FRAMES)])


def qa(story: Story, rng: np.random.Generator, num_temporal: int, num_spatial: int) -> list[QA]:
    """Asks about a story: temporal questions about the actor, spatial ones about what stands still.

    Questions differ from each other where the story has that many to offer, and repeat where not.
    """
    temporal = [_say(ask, "temporal") for ask in _draw(rng, temporal_asks(story), num_temporal)]
    asks = spatial_asks(story.statics, [*story.statics, *filter(None, story.phases)], rng)
    return temporal + [_say(ask, "spatial") for ask in _draw(rng, asks, num_spatial)]


def scene_qa(scene: Scene, rng: np.random.Generator, num_questions: int) -> list[QA]:
    """Asks spatial questions about everything in a still picture."""
    asks = spatial_asks(scene.things, list(scene.things), rng)
    return [_say(ask, "spatial") for ask in _draw(rng, asks, num_questions)]


def caption(scene: Scene) -> QA:
    """Asks for everything in a still picture: shape, colour and cell, in the order of shapes."""
    things = sorted(scene.things, key=lambda thing: SHAPES.index(thing.shape))
    concepts = [word for thing in things for word in (thing.shape, thing.colour, thing.cell)]
    answer = " ".join(world_text.phrase(concept) for concept in concepts)
    return QA(world_text.question("caption", {}), answer, "spatial")


def _draw(rng: np.random.Generator, asks: list[_Ask], count: int) -> list[_Ask]:
    rounds = [rng.permutation(len(asks)) for _ in range(-(-count // len(asks)))]
    return [asks[i] for i in np.concatenate([[], *rounds]).astype(int)[:count]]


def _say(ask: _Ask, kind: Literal["temporal", "spatial"]) -> QA:
    return QA(world_text.question(ask[0], ask[1]), world_text.phrase(ask[2]), kind)


def temporal_asks(story: Story) -> list[_Ask]:
    """Returns every question about the actor's deeds and their order."""
    shape = {"shape": story.actor_shape}
    first, last = story.events[0], story.events[-1]
    alone = len(story.events) == 1
    asks: list[_Ask] = [("first", shape, first)]
    if first != "vanishes":
        asks.append(("after", {"event": first}, "nothing" if alone else last))
    if last != "appears":
        asks.append(("before", {"event": last}, "nothing" if alone else first))
    if not alone:
        asks.append(("last", shape, last))
    for event, before, after in zip(story.events, story.phases, story.phases[1:], strict=False):
        if before is None or after is None:
            continue
        if event == "moves":
            asks += [("cell before", shape, before.cell), ("cell after", shape, after.cell)]
        if event == "changes":
            asks += [("colour before", shape, before.colour), ("colour after", shape, after.colour)]
    return asks


def spatial_asks(
    things: tuple[Thing, ...], present: list[Thing], rng: np.random.Generator
) -> list[_Ask]:
    """Returns questions about `things`; what "is there" denies is none of `present`."""
    asks: list[_Ask] = []
    for thing in things:
        asks.append(("colour", {"shape": thing.shape}, thing.colour))
        asks.append(("cell", {"shape": thing.shape}, thing.cell))
        asks.append(("shape", {"cell": thing.cell}, thing.shape))
        asks.append(("exists", {"colour": thing.colour, "shape": thing.shape}, "yes"))
        asks.append(("exists", _absent(thing, present, rng), "no"))
    return asks


def _absent(thing: Thing, present: list[Thing], rng: np.random.Generator) -> dict[str, str]:
    """Draws a near miss: half of a thing's description is right, the whole is not to be seen."""
    seen = {(other.colour, other.shape) for other in present}
    while True:
        recolour = rng.random() < 0.5
        colour = _pick(rng, COLOURS) if recolour else thing.colour
        shape = thing.shape if recolour else _pick(rng, SHAPES)
        if (colour, shape) not in seen:
            return {"colour": colour, "shape": shape}
