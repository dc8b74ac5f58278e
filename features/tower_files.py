"""Which weights a base's eyes have, from its files alone.

extract/ builds the tower from these tensors; `make train` only needs their digest to name the
store that it wants, and may load neither open_clip nor the tower.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from features.checkpoint_files import read_tensors, resolve_checkpoint, tensors_digest
from features.config import BaseConfig
from features.errors import CheckpointError
from features.spec import ComputeDtype, FeatureSpec, StoreDtype

OPEN_CLIP = "open_clip:"
LOCAL_DIR = "local-dir:"
_PREFIXES = tuple(
    f"{outer}vision_tower.{inner}" for inner in ("vision_model.", "") for outer in ("", "model.")
)


def checkpoint_tower_tensors(base: BaseConfig) -> dict[str, Tensor]:
    """Tensors of the vision tower in a base's checkpoint, by CLIPVisionModel's names.

    Names are without `vision_tower.vision_model.` (as published) or `vision_tower.` (as newer
    releases of transformers save it). Old checkpoints' `position_ids` are no weights: left out.

    Raises:
        CheckpointError: no checkpoint, or no tower in it.
    """
    tensors = read_tensors(resolve_checkpoint(base.checkpoint), *_PREFIXES)
    tensors.pop("embeddings.position_ids", None)
    return tensors


def tower_digest(base: BaseConfig) -> str:
    """The weights digest of a base's tower, as extraction records it.

    Raises:
        CheckpointError: the tower is an open_clip tag, whose files only open_clip can find.
    """
    if base.tower == "checkpoint":
        return tensors_digest(checkpoint_tower_tensors(base))
    raise CheckpointError(
        "the digest of this tower is only known to the extraction",
        where=f"base {base.name}",
        got=base.tower,
        wanted="tower `checkpoint`",
        do="name the store to read",
    )


def make_spec(
    base: BaseConfig,
    weights_digest: str,
    num_frames: int | None = None,
    compute_dtype: ComputeDtype = "float32",
    store_dtype: StoreDtype = "float16",
) -> FeatureSpec:
    """The spec of a base's features; `num_frames` (T) is the base's own unless given."""
    return FeatureSpec(
        tower=base.tower,
        weights_digest=weights_digest,
        image_size=base.image_size,
        preprocessing=base.preprocessing,
        num_frames=base.num_frames if num_frames is None else num_frames,
        layer=base.layer,
        compute_dtype=compute_dtype,
        store_dtype=store_dtype,
    )


def base_eyes(base: BaseConfig) -> dict[str, Any]:
    """The fields of a spec that say whose eyes made the features, with this base's values.

    The digest of the weights is among them where the files alone tell it, so that features of a
    base that was trained anew are not taken for its own.
    """
    eyes = {k: getattr(base, k) for k in ("tower", "layer", "image_size", "preprocessing")}
    if base.tower == "checkpoint":
        eyes["weights_digest"] = tower_digest(base)
    return eyes
