"""Loads the language side of an Image LLM: alignment module, LLM and tokenizer, all frozen.

The tensors are read from the checkpoint's own files into stock modules, one at a time and in their
final dtype and device, and every name is accounted for. Nothing in the checkpoint is executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlavaConfig
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from features.checkpoint_files import (
    iter_tensors,
    read_json,
    read_tensors,
    resolve_checkpoint,
    tensors_digest,
)
from features.config import BaseConfig
from features.errors import CheckpointError
from features.spec import canonical_json
from train.projectors import Aligner, MLPAligner

ALIGNER = ("multi_modal_projector.", "model.multi_modal_projector.")
LLM = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "lm_head.": "lm_head.",
}
"""Prefix in the file (as published; as transformers >= 4.52 nests it) -> prefix in the LLM."""


@dataclass(frozen=True)
class ImageLLM:
    """The frozen language side of a base."""

    name: str
    aligner: Aligner
    llm: LlamaForCausalLM
    tokenizer: Any
    image_token_id: int
    eos_token_id: int
    pad_token_id: int
    digest: str
    """See `base_digest`."""

    @property
    def hidden_size(self) -> int:
        """H: the LLM's width."""
        return int(self.llm.config.hidden_size)


def load_image_llm(
    base: BaseConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ImageLLM:
    """Load a base in the llava-hf layout; the LLM in `dtype` on `device`.

    The aligner stays in float32 on the CPU: it is only the pattern that projectors are copied from.

    Raises:
        CheckpointError: files, tensors or token ids are missing, superfluous or contradictory.
    """
    folder = resolve_checkpoint(base.checkpoint)
    config, text = _read_config(folder)
    vision: Any = config.vision_config
    with torch.device("meta"):
        aligner = MLPAligner(
            vision.hidden_size,
            text.hidden_size,
            ACT2FN[config.projector_hidden_act],
            config.multimodal_projector_bias,
        )
        llm = LlamaForCausalLM(text)
    found = iter(read_tensors(folder, *ALIGNER).items())
    _fill(aligner, found, f"{folder} (alignment module)", "cpu", torch.float32)
    tied = {"lm_head.weight": "model.embed_tokens.weight"} if text.tie_word_embeddings else {}
    _fill(llm, _llm_tensors(folder), f"{folder} (LLM)", device, dtype, tied)
    llm.tie_weights()
    # The rotary table is not in the checkpoint and was made on the meta device.
    llm.model.rotary_emb = LlamaRotaryEmbedding(text).to(device)
    for module in (aligner, llm):
        module.requires_grad_(False)
    tokenizer = _load_tokenizer(folder)
    image = _image_token_id(tokenizer, base, config, folder)
    eos = tokenizer.eos_token_id
    if eos is None:
        raise CheckpointError("the tokenizer has no eos token", where=folder)
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    llm.generation_config.eos_token_id, llm.generation_config.pad_token_id = eos, pad
    return ImageLLM(base.name, aligner, llm, tokenizer, image, eos, pad, base_digest(folder))


def base_digest(folder: Path) -> str:
    """Tells bases apart without reading the whole LLM.

    sha256 over the alignment module's tensors, the LLM's last norm and the LLM's configuration.
    """
    config = read_json(folder / "config.json").get("text_config", {})
    norm = read_tensors(folder, "language_model.model.norm.", "model.language_model.norm.")
    parts = [tensors_digest(read_tensors(folder, *ALIGNER)), tensors_digest(norm)]
    return hashlib.sha256(canonical_json([*parts, config]).encode()).hexdigest()


def _read_config(folder: Path) -> tuple[LlavaConfig, LlamaConfig]:
    record = read_json(folder / "config.json")
    kinds = (record.get("model_type"), record.get("text_config", {}).get("model_type", "llama"))
    if kinds != ("llava", "llama"):
        raise CheckpointError(
            "not a checkpoint of the llava-hf layout",
            where=folder / "config.json",
            got=f"model_type {kinds[0]} with text model {kinds[1]}",
            wanted="llava with llama",
        )
    config = LlavaConfig.from_dict(record)
    text = config.text_config
    if not isinstance(text, LlamaConfig):
        raise CheckpointError("no Llama in the checkpoint", where=folder, got=type(text).__name__)
    text._attn_implementation = "sdpa"
    text.tie_word_embeddings = bool(
        record.get("tie_word_embeddings") or record["text_config"].get("tie_word_embeddings")
    )
    # Dropout 0 lets the frozen LLM stay in train mode, which activation checkpointing asks for.
    text.attention_dropout = 0.0
    return config, text


def _llm_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in iter_tensors(folder, ("language_model.", *LLM)):
        if name.endswith("rotary_emb.inv_freq"):  # old releases saved this computed table
            continue
        prefix = next((p for p in LLM if name.startswith(p)), "")
        yield LLM.get(prefix, "") + name.removeprefix(prefix), tensor


def _fill(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    where: object,
    device: torch.device | str,
    dtype: torch.dtype,
    tied: dict[str, str] | None = None,
) -> None:
    """Give a module on the meta device its weights, or refuse by name."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    loaded: dict[str, Tensor] = {}
    extra, misshapen = [], []
    for name, tensor in tensors:
        if name not in shapes:
            extra.append(name)
        elif tuple(tensor.shape) != shapes[name]:
            misshapen.append(f"{name} {tuple(tensor.shape)} for {shapes[name]}")
        else:
            loaded[name] = tensor.to(device, dtype)
    for name, source in (tied or {}).items():
        if source in loaded:
            loaded.setdefault(name, loaded[source])
    missing = sorted(set(shapes) - set(loaded) - {text.split()[0] for text in misshapen})
    problems = {"missing": missing, "superfluous": extra, "of another shape": misshapen}
    for problem, names in problems.items():
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            raise CheckpointError(f"tensors {problem}", where=where, got=shown)
    module.load_state_dict(loaded, assign=True)


def _load_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError("cannot load the tokenizer", where=folder, got=error) from error


def _image_token_id(tokenizer: Any, base: BaseConfig, config: LlavaConfig, folder: Path) -> int:
    found = tokenizer.get_vocab().get(base.image_token)
    if found != config.image_token_index:
        raise CheckpointError(
            "tokenizer and config disagree on the image token",
            where=folder,
            got=f"{base.image_token} is {found} in the tokenizer",
            wanted=f"{config.image_token_index}, the config's image_token_index",
        )
    return int(found)
