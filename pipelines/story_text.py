"""The stories world's language: every kind of question in two or three wordings, and captions.

Words for concepts are the demo world's (`pipelines.world_text`); only what is asked differs. The
first two wordings of a kind are the pair that the consistency aspect asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines import world_text
from pipelines.world import SHAPES, Thing

WORDINGS: dict[str, tuple[str, ...]] = {
    "first": (
        "what does the {shape} do first",
        "which thing does the {shape} do at the beginning",
        "at the start what does the {shape} do",
    ),
    "last": (
        "what does the {shape} do last",
        "which thing does the {shape} do at the end",
        "in the end what does the {shape} do",
    ),
    "after": ("what happens after it {event}", "it {event} and what comes next"),
    "before": ("what happens before it {event}", "it {event} and what came just before"),
    "cell before": ("where is the {shape} before it moves", "from where does the {shape} move"),
    "cell after": ("where is the {shape} after it moves", "to where does the {shape} move"),
    "colour before": (
        "what colour is the {shape} before it changes colour",
        "the {shape} has what colour at the beginning",
    ),
    "colour after": (
        "what colour is the {shape} after it changes colour",
        "the {shape} has what colour at the end",
    ),
    "colour": ("what colour is the {shape}", "the {shape} has what colour"),
    "cell": ("where is the {shape}", "in which place is the {shape}", "the {shape} is where"),
    "shape": ("what shape is at the {cell}", "the {cell} shows which shape"),
    "exists": ("is there a {colour} {shape}", "can you see a {colour} {shape}"),
    "list": ("name everything", "which things are there"),
    "deeds": ("what happens in the video", "what is going on in the video"),
    "still": ("what stays as it is in the video", "which things stand still in the video"),
    "describe": ("describe the video", "describe everything in the video"),
}
"""Templates of every kind of question; `{slot}` is replaced by a concept's phrase."""


def question(kind: str, slots: dict[str, str], wording: int) -> str:
    """Renders a question of one kind, each slot given as a concept, in the wording of a number."""
    phrases = {slot: world_text.phrase(concept) for slot, concept in slots.items()}
    return WORDINGS[kind][wording].format(**phrases)


def list_things(things: Sequence[Thing]) -> str:
    """Names things by colour and shape, in the order of shapes: `blue square and green cross`."""
    ordered = sorted(things, key=lambda thing: SHAPES.index(thing.shape))
    return " and ".join(f"{thing.colour} {thing.shape}" for thing in ordered)


def tell_deeds(thing: Thing, events: Sequence[str]) -> str:
    """Says what a thing does, in order: `red circle moves then grows`."""
    deeds = " then ".join(world_text.phrase(event) for event in events)
    return f"{thing.colour} {thing.shape} {deeds}"


def describe(statics: Sequence[Thing], actor: Thing, events: Sequence[str]) -> str:
    """Says what stands still, then what happens."""
    stay = "stays" if len(statics) == 1 else "stay"
    return f"{list_things(statics)} {stay} {tell_deeds(actor, events)}"


def vocabulary() -> list[str]:
    """Returns every word of the language, sorted, each once."""
    templates = [template for wordings in WORDINGS.values() for template in wordings]
    words = {word for text in [*templates, "and stay stays"] for word in text.split()}
    return sorted({word for word in words if "{" not in word} | set(world_text.vocabulary()))
