"""The only thing that is trained: the alignment module and its temporal copy.

An Image LLM's alignment module turns patch features into tokens of its LLM. Here it maps a video's
spatial features, and a copy that starts from the same weights maps the temporal features. The
switches are the rows of the paper's Tables 3-5, named by what the model sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from features.errors import ConfigError
from train.aligners import Aligner, Reading


@dataclass(frozen=True)
class ProjectorSwitches:
    """What the model sees and what is trained (Tables 3-5 and 7 of the paper)."""

    features: Literal["both", "spatial_features", "temporal_features"] = "both"
    """Which pooled features reach the LLM (the paper's names for the two rows are swapped)."""
    temporal_module: Literal["copy", "shared", "random"] = "copy"
    """Temporal module: a copy of the alignment module, that module itself, or a copy of its
    structure with fresh weights."""
    extra_mlp: Literal["none", "alignment", "both"] = "none"
    """A fresh two-layer MLP behind the alignment module (the paper's), or behind both modules."""
    spatial_window: int = 1
    """Side of the window of patches averaged at load time (1: none)."""
    resampler: Reading = "resampler"
    """Bases with a resampler (Qwen-VL): reading A (its own number of tokens), B `resampler-grid`
    (queries resized to the input), or C `tokenwise` (the value path alone)."""
    video: Literal["seen", "shuffled", "blank"] = "seen"
    """Controls, in training and evaluation alike: temporal features `shuffled`, in an order of each
    video's own, or both features `blank` (zeros): what can be answered from questions alone."""
    trained: Literal["both", "temporal", "alignment"] = "both"
    """Which module is trained; the other stays as it is in the base."""

    def __post_init__(self) -> None:
        own_temporal = self.features != "spatial_features" and self.temporal_module != "shared"
        own_alignment = self.features != "temporal_features" or self.temporal_module == "shared"
        if self.extra_mlp == "both" and not (own_temporal and own_alignment):
            raise ConfigError(
                "extra_mlp=both needs two modules",
                got=f"features={self.features}, temporal_module={self.temporal_module}",
                do="say extra_mlp=alignment, or train both features with a copy",
            )
        if self.extra_mlp == "alignment" and not own_alignment:
            raise ConfigError("extra_mlp=alignment, but no alignment module is in use", got=self)
        if self.spatial_window < 1:
            raise ConfigError("spatial_window must be 1 or more", got=self.spatial_window)
        if self.trained != "both":
            self._check_one_trained()

    def _check_one_trained(self) -> None:
        # Fresh weights that are never trained would be noise, and no base's.
        unfit = ("shared", "random") if self.trained == "alignment" else ("shared",)
        if self.features != "both" or self.extra_mlp != "none" or self.temporal_module in unfit:
            raise ConfigError(
                f"trained={self.trained} needs two modules, the other one as it is in the base",
                got=f"features={self.features}, temporal_module={self.temporal_module}, "
                f"extra_mlp={self.extra_mlp}",
                wanted="features=both, temporal_module=copy, extra_mlp=none",
            )


class VideoProjector(nn.Module):
    """Pooled features of a video -> tokens `[temporal, spatial]` in the LLM's width, float32.

    `alignment` and `temporal` are None where the switches leave them out, and one and the same
    module under `temporal_module=shared` (with the extra MLP behind it, if any). A module that the
    switches do not train wants no gradient.
    """

    def __init__(
        self, aligner: Aligner, hidden: int, switches: ProjectorSwitches, seed: int = 0
    ) -> None:
        """Copies `aligner` (which stays as it is).

        Args:
            aligner: the base's alignment module.
            hidden: H, the LLM's width.
            switches: what to build.
            seed: decides fresh weights (random temporal module, extra MLPs) and nothing else.
        """
        super().__init__()
        self.switches = switches
        shared = switches.temporal_module == "shared"
        sees_spatial = switches.features != "temporal_features"
        sees_temporal = switches.features != "spatial_features"
        start = deepcopy(aligner).float().read_as(switches.resampler).requires_grad_(True)
        self.alignment: Aligner | None = start if sees_spatial or shared else None
        self.temporal: Aligner | None = None
        if sees_temporal:
            self.temporal = start if shared else deepcopy(start)
            if switches.temporal_module == "random":
                _reinitialise(self.temporal, seed)
        self.alignment_mlp: nn.Module | None = None
        self.temporal_mlp: nn.Module | None = None
        if switches.extra_mlp != "none":
            self.alignment_mlp = _fresh_mlp(hidden, seed, "alignment_mlp")
        if switches.extra_mlp == "both":
            self.temporal_mlp = _fresh_mlp(hidden, seed, "temporal_mlp")
        elif shared and sees_temporal:
            self.temporal_mlp = self.alignment_mlp
        frozen = {"both": None, "temporal": self.alignment, "alignment": self.temporal}
        if (module := frozen[switches.trained]) is not None:
            module.requires_grad_(False)

    def num_tokens(self, num_frames: int, num_patches: int) -> int:
        """Video tokens of a clip with that many valid temporal and spatial rows."""
        count = self.temporal.num_tokens(num_frames) if self.temporal is not None else 0
        return count + (self._spatial.num_tokens(num_patches) if self._spatial is not None else 0)

    @property
    def _spatial(self) -> Aligner | None:
        """The module of the spatial stream; a shared one may serve the temporal stream alone."""
        return None if self.switches.features == "temporal_features" else self.alignment

    def forward(
        self,
        temporal: Float[Tensor, "B T D"],
        temporal_valid: Bool[Tensor, "B T"],
        spatial: Float[Tensor, "B N D"],
        spatial_valid: Bool[Tensor, "B N"],
    ) -> tuple[Float[Tensor, "B S H"], Bool[Tensor, "B S"]]:
        """Video tokens in the order `[temporal, spatial]`, and which of them exist."""
        streams = []
        if self.temporal is not None:
            streams.append(_map(self.temporal, self.temporal_mlp, temporal, temporal_valid))
        if self._spatial is not None:
            streams.append(_map(self._spatial, self.alignment_mlp, spatial, spatial_valid))
        tokens, valid = zip(*streams, strict=True)
        return torch.cat(tokens, dim=1), torch.cat(valid, dim=1)


def _map(
    aligner: Aligner,
    mlp: nn.Module | None,
    x: Float[Tensor, "B S D"],
    valid: Bool[Tensor, "B S"],
) -> tuple[Float[Tensor, "B R H"], Bool[Tensor, "B R"]]:
    # Rows that do not exist are NaN on disk, and NaN times 0 is NaN: replace, never multiply.
    tokens, exists = aligner(torch.where(valid[..., None], x.float(), 0.0), valid)
    return (tokens if mlp is None else mlp(tokens)), exists


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """The global generator seeded by (seed, name) inside, untouched outside."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def _fresh_mlp(hidden: int, seed: int, name: str) -> nn.Module:
    with _seeded(seed, name):
        return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))


def _reinitialise(module: nn.Module, seed: int) -> None:
    """Fresh weights by each layer's own `reset_parameters`."""
    with _seeded(seed, "temporal"):
        for layer in module.modules():
            if next(layer.parameters(recurse=False), None) is None:
                continue
            reset = getattr(layer, "reset_parameters", None)
            if reset is None:
                raise NotImplementedError(f"{type(layer).__name__} has no reset_parameters")
            reset()
