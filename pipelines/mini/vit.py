"""Stage 1: the ViT learns what every patch shows, from dense labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from pipelines import world
from pipelines.mini.optim import Fit, fit
from pipelines.mini.save import IMAGE_SIZE, NUM_PATCHES, PATCH_SIZE
from pipelines.worlds import World

FACETS = (tuple(world.COLOURS), world.SHAPES, tuple(world.CELLS), ("small", "big"))
"""What there is to say of an object, in the order of `Thing.concepts`."""
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
_VISIBLE = 0.12
"""Share of a patch that an object must fill to be its label."""


def sample_scene(rng: np.random.Generator, of: World) -> world.Scene:
    """Draws a story's frame, or half of the time one object at any place and of any size."""
    story = of.sample_story(rng)
    if rng.random() < 0.5:
        return story.scene_at(int(rng.integers(world.NUM_FRAMES)))
    shape, colour = str(rng.choice(world.SHAPES)), str(rng.choice(list(world.COLOURS)))
    x, y, size = rng.uniform((0.2, 0.2, 0.2), (0.8, 0.8, 0.35))
    return world.Scene((world.Thing(shape, colour, x, y, size),), story.shade)


def patch_labels(scene: world.Scene) -> NDArray[np.int64]:
    """Returns each patch's facets, int64 (patches, 4): 0 is background, else 1 + the index."""
    visible = np.zeros((0, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for thing in scene.things:
        alpha = world.coverage(thing, IMAGE_SIZE)[None]
        visible = np.concatenate([visible * (1 - alpha), alpha])
    side = IMAGE_SIZE // PATCH_SIZE
    share = visible.reshape(-1, side, PATCH_SIZE, side, PATCH_SIZE).mean((2, 4))
    share = share.reshape(len(share), NUM_PATCHES)
    facets = np.array(
        [[1 + f.index(c) for f, c in zip(FACETS, t.concepts, strict=True)] for t in scene.things]
    ).reshape(-1, len(FACETS))
    seen = np.concatenate([np.full((1, NUM_PATCHES), _VISIBLE), share]).argmax(0)
    return np.asarray(np.concatenate([np.zeros((1, len(FACETS))), facets])[seen], np.int64)


def preprocess(frames: NDArray[np.uint8]) -> Tensor:
    """Turns frames (B, H, W, 3) into pixel values (B, 3, 32, 32), as the extractor's crop-bicubic.

    The resize is the same filter as Pillow's (antialiased bicubic), for a whole batch at once.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True)
    scaled: Tensor = (pixels.round().clamp(0, 255) / 255 - _MEAN) / _STD
    return scaled


def photograph(scenes: list[world.Scene], rng: np.random.Generator) -> Tensor:
    """Renders scenes with the light noise and gain of a codec or a camera, as pixel values."""
    frames = np.stack([world.render_scene(scene) for scene in scenes]).astype(np.float32)
    frames *= rng.uniform(0.9, 1.05, (len(scenes), 1, 1, 1))
    frames += rng.normal(0, rng.uniform(0, 12, (len(scenes), 1, 1, 1)), frames.shape)
    return preprocess(frames.clip(0, 255).astype(np.uint8))


def encode(model: LlavaForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Returns the penultimate block's patches without CLS, (B, patches, width)."""
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    patches: Tensor = states[model.config.vision_feature_layer][:, 1:]
    return patches


def train_vit(
    model: LlavaForConditionalGeneration, plan: Fit, rng: np.random.Generator, of: World
) -> None:
    """Trains the tower in place; the heads on its last two layers are thrown away."""
    sizes = [len(facet) + 1 for facet in FACETS]
    tower: Any = model.model.vision_tower
    heads = nn.ModuleList(nn.Linear(tower.config.hidden_size, sum(sizes)) for _ in range(2))

    def loss() -> Tensor:
        scenes = [sample_scene(rng, of) for _ in range(plan.batch)]
        labels = torch.from_numpy(np.stack([patch_labels(scene) for scene in scenes]))
        states = tower(photograph(scenes, rng), output_hidden_states=True).hidden_states[-2:]
        total = torch.zeros(())
        for head, state in zip(heads, states, strict=True):
            logits = head(state[:, 1:]).split(sizes, dim=-1)
            for facet, scores in enumerate(logits):
                total = total + F.cross_entropy(scores.flatten(0, 1), labels[..., facet].flatten())
        return total

    fit("ViT", plan, [*tower.parameters(), *heads.parameters()], loss)
