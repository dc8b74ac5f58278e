"""LLaVA's language side, in transformers' layout and in the original one (also as a delta)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaTokenizer, LlavaConfig
from transformers.activations import ACT2FN

from features.checkpoint_files import CheckpointFiles, read_json, resolve_checkpoint
from features.config import BaseConfig
from features.errors import CheckpointError
from features.layouts import CheckpointParts
from features.load_module import fill, restore_buffers
from train.aligners import Aligner, LinearAligner, MLPAligner
from train.image_llm import Language


def load_llava_hf(
    base: BaseConfig, parts: CheckpointParts, device: torch.device, dtype: torch.dtype
) -> Language:
    """`llava-hf/llava-1.5-*-hf`.

    Raises:
        CheckpointError: config or tensors do not make a LLaVA in front of a Llama.
    """
    record = parts.config
    said = record.get("text_config", {})
    kind = said.get("model_type", "llama")
    if kind != "llama":
        where = parts.folder / "config.json"
        raise CheckpointError("no Llama in the checkpoint", where=where, got=kind, wanted="llama")
    config: Any = LlavaConfig.from_dict(record)
    text = config.text_config
    text.tie_word_embeddings = bool(
        record.get("tie_word_embeddings") or said.get("tie_word_embeddings")
    )
    with torch.device("meta"):
        aligner = MLPAligner(
            config.vision_config.hidden_size,
            text.hidden_size,
            ACT2FN[config.projector_hidden_act],
            config.multimodal_projector_bias,
        )
    fill(aligner, parts.tensors("aligner"), f"{parts.folder} (alignment module)")
    llm = make_llama(text, parts.tensors("llm"), f"{parts.folder} (LLM)", device, dtype)
    return Language(aligner, llm, load_tokenizer(parts))


def load_llava(
    base: BaseConfig, parts: CheckpointParts, device: torch.device, dtype: torch.dtype
) -> Language:
    """The original layout (LLaVA-Lightning-7B-v1-1, liuhaotian/llava-v1.5-*), merged or a delta.

    The LLM's configuration is read from the raw config.json, whose model_type transformers would
    take for its own LLaVA.

    Raises:
        CheckpointError: config or tensors do not make a LLaVA, or a delta lacks its LLaMA.
    """
    tensors = parts.tensors("llm")
    if base.delta_base is not None:
        tensors = _merged(parts, CheckpointFiles(resolve_checkpoint(base.delta_base)))
    elif _looks_like_delta(base, parts):
        raise CheckpointError(
            "this looks like a delta, which is no model by itself",
            where=parts.folder,
            do="name its LLaMA as `delta_base` in the base's recipe",
        )
    text = LlamaConfig.from_dict({**parts.config, "model_type": "llama"})
    aligner = _original_aligner(parts, text.hidden_size)
    llm = make_llama(text, tensors, f"{parts.folder} (LLM)", device, dtype)
    return Language(aligner, llm, load_tokenizer(parts))


def _looks_like_delta(base: BaseConfig, parts: CheckpointParts) -> bool:
    """By name, as they are published; a hub cache has the name in a folder further up."""
    cached = [part for part in parts.folder.parts if part.startswith("models--")]
    names = (base.checkpoint.rstrip("/").split("/")[-1], parts.folder.name, *cached)
    return any("delta" in name.lower() for name in names)


def _original_aligner(parts: CheckpointParts, hidden: int) -> Aligner:
    names = parts.names("aligner")
    first = "linear_1.weight" if "linear_1.weight" in names else "linear.weight"
    if first not in names:
        wanted = "model.mm_projector.weight or model.mm_projector.0.weight"
        raise CheckpointError("no such tensors", where=parts.folder, wanted=wanted)
    width = parts.files.shape(names[first])[1]
    with torch.device("meta"):
        aligner: Aligner = (
            MLPAligner(width, hidden, nn.GELU())
            if first == "linear_1.weight"
            else LinearAligner(width, hidden)
        )
    fill(aligner, parts.tensors("aligner"), f"{parts.folder} (alignment module)")
    return aligner


def _merged(parts: CheckpointParts, llama: CheckpointFiles) -> Iterator[tuple[str, Tensor]]:
    """Delta + LLaMA: tables of the vocabulary, which has grown, add in their top left block."""
    for name, tensor in parts.tensors("llm"):
        below = llama.shape(name) if name in llama else ()
        grown = name in ("model.embed_tokens.weight", "lm_head.weight") and len(below) == 2
        fits = grown and all(b <= d for b, d in zip(below, tensor.shape, strict=True))
        if below != tuple(tensor.shape) and not fits:
            raise CheckpointError(
                "this delta is for another LLaMA",
                where=parts.folder,
                got=f"{name} {below or 'missing'} in the LLaMA",
                wanted=tuple(tensor.shape),
            )
        whole = tensor.clone()
        whole[tuple(slice(size) for size in below)] += llama[name].to(whole.dtype)
        yield name, whole


def make_llama(
    config: LlamaConfig,
    tensors: Iterator[tuple[str, Tensor]],
    where: str,
    device: torch.device,
    dtype: torch.dtype,
) -> LlamaForCausalLM:
    """A stock Llama with these weights.

    Raises:
        CheckpointError: tensors missing, superfluous or of another shape.
    """
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        llm = LlamaForCausalLM(config)
    tied = {"lm_head.weight": "model.embed_tokens.weight"} if config.tie_word_embeddings else {}
    fill(llm, tensors, where, device, dtype, tied)
    llm.tie_weights()
    restore_buffers(llm, device)
    return llm


def load_tokenizer(parts: CheckpointParts) -> Any:
    """The checkpoint's tokenizer, without running any code of it.

    Raises:
        CheckpointError: there is none that can be read.
    """
    files = ("tokenizer.json", "tokenizer.model")
    if not any((parts.folder / name).is_file() for name in files):  # transformers would make one up
        wanted = " or ".join(files)
        raise CheckpointError("cannot load the tokenizer", where=parts.folder, wanted=wanted)
    kind: Any = AutoTokenizer
    options: dict[str, Any] = {}
    if parts.layout.name == "llava":
        # Its config.json calls itself what transformers calls another class, and a Llama's prompt
        # begins with bos whether or not tokenizer_config.json says so.
        kind, path = LlamaTokenizer, parts.folder / "tokenizer_config.json"
        said = read_json(path) if path.is_file() else {}
        options = {"add_bos_token": said.get("add_bos_token", True)}
    try:
        return kind.from_pretrained(parts.folder, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise CheckpointError("cannot load the tokenizer", where=parts.folder, got=error) from error
