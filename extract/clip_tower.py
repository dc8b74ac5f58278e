"""CLIP's ViT from a checkpoint in transformers' naming, run as open_clip's VisionTransformer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float
from open_clip.transformer import LayerNorm, VisionTransformer
from torch import Tensor, nn

from extract.patch_encoder import PatchEncoder
from features.errors import CheckpointError, ConfigError, few
from features.load_module import fill
from features.tower_files import TowerFiles


class QuickGELU(nn.Module):
    """open_clip's, to the bit, with one activation in memory instead of three."""

    def forward(self, x: Tensor) -> Tensor:
        """x · sigmoid(1.702 x)."""
        return (x * 1.702).sigmoid_().mul_(x)


_ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}
_BLOCK = {  # a block's names in open_clip by their names in CLIPVisionModel
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


class ClipEncoder(PatchEncoder):
    """An open_clip ViT cut behind the wanted layer: patch tokens out, without CLS.

    Args:
        visual: the transformer, with all its weights.
        layer: the hidden state wanted, counted as in transformers (-2: last block but one).
    """

    def __init__(self, visual: VisionTransformer, layer: int) -> None:
        super().__init__()
        depth = len(visual.transformer.resblocks)
        block = depth + layer if layer < 0 else layer - 1
        if not 0 <= block < depth:
            raise ConfigError("no such layer in the tower", got=layer, wanted=f"-{depth}..{depth}")
        visual.transformer.resblocks = visual.transformer.resblocks[: block + 1]
        self.visual = visual
        self.image_size = int(visual.image_size[0])
        self.num_patches = int(visual.grid_size[0] * visual.grid_size[1])
        self.width = int(visual.conv1.out_channels)
        self._block = block

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B N D"]:
        """The layer's patch tokens."""
        found = self.visual.forward_intermediates(
            pixels,
            indices=[self._block],
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
        )
        tokens: Tensor = found["image_intermediates"][0]
        return tokens


def build_clip(
    files: TowerFiles, layer: int, device: torch.device, dtype: torch.dtype
) -> ClipEncoder:
    """The tower with the checkpoint's weights.

    Raises:
        CheckpointError: config or tensors do not make a CLIP ViT.
        ConfigError: no such layer.
    """
    where = files.parts.folder
    config = files.config
    try:
        activation = _ACTIVATIONS[config.get("hidden_act", "quick_gelu")]
        with torch.device("meta"):
            visual = VisionTransformer(
                image_size=config["image_size"],
                patch_size=config["patch_size"],
                width=config["hidden_size"],
                layers=config["num_hidden_layers"],
                heads=config["num_attention_heads"],
                mlp_ratio=config["intermediate_size"] / config["hidden_size"],
                act_layer=activation,
                norm_layer=partial(LayerNorm, eps=config.get("layer_norm_eps", 1e-5)),
            )
    except KeyError as error:
        raise CheckpointError(
            "cannot build the tower from vision_config",
            where=where / "config.json",
            got=f"no or unknown {error}",
            wanted=f"a CLIP vision tower with hidden_act in {sorted(_ACTIVATIONS)}",
        ) from error
    visual.proj = None  # the projection to CLIP's joint space is no part of a LLaVA
    renamed = _to_open_clip(files.tensors, config["num_hidden_layers"], str(where))
    fill(visual, renamed, f"{where} (tower)", device, dtype)
    return ClipEncoder(visual, layer)


def _to_open_clip(
    tensors: dict[str, Tensor], depth: int, where: str
) -> Iterator[tuple[str, Tensor]]:
    """Rename CLIPVisionModel's tensors; q, k and v are stacked.

    Raises:
        CheckpointError: a tensor is missing or one too many, named as in the checkpoint.
    """
    names = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
    }
    for part in ("weight", "bias"):
        names |= {f"pre_layrnorm.{part}": f"ln_pre.{part}"}  # sic
        names |= {f"post_layernorm.{part}": f"ln_post.{part}"}
        for i in range(depth):
            there, here = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
            names |= {f"{there}.{a}.{part}": f"{here}.{b}.{part}" for a, b in _BLOCK.items()}
            for x in "qkv":
                names[f"{there}.self_attn.{x}_proj.{part}"] = f"{here}.attn.in_proj_{part}"
    missing, extra = sorted(names.keys() - tensors), sorted(tensors.keys() - names)
    if missing or extra:
        raise CheckpointError(
            "the tower's tensors do not fit its config",
            where=where,
            got=f"missing [{few(missing)}], not expected [{few(extra)}]",
        )
    parts: dict[str, list[str]] = {}
    for name, target in names.items():  # q, k, v in this order
        parts.setdefault(target, []).append(name)
    for target, sources in parts.items():
        found = [tensors[name] for name in sources]
        yield target, found[0] if len(found) == 1 else torch.cat(found)
