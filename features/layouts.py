"""How published checkpoints name things: which layout a folder has, and which part a tensor is of.

An Image LLM has three parts: `tower` (its eyes, used by extract/), `aligner` and `llm` (its
language, used by train/). A layout is a table from the names in the file to (part, name in the
part); a name that no line of the table knows is an error, never ignored. Nothing here needs
transformers: a layout is told by config.json alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from features.checkpoint_files import CheckpointFiles, read_json
from features.errors import CheckpointError, few

Part = Literal["tower", "aligner", "llm", "unused"]
Table = Mapping[str, tuple[Part, str]]


@dataclass(frozen=True)
class Layout:
    """A family of checkpoints that name their tensors alike."""

    name: str
    """As `BaseConfig.layout` names it."""
    table: Table
    """Prefix of names in the file -> (part, prefix in the part); the longest prefix wins."""

    def locate(self, name: str) -> tuple[Part, str] | None:
        """Part and name within it of a tensor of the checkpoint; None for an unknown name."""
        if name.endswith(_COMPUTED):
            return "unused", name
        found = max((p for p in self.table if name.startswith(p)), key=len, default=None)
        if found is None:
            return None
        part, prefix = self.table[found]
        return part, prefix + name.removeprefix(found)


_COMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids", "attn.masked_bias")
"""Tables that old releases saved although they are computed: no weights."""

_LLAVA_HF: Table = {
    # as published; as transformers >= 4.52 nests the parts
    "vision_tower.": ("tower", ""),
    "vision_tower.vision_model.": ("tower", ""),
    "model.vision_tower.": ("tower", ""),
    "model.vision_tower.vision_model.": ("tower", ""),
    "multi_modal_projector.": ("aligner", ""),
    "model.multi_modal_projector.": ("aligner", ""),
    "language_model.": ("llm", ""),
    "model.language_model.": ("llm", "model."),
    "lm_head.": ("llm", "lm_head."),
}
_LLAVA: Table = {
    "model.vision_tower.vision_tower.vision_model.": ("tower", ""),
    "model.mm_projector.": ("aligner", "linear."),
    "model.mm_projector.0.": ("aligner", "linear_1."),
    "model.mm_projector.2.": ("aligner", "linear_2."),
    "model.image_newline": ("unused", "image_newline"),
    "model.": ("llm", "model."),
    "lm_head.": ("llm", "lm_head."),
}
_QWEN_VL: Table = {
    "transformer.visual.": ("tower", ""),
    "transformer.visual.attn_pool.": ("aligner", ""),
    "transformer.visual.ln_post.": ("aligner", "ln_post."),
    "transformer.visual.proj": ("aligner", "proj"),
    "transformer.wte.": ("llm", "model.embed_tokens."),
    "transformer.h.": ("llm", "model.layers."),
    "transformer.ln_f.": ("llm", "model.norm."),
    "lm_head.": ("llm", "lm_head."),
}
_NESTED: Table = {  # what transformers' LLaVA-like classes share
    **_LLAVA_HF,
    **{
        f"{nesting}{name}": ("unused", name)
        for nesting in ("", "model.")
        # the mark between rows of tiles; SigLIP's pooling head
        for name in ("image_newline", "vision_tower.head.", "vision_tower.vision_model.head.")
    },
}


def _projector(names: dict[str, str]) -> Table:
    """The LLaVA-like table with the projector's names turned into our alignment module's."""
    prefixes = [f"{nesting}multi_modal_projector." for nesting in ("", "model.")]
    renamed: Table = {p + old: ("aligner", new) for p in prefixes for old, new in names.items()}
    return {**_NESTED, **renamed}


_INTERNVL = _projector({"layer_norm.": "norm.", "linear_1.": "mlp.0.", "linear_2.": "mlp.2."})
_GEMMA3 = _projector(
    {"mm_soft_emb_norm.": "norm.", "mm_input_projection_weight": "mlp.0.weight"},
)
_IDEFICS3: Table = {
    "model.vision_model.": ("tower", ""),
    "model.connector.modality_projection.proj.": ("aligner", "linear."),
    "model.text_model.": ("llm", "model."),
    "lm_head.": ("llm", "lm_head."),
}
_QWEN2_VL: Table = {
    "visual.": ("tower", ""),
    "visual.merger.": ("aligner", ""),
    "visual.merger.ln_q.": ("aligner", "norm."),
    "model.visual.": ("tower", ""),
    "model.visual.merger.": ("aligner", ""),
    "model.visual.merger.ln_q.": ("aligner", "norm."),
    "model.": ("llm", "model."),
    "model.language_model.": ("llm", "model."),
    "lm_head.": ("llm", "lm_head."),
}
_CLIP: Table = {  # a CLIP checkpoint, as the original LLaVA names one for its eyes
    "vision_model.": ("tower", ""),
    **dict.fromkeys(
        ("text_model.", "text_projection.", "visual_projection.", "logit_scale"), ("unused", "")
    ),
}
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("clip", _CLIP),
        Layout("llava-hf", _LLAVA_HF),
        Layout("llava", _LLAVA),
        Layout("qwen-vl", _QWEN_VL),
        Layout("llava-next", _NESTED),
        Layout("llava-onevision", _NESTED),
        Layout("internvl", _INTERNVL),
        Layout("idefics3", _IDEFICS3),
        Layout("qwen2-vl", _QWEN2_VL),
        Layout("paligemma", _NESTED),
        Layout("gemma3", _GEMMA3),
    )
}
_ARCHITECTURES = {
    "LlavaForConditionalGeneration": "llava-hf",
    "LlavaLlamaForCausalLM": "llava",
    "QWenLMHeadModel": "qwen-vl",
    "LlavaNextForConditionalGeneration": "llava-next",
    "LlavaOnevisionForConditionalGeneration": "llava-onevision",
    "InternVLForConditionalGeneration": "internvl",
    "Idefics3ForConditionalGeneration": "idefics3",
    "SmolVLMForConditionalGeneration": "idefics3",
    "Qwen2VLForConditionalGeneration": "qwen2-vl",
    "Qwen2_5_VLForConditionalGeneration": "qwen2-vl",
    "PaliGemmaForConditionalGeneration": "paligemma",
    "Gemma3ForConditionalGeneration": "gemma3",
}
_DEEPSTACK = "its extra mergers feed early layers of the LLM, so no alignment module stands alone"
_REFUSED = {
    "Qwen3VLForConditionalGeneration": _DEEPSTACK,
    "Qwen3VLMoeForConditionalGeneration": _DEEPSTACK,
    "InternVLChatModel": "only the conversion to transformers' own layout (-hf) can be read",
}


def detect_layout(folder: Path) -> Layout:
    """The layout of a checkpoint, from the raw config.json.

    `model_type` alone does not tell: the original LLaVA says "llava" as transformers' own does.

    Raises:
        CheckpointError: a kind that we cannot take apart, with the reason where it is known.
    """
    config = read_json(folder / "config.json")
    names = config.get("architectures") or [config.get("model_type")]
    found = _ARCHITECTURES.get(str(names[0]))
    if found is None or (found == "qwen-vl" and "visual" not in config):
        why = _REFUSED.get(str(names[0]), "")
        raise CheckpointError(
            "not an Image LLM that we can take apart",
            where=folder / "config.json",
            got=f"architecture {names[0]}{why and f': {why}'}",
            wanted=f"one of {', '.join(_ARCHITECTURES)}",
        )
    return LAYOUTS[found]


@dataclass(frozen=True)
class CheckpointParts:
    """A checkpoint taken apart: names are known for every tensor, values are read on demand."""

    folder: Path
    layout: Layout
    config: dict[str, Any]
    """config.json, raw."""
    files: CheckpointFiles
    places: Mapping[str, tuple[Part, str]]
    """Name in the file -> (part, name in the part)."""

    @classmethod
    def open(cls, folder: Path, layout: str = "auto") -> CheckpointParts:
        """Take a checkpoint apart by its file's headers.

        Raises:
            CheckpointError: unknown layout, damaged files, a name that the layout does not know, or
                two names for one tensor (parts of two releases mixed).
        """
        found = detect_layout(folder) if layout == "auto" else LAYOUTS[layout]
        files = CheckpointFiles(folder)
        places, unknown = {}, []
        for name in files:
            place = found.locate(name)
            if place is None:
                unknown.append(name)
            else:
                places[name] = place
        if unknown:
            raise CheckpointError(
                "tensors superfluous",
                where=folder,
                got=few(sorted(unknown)),
                wanted=f"names of the layout {found.name}",
                do="is this checkpoint of another kind, or mixed from two?",
            )
        seen: dict[tuple[Part, str], str] = {}
        for name, place in places.items():
            if place[0] != "unused" and seen.setdefault(place, name) != name:
                got = f"{seen[place]} and {name}"
                raise CheckpointError("one tensor under two names", where=folder, got=got)
        return cls(folder, found, read_json(folder / "config.json"), files, places)

    def names(self, part: Part) -> dict[str, str]:
        """Name within the part -> name in the file."""
        return {local: name for name, (p, local) in self.places.items() if p == part}

    def tensors(self, part: Part) -> Iterator[tuple[str, Tensor]]:
        """(name within the part, tensor), file by file."""
        for name, (found, local) in self.places.items():
            if found == part:
                yield local, self.files[name]

    def require(self, part: Part, wanted: str) -> dict[str, Tensor]:
        """All tensors of a part.

        Raises:
            CheckpointError: there is none; `wanted` says what was looked for.
        """
        found = dict(self.tensors(part))
        if not found:
            raise CheckpointError("no such tensors", where=self.folder, wanted=wanted)
        return found
