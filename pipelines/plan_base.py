"""What of a base decides its cost: sizes, from its tensors' shapes alone.

The shapes are those of the checkpoint on this machine or, where it is not here, those that
`make rehearse` makes up (pipelines/recipes/rehearsals). Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from features.checkpoint_files import local_folder
from features.config import BaseConfig
from features.errors import CheckpointError, ConfigError
from features.layouts import LAYOUTS, CheckpointParts, Part
from features.tower_files import CLIP
from pipelines.rehearse_checkpoint import Rehearsal
from train.flops import FlopsModel, flops_model_of
from train.projectors import ProjectorSwitches

Shape = tuple[int, ...]
_BLOCK = re.compile(r"(?:layers|resblocks|blocks)\.(\d+)\.")
_LARGE = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 40,
}
_ALIKE: dict[str, tuple[str, dict[str, Any]]] = {
    "llava-1.5-7b": ("llava-1.5-7b", {}),
    "llava-v1.5-7b": ("llava-1.5-7b", {"text_config": {"vocab_size": 32000}}),
    "llava-1.5-13b": ("llava-1.5-7b", {"text_config": _LARGE}),
    "llava-lightning-7b": ("llava-1.5-7b", {"text_config": {"vocab_size": 32003}}),
    "qwen-vl": ("qwen-vl", {}),
    "qwen-vl-chat": ("qwen-vl", {}),
}
"""Published base -> the rehearsal that has its shapes, and in what of its config it differs."""


@dataclass(frozen=True)
class BaseShapes:
    """Sizes of a base."""

    source: str
    """Where they are from."""
    here: bool
    """Whether the checkpoint is on this machine."""
    llm: FlopsModel
    patches: int
    """N, of the stored spatial features."""
    width: int
    """D, of the stored features."""
    queries: int
    """Tokens that a resampler gives; 0 where the alignment module maps token by token."""
    frame_flops: float
    """Of the tower, an image."""
    nbytes: int
    """Of the checkpoint's weights."""

    def video_tokens(self, switches: ProjectorSwitches, num_frames: int) -> int:
        """Tokens of a full clip in front of the LLM."""
        streams = {"temporal_features": num_frames} | {
            "spatial_features": self.patches // switches.spatial_window**2
        }
        seen = [n for name, n in streams.items() if switches.features in ("both", name)]
        fixed = self.queries and switches.resampler == "resampler"
        return sum(self.queries if fixed else count for count in seen)

    def feature_bytes(self, num_frames: int, itemsize: int = 2) -> int:
        """(T + N) x D numbers: one video in a store, which pads short clips."""
        return (num_frames + self.patches) * self.width * itemsize


def shapes_of(base: BaseConfig) -> BaseShapes:
    """A base's sizes; nothing is read but headers, and nothing is downloaded.

    Raises:
        ConfigError: its checkpoint is not here and its shapes are not known.
        CheckpointError: the checkpoint that is here is damaged.
    """
    if folder := local_checkpoint(base.checkpoint):
        parts = CheckpointParts.open(folder, base.layout)
        shapes = _by_part({place: parts.files.shape(n) for n, place in parts.places.items()})
        shapes["tower"] = _tower(base, parts) or shapes["tower"]
        nbytes = sum(path.stat().st_size for path in parts.files.paths)
        return _sizes(base, shapes, nbytes, str(folder), parts.layout.name, here=True)
    if base.name not in _ALIKE:
        raise ConfigError(
            "the sizes of this base are not known",
            where=f"base {base.name}",
            got=f"no checkpoint {base.checkpoint} on this machine",
            wanted=f"a checkpoint that is here, or one of {', '.join(_ALIKE)}",
            do="give --base a folder with the checkpoint, or plan with a base of its size",
        )
    name, changes = _ALIKE[base.name]
    rehearsal = Rehearsal.read(name)
    merged = {k: {**rehearsal.config[k], **v} for k, v in changes.items()}
    rehearsal = replace(rehearsal, config={**rehearsal.config, **merged})
    layout = LAYOUTS["qwen-vl" if rehearsal.is_qwen else "llava-hf"]
    places = ((layout.locate(n), shape) for n, shape in rehearsal.shapes())
    shapes = _by_part({place: shape for place, shape in places if place})
    source = f"published shapes (rehearsals/{name}.json)"
    return _sizes(base, shapes, rehearsal.nbytes, source, layout.name, here=False)


