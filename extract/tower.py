"""The frozen ViT: square images in, patch tokens of one hidden layer out.

What a base's eyes are is decided by its checkpoint; whoever builds them hands over a module from
normalised pixels to tokens, and everything behind it is the same for a mini base and for a 7B.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, UInt8
from open_clip.transformer import VisionTransformer
from torch import Tensor

from extract.clip_tower import ClipEncoder, build_clip
from extract.patch_encoder import PatchEncoder
from extract.preprocess import NORMALISATIONS
from features.checkpoint_files import tensors_digest
from features.config import BaseConfig
from features.device import pick_device
from features.errors import CheckpointError, ConfigError
from features.spec import ComputeDtype, Normalisation
from features.tower_files import (
    CLIP,
    LOCAL_DIR,
    OPEN_CLIP,
    TowerFiles,
    has_tower_files,
    tower_files,
)

log = logging.getLogger(__name__)

_CPU_TOKENS = 1024
"""Tokens at a time on a CPU: larger activations are mapped anew, page by page, for every layer."""


class Tower:
    """A frozen ViT that gives one hidden layer's patch tokens, without CLS.

    Args:
        encoder: from normalised pixels to tokens; already on `device` in `compute_dtype`.
        digest: sha256 over its weights as published.
        compute_dtype: dtype of the arithmetic.
        device: where it runs.
        normalisation: whose mean and spread are taken out of the pixels.
        compile: whether torch.compile makes kernels of it.
    """

    def __init__(
        self,
        encoder: PatchEncoder,
        digest: str,
        compute_dtype: ComputeDtype = "float32",
        device: str | torch.device = "cpu",
        normalisation: Normalisation = "clip",
        compile: bool = False,  # noqa: A002 - torch's own name for it
    ) -> None:
        self.digest = digest
        self.image_size = encoder.image_size
        self.num_patches = encoder.num_patches
        self.width = encoder.width
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, compute_dtype)
        self.encoder = encoder.eval().requires_grad_(False)
        self._run = torch.compile(encoder) if compile else encoder
        self._normalisation = normalisation
        tokens = encoder.num_patches * encoder.regrouping**2
        cpu = self.device.type == "cpu"
        self._micro_batch = max(1, _CPU_TOKENS // tokens) if cpu else 0
        self.num_parameters = sum(parameter.numel() for parameter in encoder.parameters())

    def encode(self, images: UInt8[np.ndarray, "B S S 3"]) -> Float[Tensor, "B N D"]:
        """Patch tokens of a batch of square RGB images, on the device, in the compute dtype.

        A CPU does it in parts whose activations stay small (a fifth faster). What does not fit into
        memory is done in halves, from then on; the batch that the caller planned stays what it is.

        Raises:
            ConfigError: not even one image fits.
        """
        while True:
            size = min(self._micro_batch or len(images), len(images))
            size = -(-len(images) // -(-len(images) // size))  # parts of one size
            try:
                parts = [images[i : i + size] for i in range(0, len(images), size)]
                tokens = [self._encode(part) for part in parts]
                return tokens[0] if len(tokens) == 1 else torch.cat(tokens)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if size == 1:
                    what = "not even one image fits into memory"
                    raise ConfigError(what, where=self.device, do="use another device") from error
            self._micro_batch = (size + 1) // 2
            log.warning("out of memory: %d images at a time from now on", self._micro_batch)
            if self.device.type not in ("cpu", "meta"):
                torch.accelerator.empty_cache()

    @torch.inference_mode()
    def _encode(self, images: UInt8[np.ndarray, "B S S 3"]) -> Float[Tensor, "B N D"]:
        pixels = normalise(torch.from_numpy(images).to(self.device), self._normalisation)
        tokens: Tensor = self._run(pixels.to(self.dtype))
        return tokens

    def synchronise(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device.type not in ("cpu", "meta"):
            torch.accelerator.synchronize()


def _out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it; MPS and the CPU's allocator have words."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error).lower() for w in words)


def normalise(
    images: UInt8[Tensor, "B S S 3"], normalisation: Normalisation = "clip"
) -> Float[Tensor, "B 3 S S"]:
    """Float32 images with the mean and spread of the tower's training taken out."""
    facts = NORMALISATIONS[normalisation]
    mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in facts)
    # In place, one plane a colour: four times as fast on a CPU as channel by channel.
    planar = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planar.div_(255).sub_(mean).div_(std)


def load_tower(
    base: BaseConfig,
    compute_dtype: ComputeDtype = "float32",
    device: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's own name for it
) -> Tower:
    """The tower that a base names.

    Raises:
        CheckpointError: the weights are missing, incomplete or of a kind we cannot run.
        ConfigError: image size, layer or device do not fit.
    """
    where = pick_device(device)
    encoder, digest = _build(base, where, getattr(torch, compute_dtype))
    return Tower(encoder, digest, compute_dtype, where, base.normalisation, compile)


def check_tower(base: BaseConfig) -> None:
    """Refuse what `load_tower` would refuse, without reading weights where files can be had.

    Raises:
        CheckpointError: the weights are missing, incomplete or of a kind we cannot run.
        ConfigError: image size or layer do not fit.
    """
    _build(base, torch.device("meta" if has_tower_files(base) else "cpu"), torch.float32)


def _build(base: BaseConfig, device: torch.device, dtype: torch.dtype) -> tuple[PatchEncoder, str]:
    """The encoder and the digest of its weights."""
    if not has_tower_files(base) and not base.tower.startswith((OPEN_CLIP, LOCAL_DIR)):
        wanted = f"checkpoint, {CLIP}<folder>, open_clip:<name>:<tag> or local-dir:<folder>"
        raise ConfigError("unknown tower", where=f"base {base.name}", got=base.tower, wanted=wanted)
    encoder: PatchEncoder
    if has_tower_files(base):
        files = tower_files(base)
        encoder, digest = build_encoder(files, base.layer, device, dtype), files.digest
    else:
        visual, digest = _from_open_clip(base)
        encoder = ClipEncoder(visual.to(device, dtype), base.layer)
    for name, what in (("image_size", "takes images of another size"), ("regrouping", "regroups")):
        got, wanted = getattr(base, name), getattr(encoder, name)
        if got != wanted:
            where_from = f"base {base.name}, {name}"
            raise ConfigError(f"the tower {what}", where=where_from, got=got, wanted=wanted)
    return encoder, digest


def build_encoder(
    files: TowerFiles, layer: int, device: torch.device, dtype: torch.dtype
) -> PatchEncoder:
    """The tower from its files; on the meta device names and shapes are checked and nothing more.

    Raises:
        CheckpointError: config and tensors do not fit each other.
        ConfigError: no such layer.
    """
    if files.kind == "qwen-vl":
        from extract.qwen_tower import build_qwen

        return build_qwen(files, layer, device, dtype)
    if files.kind == "transformers":
        from extract.hf_tower import build_hf

        return build_hf(files, layer, device, dtype)
    return build_clip(files, layer, device, dtype)


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
