"""Qwen-VL's ViT: no CLS, no norm behind the last block, attention interleaved by head.

Its attention pool, last norm and projection belong to the alignment module (train/resampler.py);
what is stored is what goes into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isqrt

import torch
from jaxtyping import Float
from open_clip.transformer import LayerNorm, Transformer
from torch import Tensor, nn

from extract.patch_encoder import PatchEncoder
from features.errors import CheckpointError, ConfigError
from features.load_module import fill
from features.pooling import resize_positions
from features.tower_files import TowerFiles


class QwenEncoder(PatchEncoder):
    """Patches, positions, ln_pre and the blocks; names are the checkpoint's."""

    def __init__(self, config: dict[str, int | float], num_positions: int, layer: int) -> None:
        super().__init__()
        width, depth, patch = (int(config[k]) for k in ("width", "layers", "patch_size"))
        if layer != -1:
            got, wanted = layer, "-1: all blocks"
            raise ConfigError("Qwen-VL's tower has one layer to take", got=got, wanted=wanted)
        self.image_size = int(config["image_size"])
        self.num_patches = (self.image_size // patch) ** 2
        self.width = width
        norm = partial(LayerNorm, eps=1e-6)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.positional_embedding = nn.Parameter(torch.empty(num_positions, width))
        self.ln_pre = norm(width)
        heads, ratio = int(config["heads"]), float(config["mlp_ratio"])
        self.transformer = Transformer(width, depth, heads, ratio, norm_layer=norm)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N D"]:
        """Tokens in row-major order."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = self.ln_pre(x + resize_positions(self.positional_embedding, isqrt(self.num_patches)))
        tokens: Tensor = self.transformer(x)
        return tokens


def build_qwen(
    files: TowerFiles, layer: int, device: torch.device, dtype: torch.dtype
) -> QwenEncoder:
    """The tower with the checkpoint's weights.

    Raises:
        CheckpointError: config or tensors do not make Qwen-VL's tower.
        ConfigError: a layer other than the last.
    """
    where, config = files.parts.folder, files.config
    names = files.parts.names("tower")
    try:
        positions = files.parts.files.shape(names["positional_embedding"])[0]
        with torch.device("meta"):
            encoder = QwenEncoder(config, positions, layer)
    except KeyError as error:
        raise CheckpointError("no such entry", where=where, got=f"no {error}") from error
    if isqrt(positions) ** 2 != positions:
        got = f"positional_embedding with {positions} rows"
        raise CheckpointError("tensors of another shape", where=where, got=got, wanted="a square")
    tensors = _deinterleaved(files.parts.tensors("tower"), int(config["heads"]))
    fill(encoder, tensors, f"{where} (tower)", device, dtype)
    return encoder


def _deinterleaved(
    tensors: Iterator[tuple[str, Tensor]], heads: int
) -> Iterator[tuple[str, Tensor]]:
    """Rows q|k|v inside each head become the stock order: all of Q, all of K, all of V."""
    for name, tensor in tensors:
        if ".attn.in_proj." in name:
            rest = tensor.shape[1:]
            if len(tensor) % (3 * heads):
                got, wanted = f"{name} {tuple(tensor.shape)}", f"a multiple of 3 x {heads} rows"
                raise CheckpointError("tensors of another shape", got=got, wanted=wanted)
            by_head = tensor.view(heads, 3, -1, *rest).transpose(0, 1)
            yield name.replace(".in_proj.", ".in_proj_"), by_head.reshape(tensor.shape)
        else:
            yield name, tensor
