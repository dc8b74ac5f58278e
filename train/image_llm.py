"""Loads the language side of an Image LLM: alignment module, LLM and tokenizer, all frozen.

The tensors are read from the checkpoint's own files into stock modules, one at a time and in their
final dtype and device, and every name is accounted for. Nothing in the checkpoint is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from features.checkpoint_files import CheckpointFiles, resolve_checkpoint, tensors_digest
from features.config import BaseConfig
from features.errors import CheckpointError
from features.layouts import CheckpointParts
from features.spec import record_digest
from train.aligners import Aligner

Positions = Literal["sequence", "mrope"]
"""How an LLM counts: 0, 1, 2, ...; or Qwen2-VL's three axes (train/positions.py)."""
Attention = Literal["causal", "bidirectional-prefix", "bidirectional-video"]
"""Who may look ahead: nobody; all before the answer (PaliGemma); video tokens among themselves
(Gemma 3). See train/attention.py."""

NO_TOKEN = -200
"""Placeholder id where the tokenizer has none; LLaVA's own choice."""
_NORM = "model.norm.weight"


@dataclass(frozen=True)
class ImageLLM:
    """The frozen language side of a base."""

    name: str
    aligner: Aligner
    llm: PreTrainedModel
    """A causal LM with `model`, `lm_head` and `get_input_embeddings`."""
    tokenizer: Any
    """Called with a text it gives `input_ids`; it has `decode` and `get_vocab`."""
    image_token_id: int
    """Placeholder in the prompt; NO_TOKEN where the tokenizer has none."""
    stop_ids: tuple[int, ...]
    """Tokens that end an answer; the first one also ends an answer in training."""
    pad_token_id: int
    digest: str
    """See `base_digest`."""
    positions: Positions = "sequence"
    attention: Attention = "causal"

    @property
    def hidden_size(self) -> int:
        """H: the LLM's width."""
        return int(self.llm.config.hidden_size)


@dataclass(frozen=True)
class Language:
    """What the loader of a layout hands over."""

    aligner: Aligner
    """In float32 on the CPU: only the pattern that projectors are copied from."""
    llm: PreTrainedModel
    tokenizer: Any
    positions: Positions = "sequence"
    attention: Attention = "causal"


def load_image_llm(
    base: BaseConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ImageLLM:
    """Load a base; the LLM in `dtype` on `device`.

    Raises:
        CheckpointError: files, tensors or token ids are missing, superfluous or contradictory.
    """
    parts = open_base(base)
    found = _loader(parts.layout.name)(base, parts, torch.device(device), dtype)
    found.llm.eval()  # training has its own way to keep it: frozen.py
    vocabulary = found.tokenizer.get_vocab()
    image = vocabulary.get(base.image_token, NO_TOKEN)
    _check_image_token(base, parts, image)
    stop = _stop_ids(base, found.tokenizer, vocabulary, parts)
    pad = found.tokenizer.pad_token_id
    return ImageLLM(
        name=base.name,
        aligner=found.aligner,
        llm=found.llm,
        tokenizer=found.tokenizer,
        image_token_id=image,
        stop_ids=stop,
        pad_token_id=stop[0] if pad is None else pad,
        digest=_digest(base, parts),
        positions=found.positions,
        attention=found.attention,
    )


def open_base(base: BaseConfig) -> CheckpointParts:
    """The base's checkpoint, taken apart."""
    return CheckpointParts.open(resolve_checkpoint(base.checkpoint), base.layout)


def base_digest(base: BaseConfig) -> str:
    """Tells bases apart without reading the whole LLM.

    sha256 over the alignment module's tensors, the LLM's last norm and config.json.
    """
    return _digest(base, open_base(base))


def _digest(base: BaseConfig, parts: CheckpointParts) -> str:
    aligner = parts.require("aligner", f"an alignment module ({parts.layout.name})")
    norms = {k: parts.files[n] for k, n in parts.names("llm").items() if k == _NORM}
    if base.delta_base is not None:
        norms["delta_base"] = CheckpointFiles(resolve_checkpoint(base.delta_base))[_NORM]
    record = [tensors_digest(aligner), tensors_digest(norms), _lasting(parts.config)]
    return record_digest(record)


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what says who wrote the file."""
    return {k: v for k, v in config.items() if k not in ("transformers_version", "_name_or_path")}


def _loader(layout: str) -> Any:
    """The loader of a layout, imported when it is needed."""
    if layout == "qwen-vl":
        from train.qwen_vl import load_qwen_vl

        return load_qwen_vl
    if layout in ("llava", "llava-hf"):
        from train.llava import load_llava, load_llava_hf

        return load_llava_hf if layout == "llava-hf" else load_llava
    from train.hf_base import load_hf

    return load_hf


def _check_image_token(base: BaseConfig, parts: CheckpointParts, found: int) -> None:
    wanted = parts.config.get("image_token_index", parts.config.get("image_token_id"))
    if wanted is not None and found != wanted:
        raise CheckpointError(
            "tokenizer and config disagree on the image token",
            where=parts.folder,
            got=f"{base.image_token} is {found} in the tokenizer",
            wanted=f"{wanted}, as the config says",
        )


def _stop_ids(
    base: BaseConfig, tokenizer: Any, vocabulary: dict[str, int], parts: CheckpointParts
) -> tuple[int, ...]:
    unknown = [token for token in base.stop if token not in vocabulary]
    if unknown:
        where = f"base {base.name}, stop"
        raise CheckpointError("the tokenizer lacks a stop token", where=where, got=unknown)
    if base.stop:
        return tuple(vocabulary[token] for token in base.stop)
    if tokenizer.eos_token_id is None:
        raise CheckpointError("the tokenizer has no eos token", where=parts.folder)
    return (int(tokenizer.eos_token_id),)
