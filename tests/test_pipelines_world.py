from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from pipelines import world, world_text


def stories(seed: int, count: int) -> list[world.Story]:
    rng = np.random.default_rng(seed)
    return [world.sample_story(rng) for _ in range(count)]


def test_same_seed_same_bytes_other_seed_other_videos() -> None:
    first, again, other = (
        [world.render(story).tobytes() for story in stories(seed, 5)] for seed in (0, 0, 1)
    )
    assert first == again
    assert not set(first) & set(other)


def test_render_gives_32_frames_of_uint8() -> None:
    video = world.render(stories(0, 1)[0], size=48)
    assert video.dtype == np.uint8
    assert video.shape == (world.NUM_FRAMES, 48, 48, 3)


def test_big_objects_overflow_their_cells_and_are_drawn_in_their_colour() -> None:
    scene = world.Scene((world.Thing("square", "red", *world.CELLS["top-left"]),), shade=0)
    image = world.render_scene(scene)
    assert tuple(image[16, 16]) == world.COLOURS["red"]
    assert image[:32, :32].any(-1).all()
    assert not image[48:].any()
    assert not image[:, 48:].any()


class Witness:
    """Knows a story from its frames' states alone, as somebody who watched the video would."""

    def __init__(self, story: world.Story) -> None:
        frames = [{t.shape: t for t in story.scene_at(f).things} for f in range(world.NUM_FRAMES)]
        shapes = set().union(*frames)
        self.still = {s: frames[0][s] for s in shapes if len({f.get(s) for f in frames}) == 1}
        (self.actor,) = shapes - set(self.still)
        self.seen = [frame[self.actor] for frame in frames if self.actor in frame]
        changes = pairwise(frame.get(self.actor) for frame in frames)
        deeds = [self.deed(a, b) for a, b in changes if a != b]
        self.deeds = [deed for last, deed in pairwise([None, *deeds]) if deed != last]
        self.ever = {(t.colour, t.shape) for frame in frames for t in frame.values()}

    @staticmethod
    def deed(before: world.Thing | None, after: world.Thing | None) -> str:
        if before is None:
            return "appears"
        if after is None:
            return "vanishes"
        if before.colour != after.colour:
            return "changes colour"
        if before.size != after.size:
            return "grows" if before.size < after.size else "shrinks"
        return "moves"

    def answer(self, question: str) -> str:
        if found := re.fullmatch(r"what does the (\w+) do (first|last)", question):
            assert found[1] == self.actor
            return self.deeds[0 if found[2] == "first" else -1]
        if found := re.fullmatch(r"what happens (before|after) it (.+)", question):
            place = self.deeds.index(found[2]) + (1 if found[1] == "after" else -1)
            return self.deeds[place] if 0 <= place < len(self.deeds) else "nothing"
        if found := re.fullmatch(r"where is the (\w+) (before|after) it moves", question):
            return self.seen[0 if found[2] == "before" else -1].cell
        if found := re.fullmatch(r"what colour is the \w+ (before|after) it .+", question):
            return self.seen[0 if found[1] == "before" else -1].colour
        if found := re.fullmatch(r"what colour is the (\w+)", question):
            return self.still[found[1]].colour
        if found := re.fullmatch(r"where is the (\w+)", question):
            return self.still[found[1]].cell
        if found := re.fullmatch(r"what shape is at the (\S+)", question):
            return next(t.shape for t in self.still.values() if t.cell == found[1])
        found = re.fullmatch(r"is there a (\w+) (\w+)", question)
        assert found is not None
        return "yes" if (found[1], found[2]) in self.ever else "no"


def test_answers_agree_with_an_eyewitness() -> None:
    rng = np.random.default_rng(2)
    kinds = set()
    for story in stories(2, 400):
        witness = Witness(story)
        for ask in world.qa(story, rng, 8, 8):
            assert witness.answer(ask.question) == ask.answer, (story, ask)
            kinds.add(ask.type)
    assert kinds == {"temporal", "spatial"}


def test_qa_gives_the_numbers_asked_for() -> None:
    rng = np.random.default_rng(3)
    for story in stories(3, 50):
        types = Counter(ask.type for ask in world.qa(story, rng, 2, 3))
        assert types == {"temporal": 2, "spatial": 3}
    assert world.qa(story, rng, 0, 0) == []


@pytest.fixture(scope="module")
def many_asks() -> list[world.QA]:
    rng = np.random.default_rng(4)
    return [ask for story in stories(4, 4000) for ask in world.qa(story, rng, 2, 2)]


@pytest.mark.parametrize(("kind", "bound"), [("temporal", 0.27), ("spatial", 0.38)])
def test_a_blind_guess_stays_low(many_asks: list[world.QA], kind: str, bound: float) -> None:
    asks = [ask for ask in many_asks if ask.type == kind]
    half = len(asks) // 2
    known: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ask in asks[:half]:
        known[ask.question][ask.answer] += 1
    best = {question: counts.most_common(1)[0][0] for question, counts in known.items()}
    assert np.mean([best.get(ask.question) == ask.answer for ask in asks[half:]]) < bound


def test_every_event_changes_what_sampled_frames_show() -> None:
    for story in stories(5, 200):
        shown = [story.actor_at(frame) for frame in range(2, 32, 4)]
        assert sum(a != b for a, b in pairwise(shown)) >= len(story.events)


def test_text_is_lower_case_words_of_the_vocabulary() -> None:
    rng = np.random.default_rng(6)
    words = set(world_text.vocabulary())
    for story in stories(6, 100):
        for ask in world.qa(story, rng, 4, 4):
            for text in (ask.question, ask.answer):
                assert text == " ".join(text.split()).lower()
                assert set(text.split()) <= words
