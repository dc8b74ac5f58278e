"""Stage 3: the alignment in closed form, from what a patch looks like to the words for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.mini.language import Reader, bag
from pipelines.mini.vit import FACETS, encode, patch_labels, photograph, sample_scene


def ridge(x: Tensor, y: Tensor, penalty: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Fits y (S, H) from x (S, D): a weight (H, D) and a bias (H,), penalty relative to x."""
    centred = x - x.mean(0)
    gram = centred.T @ centred
    shrink = penalty * gram.diagonal().mean() * torch.eye(len(gram))
    weight = torch.linalg.solve(gram + shrink, centred.T @ (y - y.mean(0))).T
    return weight, y.mean(0) - weight @ x.mean(0)


@torch.no_grad()
def plant(projector: Any, weight: Tensor, bias: Tensor) -> None:
    """Makes linear → GELU → linear compute a linear map exactly: GELU(x) - GELU(-x) = x.

    Half of the hidden units read a direction, half its negative. The directions that the map
    needs come first; the others are read too but not yet used, so that training may.
    """
    half = projector.linear_1.out_features // 2
    left, scale, right = torch.linalg.svd(weight, full_matrices=True)
    rank = min(half, len(scale))
    use = torch.zeros(len(left), half)
    use[:, :rank] = left[:, :rank] * scale[:rank]
    projector.linear_1.weight.copy_(torch.cat([right[:half], -right[:half]]))
    projector.linear_1.bias.zero_()
    projector.linear_2.weight.copy_(torch.cat([use, -use], dim=1))
    projector.linear_2.bias.copy_(bias)


@torch.no_grad()
def align(reader: Reader, num_scenes: int, rng: np.random.Generator) -> None:
    """Regresses the summed embeddings of every patch's words (`.` for background) and plants it."""
    scenes = [sample_scene(rng, reader.world) for _ in range(num_scenes)]
    labels = np.concatenate([patch_labels(scene) for scene in scenes])
    words = [
        {f[i - 1]: 1.0 for f, i in zip(FACETS, label, strict=True)} if label[0] else {".": 1.0}
        for label in labels
    ]
    targets = torch.from_numpy(bag(reader, words)) @ reader.embeddings.weight
    features = encode(reader.model, photograph(scenes, rng)).flatten(0, 1)
    plant(reader.model.model.multi_modal_projector, *ridge(features, targets))
