"""Which weights a base's eyes have, from its files alone.

extract/ builds the tower from these tensors; `make train` only needs their digest to name the
store that it wants, and may load neither open_clip nor the tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from features.checkpoint_files import read_json, resolve_checkpoint, tensors_digest
from features.config import BaseConfig
from features.errors import CheckpointError
from features.layouts import CheckpointParts
from features.spec import ComputeDtype, FeatureSpec, StoreDtype

OPEN_CLIP = "open_clip:"
LOCAL_DIR = "local-dir:"
CLIP = "clip:"
_DIGESTS: dict[tuple[tuple[Path, int, int], ...], str] = {}
"""By path, size and time of change of the files: one command asks several times, and hashing the
eyes of a Qwen-VL takes seconds."""


@dataclass(frozen=True)
class TowerFiles:
    """The tower of a base as it lies on disk."""

    parts: CheckpointParts
    """The checkpoint that holds it: the base's own, or the CLIP that an original LLaVA names."""
    config: dict[str, Any]
    """The tower's own configuration, raw."""
    kind: str
    """Who builds it: `clip` (a plain CLIP ViT), `qwen-vl`, or `transformers`."""
    image_size: int
    """What the base asks for; a tower that takes any size is built for this one."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name within the tower, views of the file.

        Raises:
            CheckpointError: there is none.
        """
        wanted = f"a vision tower in the layout {self.parts.layout.name}"
        return self.parts.require("tower", wanted)

    @property
    def digest(self) -> str:
        """sha256 over the tensors as published, whatever prefix they have in the file."""
        key = tuple((f, f.stat().st_size, f.stat().st_mtime_ns) for f in self.parts.files.paths)
        if key not in _DIGESTS:
            _DIGESTS[key] = tensors_digest(self.tensors)
        return _DIGESTS[key]


def has_tower_files(base: BaseConfig) -> bool:
    """Whether files alone tell the tower; an open_clip tag's only open_clip can find."""
    return base.tower == "checkpoint" or base.tower.startswith(CLIP)


def tower_files(base: BaseConfig) -> TowerFiles:
    """The files of a base's tower.

    Raises:
        CheckpointError: no checkpoint, or the tower is an open_clip tag.
    """
    if not has_tower_files(base):
        raise CheckpointError(
            "the digest of this tower is only known to the extraction",
            where=f"base {base.name}",
            got=base.tower,
            wanted="tower `checkpoint` or `clip:<folder>`",
            do="name the store to read",
        )
    if base.tower.startswith(CLIP):
        return _clip(base.tower.removeprefix(CLIP), base.image_size)
    parts = CheckpointParts.open(resolve_checkpoint(base.checkpoint), base.layout)
    if parts.layout.name == "llava":
        named = parts.config.get("mm_vision_tower")
        if not named:
            where = parts.folder / "config.json"
            raise CheckpointError("no vision tower", where=where, wanted="mm_vision_tower")
        if not parts.names("tower"):
            return _clip(str(named), base.image_size)
        # A tower that was trained along is in the checkpoint; what it looks like is not.
        config = clip_config(resolve_checkpoint(str(named)))
        return TowerFiles(parts, config, "clip", base.image_size)
    key = "visual" if parts.layout.name == "qwen-vl" else "vision_config"
    kind = {"llava-hf": "clip", "qwen-vl": "qwen-vl"}.get(parts.layout.name, "transformers")
    return TowerFiles(parts, parts.config.get(key) or {}, kind, base.image_size)


def _clip(checkpoint: str, image_size: int) -> TowerFiles:
    folder = resolve_checkpoint(checkpoint)
    parts = CheckpointParts.open(folder, "clip")
    return TowerFiles(parts, clip_config(folder), "clip", image_size)


def clip_config(folder: Path) -> dict[str, Any]:
    """Of a CLIP, or of its vision half alone."""
    config = read_json(folder / "config.json")
    found: dict[str, Any] = config.get("vision_config") or config
    return found


def tower_digest(base: BaseConfig) -> str:
    """The weights digest of a base's tower, as extraction records it.

    Raises:
        CheckpointError: the tower is an open_clip tag, whose files only open_clip can find.
    """
    return tower_files(base).digest


def make_spec(
    base: BaseConfig,
    weights_digest: str,
    num_frames: int | None = None,
    compute_dtype: ComputeDtype = "float32",
    store_dtype: StoreDtype = "float16",
) -> FeatureSpec:
    """The spec of a base's features; `num_frames` (T) is the base's own unless given."""
    return FeatureSpec(
        weights_digest=weights_digest,
        num_frames=base.num_frames if num_frames is None else num_frames,
        compute_dtype=compute_dtype,
        store_dtype=store_dtype,
        **{name: getattr(base, name) for name in _EYES},
    )


_EYES = ("tower", "layer", "image_size", "preprocessing", "normalisation", "regrouping")


def base_eyes(base: BaseConfig) -> dict[str, Any]:
    """The fields of a spec that say whose eyes made the features, with this base's values.

    The digest of the weights is among them where the files alone tell it, so that features of a
    base that was trained anew are not taken for its own.
    """
    eyes = {name: getattr(base, name) for name in _EYES}
    if has_tower_files(base):
        eyes["weights_digest"] = tower_digest(base)
    return eyes
