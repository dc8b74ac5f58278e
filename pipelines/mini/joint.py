"""Stage 4: text, images and story+image prefixes together; afterwards nothing changes any more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines import world
from pipelines.mini.language import Level, Reader, Row, ask_scene, bag, sample_text, tell
from pipelines.mini.optim import Fit, fit
from pipelines.mini.vit import encode, photograph


def look(reader: Reader, scenes: list[world.Scene], rng: np.random.Generator) -> Tensor:
    """Returns the image tokens of rendered scenes, (B, patches, H)."""
    with torch.no_grad():
        features = encode(reader.model, photograph(scenes, rng))
        tokens: Tensor = reader.model.model.multi_modal_projector(features)
    return tokens


def sample_images(reader: Reader, count: int, rng: np.random.Generator, told: bool) -> list[Row]:
    """Draws questions about stills, or with `told` about a story and one of its frames.

    The latter is the form that a video takes: time steps first, then patches.
    """
    stories = [reader.world.sample_story(rng) for _ in range(count)]
    scenes = [story.scene_at(int(rng.integers(world.NUM_FRAMES))) for story in stories]
    images = look(reader, scenes, rng)
    if not told:
        return [
            Row(image, ask_scene(reader.world, scene, rng))
            for image, scene in zip(images, scenes, strict=True)
        ]
    return [
        Row(
            torch.cat([reader.embed(bag(reader, tell(story, rng, Level())), rng), image]),
            reader.world.qa(story, rng, 3, 3) + reader.world.captions(story, rng, True),
        )
        for image, story in zip(images, stories, strict=True)
    ]


def train_joint(reader: Reader, plan: Fit, rng: np.random.Generator) -> None:
    """Trains the LM in place; ViT, projector and embeddings stay as they are.

    A projector that is free to bend, however slowly, teaches the LM to tell image tokens from time
    steps, and then no transition starts: short-budget accuracy was 23 % against 81 %.
    """
    step = 0

    def loss() -> Tensor:
        nonlocal step
        turn, step = step % 3, step + 1
        if turn == 0:
            return reader.score([sample_text(reader, rng, Level()) for _ in range(plan.batch)])[0]
        return reader.score(sample_images(reader, plan.batch, rng, told=turn == 2))[0]

    table = reader.embeddings.weight.requires_grad_(False)
    language = [
        param
        for part in (reader.model.model.language_model, reader.model.lm_head)
        for param in part.parameters()
        if param is not table
    ]
    fit("joint", plan, language, loss)
