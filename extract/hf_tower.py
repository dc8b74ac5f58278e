"""The eyes of today's Image LLMs on transformers' own modules, regrouped for their aligner.

Whatever a base does to its patches without parameters (pixel shuffle, the order of a merge, an
average) is done here, so that what is stored and pooled is what its alignment module takes token by
token: a token is a square of patches, and tokens are in row-major order.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from extract.patch_encoder import PatchEncoder
from features.errors import CheckpointError, ConfigError
from features.load_module import fill, restore_buffers
from features.tower_files import TowerFiles

_ANY_LAYER = ("llava-next", "llava-onevision", "internvl")
"""Layouts whose config names a layer; the others always take what the tower ends with."""
_RAW_END = ("llava-next", "llava-onevision")
"""Layouts that take hidden states: not even the last one goes through the norm at the end."""


def build_hf(
    files: TowerFiles, layer: int, device: torch.device, dtype: torch.dtype
) -> PatchEncoder:
    """The tower of a base of transformers with the checkpoint's weights.

    Raises:
        CheckpointError: the config cannot be read, or tensors do not fit it.
        ConfigError: no such layer, or an image size that cannot be cut into whole tokens.
    """
    layout = files.parts.layout.name
    try:
        config: Any = AutoConfig.from_pretrained(files.parts.folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        where = files.parts.folder / "config.json"
        raise CheckpointError("cannot read the configuration", where=where, got=error) from error
    vision = config.vision_config
    vision.vision_use_head = False  # SigLIP's pooling has no use here
    vision._attn_implementation = "sdpa"
    auto: Any = AutoModel
    named: Any = Qwen2VisionTransformerPretrainedModel  # the one that AutoModel does not know
    make = named._from_config if vision.model_type == "qwen2_vl_vision" else auto.from_config
    with torch.device("meta"):
        tower: Any = make(vision)
        if layout == "qwen2-vl":
            tower.merger = Regroup(int(vision.spatial_merge_size))
    fill(tower, files.tensors.items(), f"{files.parts.folder} (tower)", device, dtype)
    restore_buffers(tower, device)
    if layout == "qwen2-vl":
        _check_end(layer)
        return MergingEncoder(tower, files.image_size)
    if layout in _ANY_LAYER:
        _cut(tower, layer, raw_end=layout in _RAW_END)
    else:
        _check_end(layer)
    side, averages = 1, layout == "gemma3"
    if layout == "internvl":
        side = round(1 / config.downsample_ratio)
    elif layout == "idefics3":
        side = int(config.scale_factor)
    elif averages:
        side = _side(vision.image_size) // _side(vision.patch_size)
        side //= isqrt(config.mm_tokens_per_image)
    return GridEncoder(tower, side, averages)


class GridEncoder(PatchEncoder):
    """A ViT for images of one size, possibly with a CLS token in front, which goes.

    Args:
        tower: with all its weights, already cut behind the wanted layer.
        regrouping: side of the square of patches that become one token.
        averages: whether they are averaged instead of joined.
    """

    def __init__(self, tower: Any, regrouping: int, averages: bool) -> None:
        super().__init__()
        vision = tower.config
        self.tower, self.regrouping, self._averages = tower, regrouping, averages
        self.image_size = _side(vision.image_size)
        self._grid = self.image_size // _side(vision.patch_size)
        if self._grid % regrouping:
            got, wanted = self._grid, f"a multiple of {regrouping}"
            raise ConfigError("the grid of patches cannot be regrouped", got=got, wanted=wanted)
        self.num_patches = (self._grid // regrouping) ** 2
        self.width = int(vision.hidden_size) * (1 if averages else regrouping**2)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N D"]:
        """Tokens in row-major order of the regrouped grid."""
        tokens: Tensor = self.tower(pixel_values=pixels).last_hidden_state[:, -(self._grid**2) :]
        return regroup(tokens, self.regrouping, self._averages)


def regroup(
    tokens: Float[Tensor, "B P C"], side: int, averages: bool = False
) -> Float[Tensor, "B N D"]:
    """Join (or average) squares of patches of a row-major grid; inside a token row by row."""
    grid, width = isqrt(tokens.shape[1]), tokens.shape[2]
    if averages:
        square = tokens.transpose(1, 2).reshape(-1, width, grid, grid)
        return F.avg_pool2d(square, side).flatten(2).transpose(1, 2)
    cut = tokens.reshape(-1, grid // side, side, grid // side, side, width)  # B row i column j C
    return cut.transpose(2, 3).reshape(len(tokens), -1, side * side * width)


class Regroup(nn.Module):
    """Takes the place of Qwen's merger: `side`^2 patches that follow one another become a token.

    The tower itself puts what its merger gives back from window order into row-major order.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self._count = side * side

    def forward(self, patches: Float[Tensor, "P C"]) -> Float[Tensor, "N D"]:
        """(P / side^2, side^2 * C)."""
        return patches.reshape(len(patches) // self._count, -1)


class MergingEncoder(PatchEncoder):
    """Qwen2-VL's and Qwen2.5-VL's tower: any size of image, patches given in the merger's order."""

    def __init__(self, tower: Any, image_size: int) -> None:
        super().__init__()
        vision = tower.config
        self.tower, self.image_size = tower, image_size
        self.regrouping = int(vision.spatial_merge_size)
        self._patch, self._frames = int(vision.patch_size), int(vision.temporal_patch_size)
        if image_size % (self._patch * self.regrouping):
            wanted = f"a multiple of {self._patch * self.regrouping}"
            raise ConfigError("images of this size make no tokens", got=image_size, wanted=wanted)
        self._grid = image_size // self._patch
        self.num_patches = (self._grid // self.regrouping) ** 2
        channels = tower.patch_embed.embed_dim
        self.width = int(channels) * self.regrouping**2

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N D"]:
        """Tokens in row-major order; each frame is a still image, repeated as the tower asks."""
        side, patch = self.regrouping, self._patch
        rows = self._grid // side
        cut = pixels.reshape(-1, 3, rows, side, patch, rows, side, patch)  # B 3 row i y column j x
        patches = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(0, 4)  # P 3 y x
        still = patches[:, :, None].expand(-1, -1, self._frames, -1, -1).flatten(1)
        shape = torch.tensor([[1, self._grid, self._grid]] * len(pixels), device=pixels.device)
        tokens: Tensor = self.tower(still, grid_thw=shape).pooler_output
        return tokens.reshape(len(pixels), -1, self.width)


def _cut(tower: Any, layer: int, raw_end: bool) -> None:
    """Leave the blocks up to hidden state `layer` only, so that it is the last one.

    Raises:
        ConfigError: no such layer.
    """
    name = "layers" if hasattr(tower.encoder, "layers") else "layer"
    blocks = getattr(tower.encoder, name)
    depth = len(blocks)
    count = depth + layer + 1 if layer < 0 else layer
    if not 0 < count <= depth:
        raise ConfigError("no such layer in the tower", got=layer, wanted=f"-{depth}..{depth}")
    setattr(tower.encoder, name, blocks[:count])
    if raw_end or layer != -1:
        norm = "post_layernorm" if hasattr(tower, "post_layernorm") else "layernorm"
        setattr(tower, norm, nn.Identity())


def _check_end(layer: int) -> None:
    if layer != -1:
        raise ConfigError("this tower has one layer to take", got=layer, wanted="-1: its end")


def _side(size: int | list[int] | tuple[int, ...]) -> int:
    """One side of a size that may be written as (height, width)."""
    return int(size if isinstance(size, int) else size[0])
