"""The frozen ViT: square images in, patch tokens of one hidden layer out.

Whatever the weights come from (the base's own checkpoint, an open_clip tag or a folder), they run
as open_clip's VisionTransformer, so a mini base and a 7B take the same path. A checkpoint's tower
equals transformers' CLIPVisionModel (tested).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, UInt8
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from torch import Tensor, nn

from extract.preprocess import CLIP_MEAN, CLIP_STD
from features.checkpoint_files import read_json, resolve_checkpoint, tensors_digest
from features.config import BaseConfig
from features.device import pick_device
from features.errors import CheckpointError, ConfigError
from features.spec import ComputeDtype
from features.tower_files import LOCAL_DIR, OPEN_CLIP, checkpoint_tower_tensors

_ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}
_BLOCK = {  # a block's names in open_clip by their names in CLIPVisionModel
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


class Tower:
    """A frozen ViT that gives one hidden layer's patch tokens, without CLS.

    Args:
        visual: the transformer, with all its weights.
        digest: sha256 over its weights as published.
        layer: the hidden state wanted, counted as in transformers (-2: last block but one).
        compute_dtype: dtype of the arithmetic.
        device: `auto` (cuda, mps or cpu), or a torch device.
    """

    def __init__(
        self,
        visual: VisionTransformer,
        digest: str,
        layer: int = -2,
        compute_dtype: ComputeDtype = "float32",
        device: str = "auto",
    ) -> None:
        depth = len(visual.transformer.resblocks)
        block = depth + layer if layer < 0 else layer - 1
        if not 0 <= block < depth:
            raise ConfigError("no such layer in the tower", got=layer, wanted=f"-{depth}..{depth}")
        visual.transformer.resblocks = visual.transformer.resblocks[: block + 1]
        self.digest = digest
        self.image_size = int(visual.image_size[0])
        self.num_patches = int(visual.grid_size[0] * visual.grid_size[1])
        self.width = int(visual.conv1.out_channels)
        self.device = pick_device(device)
        self.dtype: torch.dtype = getattr(torch, compute_dtype)
        self._block = block
        self._visual = visual.to(self.device, self.dtype).eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, images: UInt8[np.ndarray, "B S S 3"]) -> Float[Tensor, "B N D"]:
        """Patch tokens of a batch of square RGB images, on the device, in the compute dtype."""
        pixels = normalise(torch.from_numpy(images).to(self.device)).to(self.dtype)
        found = self._visual.forward_intermediates(
            pixels,
            indices=[self._block],
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
        )
        tokens: Tensor = found["image_intermediates"][0]
        return tokens


def normalise(images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """Float32 images with CLIP's mean and spread taken out."""
    mean = torch.tensor(CLIP_MEAN, device=images.device)
    std = torch.tensor(CLIP_STD, device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def load_tower(
    base: BaseConfig, compute_dtype: ComputeDtype = "float32", device: str = "auto"
) -> Tower:
    """The tower that a base names.

    Raises:
        CheckpointError: the weights are missing, incomplete or of a kind we cannot run.
        ConfigError: image size, layer or device do not fit.
    """
    if base.tower == "checkpoint":
        visual, digest = _from_checkpoint(base)
    elif base.tower.startswith((OPEN_CLIP, LOCAL_DIR)):
        visual, digest = _from_open_clip(base)
    else:
        wanted = "checkpoint, open_clip:<name>:<tag> or local-dir:<folder>"
        raise ConfigError("unknown tower", where=f"base {base.name}", got=base.tower, wanted=wanted)
    if visual.image_size != (base.image_size, base.image_size):
        raise ConfigError(
            "the tower takes images of another size",
            where=f"base {base.name}, image_size",
            got=base.image_size,
            wanted=visual.image_size[0],
        )
    return Tower(visual, digest, base.layer, compute_dtype, device)


def _from_checkpoint(base: BaseConfig) -> tuple[VisionTransformer, str]:
    folder = resolve_checkpoint(base.checkpoint)
    config = read_json(folder / "config.json").get("vision_config") or {}
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
            where=folder / "config.json",
            got=f"no or unknown {error}",
            wanted=f"a CLIP vision tower with hidden_act in {sorted(_ACTIVATIONS)}",
        ) from error
    visual.proj = None  # the projection to CLIP's joint space is no part of a LLaVA
    tensors = checkpoint_tower_tensors(base)
    _load(visual, _to_open_clip(tensors, config["num_hidden_layers"], str(folder)), str(folder))
    return visual, tensors_digest(tensors)


def _to_open_clip(tensors: dict[str, Tensor], depth: int, where: str) -> dict[str, Tensor]:
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
            got=f"missing {missing[:4]}, not expected {extra[:4]}",
        )
    parts: dict[str, list[Tensor]] = {}
    for name, target in names.items():  # q, k, v in this order
        parts.setdefault(target, []).append(tensors[name].float())
    return {
        name: found[0] if len(found) == 1 else torch.cat(found) for name, found in parts.items()
    }


def _load(visual: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Put the tensors in place of the empty ones; `where` is for the error message."""
    wanted = {name: tuple(tensor.shape) for name, tensor in visual.state_dict().items()}
    wrong = [
        f"{name} {tuple(tensor.shape)}, wanted {wanted[name]}"
        for name, tensor in state.items()
        if tuple(tensor.shape) != wanted[name]
    ]
    if wrong:
        raise CheckpointError("tower tensors of the wrong shape", where=where, got=wrong[:4])
    visual.load_state_dict(state, strict=True, assign=True)


def _from_open_clip(base: BaseConfig) -> tuple[VisionTransformer, str]:
    name, tag = base.tower, None
    if name.startswith(OPEN_CLIP):
        name, _, tag = name.removeprefix(OPEN_CLIP).partition(":")
        if not tag:
            raise ConfigError(
                "tower without a tag", got=base.tower, wanted="open_clip:<name>:<tag>"
            )
    try:
        model: Any = open_clip.create_model(name, pretrained=tag, require_pretrained=True)
    except Exception as error:  # open_clip and the hub raise whatever comes to hand
        raise CheckpointError(
            "open_clip cannot make this tower", where=f"base {base.name}", got=f"{name}: {error}"
        ) from error
    visual = getattr(model, "visual", None)
    plain = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not isinstance(visual, VisionTransformer) or not plain:
        raise CheckpointError(
            "this tower is no plain ViT",
            got=f"{base.tower} ({type(visual).__name__})",
            wanted="open_clip's VisionTransformer",
            do="name another tower",
        )
    return visual, tensors_digest(visual.state_dict())