def local_checkpoint(name: str) -> Path | None:
    """Folder of a checkpoint that is on this machine, also in the hub's cache; never a download."""
    if folder := local_folder(name):
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        found = try_to_load_from_cache(name, "config.json")
        if isinstance(found, str) and any(Path(found).parent.glob("*model*")):
            return Path(found).parent
    return None


def _by_part(places: Mapping[tuple[Part, str], Shape]) -> dict[Part, dict[str, Shape]]:
    parts: dict[Part, dict[str, Shape]] = {"tower": {}, "aligner": {}, "llm": {}, "unused": {}}
    for (part, name), shape in places.items():
        parts[part][name] = shape
    return parts


def _tower(base: BaseConfig, parts: CheckpointParts) -> dict[str, Shape]:
    """Shapes of eyes that are not in the checkpoint itself."""
    named = parts.config.get("mm_vision_tower", "") if not parts.names("tower") else ""
    name = base.tower.removeprefix(CLIP) if base.tower.startswith(CLIP) else str(named)
    if not name:
        return {}
    folder = local_checkpoint(name)
    if folder is None:
        do = "download it, or plan with a base whose shapes are known"
        raise CheckpointError("the eyes are not on this machine", where=name, do=do)
    clip = CheckpointParts.open(folder, "clip")
    return {local: clip.files.shape(n) for local, n in clip.names("tower").items()}


def _sizes(
    base: BaseConfig,
    shapes: dict[Part, dict[str, Shape]],
    nbytes: int,
    source: str,
    layout: str,
    here: bool,
) -> BaseShapes:
    tower, llm = shapes["tower"], shapes["llm"]
    try:
        patches, width, flops = frame_flops(tower, base.layer, base.image_size)
        flops_model = flops_model_of(llm)
    except (KeyError, StopIteration) as error:
        raise ConfigError(
            "no plan for such a base",
            where=f"base {base.name}, tower {base.tower}",
            got=f"unknown tensors ({error})",
            do="plan with a base of its size",
        ) from error
    joined = base.regrouping**2
    return BaseShapes(
        source=source,
        here=here,
        llm=flops_model,
        patches=patches // joined,
        width=width if layout == "gemma3" else width * joined,
        queries=shapes["aligner"].get("query", (0,))[0],
        frame_flops=flops,
        nbytes=nbytes,
    )


def frame_flops(tower: Mapping[str, Shape], layer: int, image_size: int) -> tuple[int, int, float]:
    """(patches, width, FLOPs of an image up to the layer that is taken).

    A block takes 2 FLOPs a weight and token, and 4 x tokens^2 x width for its two products of
    attention; the patch convolution 2 a weight and patch.

    Raises:
        StopIteration: no patch convolution among the tensors.
    """
    blocks = Counter[int]()
    for name, shape in tower.items():
        if len(shape) == 2 and (found := _BLOCK.search(name)):
            blocks[int(found[1])] += prod(shape)
    conv = next(shape for shape in tower.values() if len(shape) >= 4)
    patches, width = (image_size // conv[-1]) ** 2, conv[0]
    tokens = patches + any("class_embedding" in name for name in tower)
    used = len(blocks) + layer + 1 if layer < 0 else layer
    attention = 4 * tokens**2 * width
    dense = sum(2 * blocks[index] * tokens + attention for index in range(used))
    return patches, width, float(dense + 2 * prod(conv) * patches)
