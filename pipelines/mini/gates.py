"""Stage 5: what the base must know, and must not know, before a transition means anything."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from eval.overlap import normalise, token_f1
from pipelines import world
from pipelines.mini.align import ridge
from pipelines.mini.joint import look
from pipelines.mini.language import Reader, Row, bag, story_steps
from pipelines.mini.vit import encode, preprocess

T = 8
GATES = {
    "colour on images": (">=", 95.0),
    "untuned temporal on videos": ("<=", 25.0),
    "untuned spatial on videos": (">=", 84.0),
    "least squares temporal on videos": (">=", 75.0),
    "true states caption F1 on videos": (">=", 80.0),
}
"""What a base must reach, in every language that it has; the rest is for diagnosis."""
_COLOUR = re.compile("colour|颜色")


def watch(reader: Reader, stories: list[world.Story]) -> tuple[Tensor, Tensor]:
    """Returns the temporal (V, T, D) and the spatial (V, N, D) features of rendered stories."""
    edges = np.round(np.arange(T + 1) * (world.NUM_FRAMES - 1) / T).astype(int)
    frames = np.stack([world.render(story)[(edges[:-1] + edges[1:]) // 2] for story in stories])
    features = torch.cat([encode(reader.model, preprocess(video)) for video in frames])
    features = features.view(len(stories), T, *features.shape[1:])
    return features.mean(2), features.mean(1)


def accuracy(reader: Reader, rows: list[Row]) -> float:
    """Returns the share of questions answered exactly, in percent."""
    right = torch.cat([reader.score(rows[i : i + 50])[1] for i in range(0, len(rows), 50)])
    return 100 * right.float().mean().item()


@torch.no_grad()
def overlap(reader: Reader, rows: list[Row]) -> float:
    """Returns the mean token F1 of free answers, in percent, as the offline judge counts it."""
    asks = [ask for row in rows for ask in row.asks]
    replies = [text for i in range(0, len(rows), 50) for text in reader.reply(rows[i : i + 50])]
    scores = [
        token_f1(normalise(reply), normalise(ask.answer))
        for ask, reply in zip(asks, replies, strict=True)
    ]
    return 100 * float(np.mean(scores))


@torch.no_grad()
def measure(reader: Reader, rng: np.random.Generator, num_videos: int) -> dict[str, float]:
    """Returns the gates in percent, on fresh stills and videos."""
    of = reader.world
    stories = [of.sample_story(rng) for _ in range(num_videos)]
    scenes = [story.scene_at(int(rng.integers(world.NUM_FRAMES))) for story in stories]
    images = look(reader, scenes, rng)
    stills = [of.scene_qa(scene, rng, 6) for scene in scenes]
    colours = [[ask for ask in asks if _COLOUR.search(ask.question)] for asks in stills]
    gates = {
        "colour on images": accuracy(reader, _rows(images, colours)),
        "all questions on images": accuracy(reader, _rows(images, stills)),
    }
    train = [of.sample_story(rng) for _ in range(num_videos)]
    weight, bias = ridge(watch(reader, train)[0].flatten(0, 1), _truth(reader, train).flatten(0, 1))
    temporal, spatial = watch(reader, stories)
    project = reader.model.model.multi_modal_projector
    told = _truth(reader, stories)
    streams = {
        "untuned": project(temporal),
        "least squares": temporal @ weight.T + bias,
        "true states": told,
    }
    for name, tokens in streams.items():
        prefix = torch.cat([tokens, project(spatial)], dim=1)
        for kind, counts in (("temporal", (4, 0)), ("spatial", (0, 4))):
            asks = [of.qa(story, rng, *counts) for story in stories]
            gates[f"{name} {kind} on videos"] = accuracy(reader, _rows(prefix, asks))
        if rows := _rows(prefix, [of.captions(story, rng, True) for story in stories]):
            gates[f"{name} captions on videos"] = accuracy(reader, rows)
            gates[f"{name} caption F1 on videos"] = overlap(reader, rows)
    return gates


def _rows(prefixes: Tensor, asks: list[list[world.QA]]) -> list[Row]:
    return [Row(p, a) for p, a in zip(prefixes, asks, strict=True) if a]


def _truth(reader: Reader, stories: list[world.Story]) -> Tensor:
    """Returns the noiseless composite tokens of stories, (V, T, H)."""
    bags = [torch.from_numpy(bag(reader, story_steps(story, T))) for story in stories]
    steps: Tensor = torch.stack(bags) @ reader.embeddings.weight
    return steps
