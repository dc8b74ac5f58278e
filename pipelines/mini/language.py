"""Stage 2: the LM learns to answer from prefixes in which one token says several words at once.

A prefix is a matrix of word weights (S, vocabulary); its embeddings are the weighted sums of word
embeddings. A *story* has one row a time step: `then` plus the words of everything in sight. A
*scene list* has rows of one object each, as an image's patches will be. Nothing here is an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from pipelines import world
from pipelines.mini.optim import Fit, fit
from pipelines.worlds import DEMO, World

Prefix = NDArray[np.float32]
_NOISE = 0.3
"""Noise on a prefix token, relative to a word embedding."""


@dataclass
class Row:
    """Questions that share a prefix: embeddings (S, H) or word weights (S, vocabulary)."""

    prefix: Tensor
    asks: list[world.QA]


class Reader:
    """A LLaVA with its tokenizer and world, asked in its prompt about prefixes at `<image>`."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        of: World = DEMO,
    ):
        self.model, self.tokenizer, self.world = model, tokenizer, of
        self.vocab = tokenizer.get_vocab()
        self.embeddings: Any = model.get_input_embeddings()
        self._divide: Any = tokenizer.backend_tokenizer.pre_tokenizer

    def ids(self, text: str) -> list[int]:
        """Returns the ids of a text's words, all of which must be known."""
        return [self.vocab[word] for word, _ in self._divide.pre_tokenize_str(text)]

    def embed(self, bag: Prefix, rng: np.random.Generator) -> Tensor:
        """Returns the noisy sums of a bag's word embeddings, (S, H)."""
        table = self.embeddings.weight
        noise = torch.from_numpy(rng.standard_normal((len(bag), table.shape[1]), np.float32))
        spread = table.detach().pow(2).mean().sqrt()
        tokens: Tensor = torch.from_numpy(bag) @ table + rng.uniform(0, _NOISE) * spread * noise
        return tokens

    def pack(self, rows: list[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Packs each row's questions behind its prefix, each blind to the others.

        Returns:
            Embeddings (B, L, H), attention mask (B, 1, L, L) bool, positions (B, L) and labels
            (B, L), -100 where there is no answer.
        """
        head = self.embeddings(torch.tensor(self.ids("<s> USER:")))
        packed = [self._pack_row(row, head) for row in rows]
        length = max(len(labels) for *_, labels in packed)

        def pad(parts: tuple[Tensor, ...], value: int) -> Tensor:
            return torch.stack(
                [
                    F.pad(p, (0, 0) * (p.dim() - 1) + (0, length - len(p)), value=value)
                    for p in parts
                ]
            )

        embeds, segments, positions, labels = zip(*packed, strict=True)
        segment = pad(segments, -1)
        same = segment[:, None, :, None] == segment[:, None, None, :]
        shared = (segment == 0)[:, None, None, :]
        mask = (same | shared) & torch.ones(length, length, dtype=torch.bool).tril()
        return pad(embeds, 0), mask, pad(positions, 0), pad(labels, -100)

    def _pack_row(self, row: Row, head: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start = len(head) + len(row.prefix)
        ids: list[int] = []
        labels, segments, positions = [-100] * start, [0] * start, list(range(start))
        for number, ask in enumerate(row.asks, 1):
            prompt = self.ids(f"{ask.question} ASSISTANT:")
            answer = self.ids(f"{ask.answer} </s>")
            ids += prompt + answer
            labels += [-100] * len(prompt) + answer
            segments += [number] * (len(prompt) + len(answer))
            positions += range(start, start + len(prompt) + len(answer))
        embeds = torch.cat([head, row.prefix, self.embeddings(torch.tensor(ids))])
        return embeds, torch.tensor(segments), torch.tensor(positions), torch.tensor(labels)

    def score(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """Returns the answers' mean token loss, and which answers are right throughout (Q,)."""
        embeds, mask, positions, labels = self.pack(rows)
        logits = self.model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        ).logits
        row, place = (labels[:, 1:] != -100).nonzero(as_tuple=True)
        scores, wanted = logits[row, place], labels[row, place + 1]
        right = (scores.argmax(-1) == wanted).tolist()
        ends = (wanted == self.vocab["</s>"]).nonzero()[:, 0].tolist()
        starts = [0, *[end + 1 for end in ends[:-1]]]
        exact = [all(right[a : b + 1]) for a, b in zip(starts, ends, strict=True)]
        return F.cross_entropy(scores, wanted), torch.tensor(exact)

    def reply(self, rows: list[Row]) -> list[str]:
        """Returns the likeliest words, one after the other, in answer to all asks in turn."""
        names = {index: word for word, index in self.vocab.items()}
        answers = [""] * sum(len(row.asks) for row in rows)
        open_ones = set(range(len(answers)))
        for _ in range(self.world.max_new_tokens):
            said = iter(answers)
            told = [
                Row(row.prefix, [replace(ask, answer=next(said)) for ask in row.asks])
                for row in rows
            ]
            embeds, mask, positions, labels = self.pack(told)
            logits = self.model(
                inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
            ).logits
            row, end = (labels == self.vocab["</s>"]).nonzero(as_tuple=True)
            for number, token in enumerate(logits[row, end - 1].argmax(-1).tolist()):
                if names[token] == "</s>":
                    open_ones.discard(number)
                elif number in open_ones:
                    answers[number] = f"{answers[number]} {names[token]}".strip()
        return answers


def bag(reader: Reader, rows: list[dict[str, float]]) -> Prefix:
    """Returns the weight matrix of rows of weighted concepts, float32 (S, vocabulary)."""
    weights = np.zeros((len(rows), len(reader.vocab)), np.float32)
    for line, row in zip(weights, rows, strict=True):
        for word, weight in row.items():
            line[reader.vocab[word]] += weight
    return weights


def story_steps(
    story: world.Story, num_steps: int, loud: dict[str, float] | None = None
) -> list[dict[str, float]]:
    """Tells a story in steps, each `then` plus all that is in sight, `loud` by shape."""
    edges = np.round(np.arange(num_steps + 1) * (world.NUM_FRAMES - 1) / num_steps).astype(int)
    steps = []
    for frame in (edges[:-1] + edges[1:]) // 2:
        step = {"then": 1.0}
        for thing in story.scene_at(int(frame)).things:
            for concept in thing.concepts:
                step[concept] = step.get(concept, 0.0) + (loud[thing.shape] if loud else 1.0)
        steps.append(step)
    return steps


def spell(steps: list[dict[str, float]]) -> list[dict[str, float]]:
    """Writes composite steps out as one word a token, leaving out steps that say nothing new."""
    news = [step for last, step in zip([{}, *steps], steps, strict=False) if step != last]
    return [{word: 1.0} for step in news for word in step]


def scene_list(scene: world.Scene, rng: np.random.Generator) -> list[dict[str, float]]:
    """Lists a scene's objects, one token each but said up to four times, among background."""
    rows = [
        dict.fromkeys(thing.concepts, 1.0)
        for thing in scene.things
        for _ in range(rng.integers(1, 5))
    ]
    rows += [{".": 1.0}] * int(rng.integers(0, 9))
    return [rows[i] for i in rng.permutation(len(rows))]


@dataclass(frozen=True)
class Level:
    """How hard the texts are."""

    lists: float = 0.3
    """Share of scene lists."""
    statics: float = 1.3
    """Upper bound of how loud static objects are; the actor is about 1."""
    spread: float = 1.0
    """Stories have 8 steps at 0, and 2 to 32 at 1."""


def tell(story: world.Story, rng: np.random.Generator, level: Level) -> list[dict[str, float]]:
    """Tells a story, with a number of steps and a loudness of each object that suit the level."""
    loud = {shape: rng.uniform(0, level.statics) for shape in world.SHAPES}
    loud[story.actor_shape] = rng.uniform(0.6, 1.4)
    return story_steps(story, int(8 * 4 ** (level.spread * rng.triangular(-1, 0, 1))), loud)


def ask_scene(of: World, scene: world.Scene, rng: np.random.Generator) -> list[world.QA]:
    """Asks about a still; the caption teaches fast which words belong together."""
    return [of.caption(scene, rng), *of.scene_qa(scene, rng, 5)]


def sample_text(reader: Reader, rng: np.random.Generator, level: Level) -> Row:
    """Draws a scene list or a story, three stories in ten in plain words."""
    story = reader.world.sample_story(rng)
    while rng.random() < 0.7 and not {"moves", "changes"} & set(story.events):
        story = reader.world.sample_story(rng)  # colours and cells take longest to learn
    if rng.random() < level.lists:
        scene = story.scene_at(int(rng.integers(world.NUM_FRAMES)))
        if rng.random() > level.statics:
            scene = world.Scene(scene.things[-1:], scene.shade)
        rows, asks = scene_list(scene, rng), ask_scene(reader.world, scene, rng)
    else:
        rows = tell(story, rng, level)
        if rng.random() < 0.3:
            rows = spell(rows)
        asks = reader.world.qa(story, rng, 5, 0) + reader.world.captions(story, rng, False)
    return Row(reader.embed(bag(reader, rows), rng), asks)


def _ramp(done: float, start: float, end: float) -> float:
    return float(np.clip((done - start) / (end - start), 0, 1))


def train_language(reader: Reader, plan: Fit, rng: np.random.Generator) -> None:
    """Trains the LM in place on scene lists and stories, easy ones first.

    Easy is 8 steps without static objects: to tell what changes from what does not, at any length,
    is learnt several times faster that way round.
    """
    step = 0

    def loss() -> Tensor:
        nonlocal step
        done, step = step / plan.steps, step + 1
        level = Level(
            lists=0.4,
            statics=1.3 * _ramp(done, 0.1, 0.4),
            spread=_ramp(done, 0.3, 0.5),
        )
        return reader.score([sample_text(reader, rng, level) for _ in range(plan.batch)])[0]

    language = [*reader.model.model.language_model.parameters(), *reader.model.lm_head.parameters()]
    fit("LM", plan, language, loss)
