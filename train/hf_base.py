"""The language side of today's Image LLMs, on transformers' own LLMs.

What their projectors do without parameters was done by extract/hf_tower.py; here is the rest, token
by token, in plain torch layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.activations import ACT2FN

from features.config import BaseConfig
from features.errors import CheckpointError
from features.layouts import CheckpointParts
from features.load_module import fill, restore_buffers
from train.aligners import Aligner, LinearAligner, MLPAligner, NormedAligner
from train.image_llm import Attention, Language
from train.llava import load_tokenizer

_ATTENTION: dict[str, Attention] = {
    "paligemma": "bidirectional-prefix",
    "gemma3": "bidirectional-video",
}
_FIRST = dict.fromkeys(("internvl", "qwen2-vl", "gemma3"), "mlp.0")
_FIRST |= dict.fromkeys(("idefics3", "paligemma"), "linear")
"""The alignment module's first linear layer, where it is not LLaVA's; its shape tells the sizes."""


def load_hf(
    base: BaseConfig, parts: CheckpointParts, device: torch.device, dtype: torch.dtype
) -> Language:
    """A base whose layout is transformers' own.

    Raises:
        CheckpointError: tensors do not fit the config, or there is no tokenizer.
    """
    layout = parts.layout.name
    try:
        config: Any = AutoConfig.from_pretrained(parts.folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        where = parts.folder / "config.json"
        raise CheckpointError("cannot read the configuration", where=where, got=error) from error
    aligner = _load_aligner(layout, config, parts)
    llm = _load_llm(config, parts, device, dtype)
    tokenizer = load_tokenizer(parts)
    if layout == "paligemma":  # its bos stands behind the image: the prompt writes it there
        tokenizer.add_bos_token = False
    positions: Any = "mrope" if layout == "qwen2-vl" else "sequence"
    attention = _ATTENTION.get(layout, "causal")
    return Language(aligner, llm, tokenizer, positions, attention)


def _load_aligner(layout: str, config: Any, parts: CheckpointParts) -> Aligner:
    names = parts.names("aligner")
    name = f"{_FIRST.get(layout, 'linear_1')}.weight"
    if name not in names:
        wanted = f"{name} of the alignment module"
        raise CheckpointError("no such tensors", where=parts.folder, wanted=wanted)
    out, width = parts.files.shape(names[name])
    hidden = int(config.text_config.hidden_size)
    with torch.device("meta"):
        aligner = _make_aligner(layout, config, out, width, hidden)
    tensors: Iterator[tuple[str, Tensor]] = parts.tensors("aligner")
    if layout == "gemma3":
        tensors = _gemma3_names(tensors)
    fill(aligner, tensors, f"{parts.folder} (alignment module)")
    return aligner


def _make_aligner(layout: str, config: Any, out: int, width: int, hidden: int) -> Aligner:
    vision = config.vision_config
    if layout in ("idefics3", "paligemma"):
        return LinearAligner(width, hidden, bias=layout == "paligemma")
    if layout == "internvl":
        act = ACT2FN[config.projector_hidden_act]
        layers = nn.Linear(width, hidden), act, nn.Linear(hidden, hidden)
        return NormedAligner(width, nn.LayerNorm(width), *layers)
    if layout == "qwen2-vl":
        layers = nn.Linear(width, out), nn.GELU(), nn.Linear(out, hidden)
        norm = nn.LayerNorm if vision.model_type == "qwen2_vl_vision" else nn.RMSNorm
        return NormedAligner(width, norm(width // vision.spatial_merge_size**2, eps=1e-6), *layers)
    if layout == "gemma3":  # its matrix is stored as (D, H)
        norm_ = nn.RMSNorm(out, eps=vision.layer_norm_eps)
        return NormedAligner(out, norm_, nn.Linear(out, hidden, bias=False))
    act = ACT2FN[config.projector_hidden_act]
    return MLPAligner(width, hidden, act, config.multimodal_projector_bias)


def _gemma3_names(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """x @ matrix becomes a linear layer; Gemma's norms store their weight less 1."""
    for name, tensor in tensors:
        yield name, tensor.T if name == "mlp.0.weight" else tensor.float() + 1


class HeadedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """A text model that transformers only has without its vocabulary head."""

    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: Any, body: PreTrainedModel) -> None:
        super().__init__(config)
        self.model = body
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)


def _load_llm(
    config: Any, parts: CheckpointParts, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    text = config.text_config
    # Gemma 2 caps its attention's logits, which only the plain implementation does.
    capped = getattr(text, "attn_logit_softcapping", None) is not None
    text._attn_implementation = kind = "eager" if capped else "sdpa"
    tied = any(getattr(c, "tie_word_embeddings", False) for c in (config, text))
    tied = tied and "lm_head.weight" not in parts.names("llm")
    headless = parts.layout.name == "qwen2-vl"
    auto: Any = AutoModel if headless else AutoModelForCausalLM
    with torch.device("meta"):
        llm: Any = auto.from_config(text, attn_implementation=kind)
        llm = HeadedModel(text, llm) if headless else llm
    same = {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    fill(llm, parts.tensors("llm"), f"{parts.folder} (LLM)", device, dtype, same)
    if tied:
        llm.lm_head.weight = llm.get_input_embeddings().weight
    restore_buffers(llm, device)
    model: PreTrainedModel = llm
    return model
