from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from test_pipelines_world import Witness

from pipelines import story_text, story_world, world
from pipelines.worlds import DEMO, STORIES

PLAIN = {
    r"which thing does the (\w+) do at the beginning": r"what does the \1 do first",
    r"at the start what does the (\w+) do": r"what does the \1 do first",
    r"which thing does the (\w+) do at the end": r"what does the \1 do last",
    r"in the end what does the (\w+) do": r"what does the \1 do last",
    r"it (.+) and what comes next": r"what happens after it \1",
    r"it (.+) and what came just before": r"what happens before it \1",
    r"from where does the (\w+) move": r"where is the \1 before it moves",
    r"to where does the (\w+) move": r"where is the \1 after it moves",
    r"the (\w+) has what colour at the beginning": r"what colour is the \1 before it changes",
    r"the (\w+) has what colour at the end": r"what colour is the \1 after it changes",
    r"the (\w+) has what colour": r"what colour is the \1",
    r"in which place is the (\w+)": r"where is the \1",
    r"the (\w+) is where": r"where is the \1",
    r"the (\S+) shows which shape": r"what shape is at the \1",
    r"can you see a (.+)": r"is there a \1",
}
"""What every other wording means, in the words that the witness of the demo world understands."""


def stories(seed: int, count: int) -> list[world.Story]:
    rng = np.random.default_rng(seed)
    return [story_world.sample_story(rng) for _ in range(count)]


def in_order(things: list[world.Thing]) -> str:
    order = ["circle", "square", "triangle", "cross"]
    return " and ".join(
        f"{thing.colour} {thing.shape}"
        for thing in sorted(things, key=lambda thing: order.index(thing.shape))
    )


def answer(witness: Witness, question: str) -> str:
    still = in_order(list(witness.still.values()))
    deeds = f"{witness.seen[0].colour} {witness.actor} {' then '.join(witness.deeds)}"
    if question in ("what happens in the video", "what is going on in the video"):
        return deeds
    if question in ("what stays as it is in the video", "which things stand still in the video"):
        return still
    if question in ("describe the video", "describe everything in the video"):
        return f"{still} {'stays' if len(witness.still) == 1 else 'stay'} {deeds}"
    for wording, plain in PLAIN.items():
        if found := re.fullmatch(wording, question):
            return witness.answer(found.expand(plain))
    return witness.answer(question)


def test_answers_agree_with_an_eyewitness() -> None:
    rng = np.random.default_rng(0)
    asked: set[str] = set()
    for story in stories(0, 250):
        witness = Witness(story)
        for ask in [*story_world.qa(story, rng, 8, 8), *story_world.captions(story, rng)]:
            assert answer(witness, ask.question) == ask.answer, (story, ask)
            asked.add(re.sub("|".join(map(re.escape, WORDS)), "_", ask.question))
    wordings = {re.sub(r"\{\w+\}", "_", w) for kind in KINDS for w in story_text.WORDINGS[kind]}
    assert {re.sub("changes colour|moves", "_", w) for w in wordings} == asked


WORDS = ["changes colour", *world.EVENTS, *world.COLOURS, *world.SHAPES, *world.CELLS]
KINDS = set(story_text.WORDINGS) - {"list"}


def test_pairs_have_one_answer_in_two_wordings() -> None:
    rng = np.random.default_rng(1)
    kinds = Counter[str]()
    for story in stories(1, 120):
        witness = Witness(story)
        for ask, second in story_world.pairs(story, rng, 4):
            assert ask.question != second
            assert answer(witness, ask.question) == answer(witness, second) == ask.answer
            kinds[ask.type] += 1
    assert kinds == {"temporal": 240, "spatial": 240}


def test_a_still_is_asked_about_everything_in_it() -> None:
    rng = np.random.default_rng(2)
    for story in stories(2, 200):
        scene = story.scene_at(int(rng.integers(world.NUM_FRAMES)))
        first, *others = story_world.scene_qa(scene, rng, 6)
        assert first.question in ("name everything", "which things are there")
        assert first.answer == in_order(list(scene.things))
        assert 1 <= len(others) <= 5


def test_actors_live_through_two_events_or_three_that_sampled_frames_show() -> None:
    counts = Counter[int]()
    for story in stories(3, 1000):
        counts[len(story.events)] += 1
        shown = [story.actor_at(frame) for frame in range(2, 32, 4)]
        assert sum(a != b for a, b in pairwise(shown)) >= len(story.events)
        assert len(set(story.events)) == len(story.events)
        cells = [thing.cell for thing in story.scene_at(world.NUM_FRAMES - 1).things]
        assert len(set(cells)) == len(cells)
    assert set(counts) == {2, 3}
    assert 200 < counts[3] < 400


def test_wordings_are_distinct_and_text_is_short_and_of_the_vocabulary() -> None:
    every = [w for wordings in story_text.WORDINGS.values() for w in wordings]
    assert len(set(every)) == len(every)
    assert all(len(wordings) >= 2 for wordings in story_text.WORDINGS.values())
    rng, words = np.random.default_rng(4), set(STORIES.vocabulary())
    longest = 0
    for story in stories(4, 600):
        asks = [*story_world.qa(story, rng, 4, 4), *story_world.captions(story, rng)]
        asks += [
            story_world.scene_qa(story.scene_at(9), rng, 6)[0],
            world.caption(story.scene_at(9)),
        ]
        for ask in asks:
            longest = max(longest, len(ask.answer.split()))
            for text in (ask.question, ask.answer):
                assert text == " ".join(text.split()).lower()
                assert set(text.split()) <= words
    assert longest == story_world.MAX_WORDS == STORIES.max_new_tokens - 2


@pytest.mark.parametrize(("part", "bound"), [("temporal", 0.3), ("generic", 0.05)])
def test_a_blind_guess_stays_low(part: str, bound: float) -> None:
    rng = np.random.default_rng(5)
    exams = [ask for story in stories(5, 1500) for ask in story_world.exam(story, rng, 2)]
    asks = [ask for name, ask, _ in exams if name == part]
    half = len(asks) // 2
    known: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ask in asks[:half]:
        known[ask.question][ask.answer] += 1
    best = {question: counts.most_common(1)[0][0] for question, counts in known.items()}
    assert np.mean([best.get(ask.question) == ask.answer for ask in asks[half:]]) < bound


def test_the_demo_world_is_what_it_was() -> None:
    """Its digest is part of the ids of all videos that were rendered so far."""
    assert DEMO.digest == "561e2b9699db1df5609f3b91b853c925b08b6c88644b68d7ca312afdde272f05"
    assert DEMO.digest != STORIES.digest
