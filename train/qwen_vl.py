"""Qwen-VL's language side on stock parts: its LLM is a Qwen2ForCausalLM under other names.

Exact up to 2,048 tokens; beyond, the original rescales positions and attention at inference.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import tiktoken
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from features.config import BaseConfig
from features.errors import CheckpointError, few
from features.layouts import CheckpointParts
from features.load_module import fill, restore_buffers
from train.aligners import Resampler
from train.image_llm import Language

_HEAD_WIDTH = 128
_LAYER = {
    "ln_1.": "input_layernorm.",
    "ln_2.": "post_attention_layernorm.",
    "attn.c_proj.": "self_attn.o_proj.",
    "mlp.w1.": "mlp.up_proj.",
    "mlp.w2.": "mlp.gate_proj.",
    "mlp.c_proj.": "mlp.down_proj.",
}
_PUBLISHED = (
    *("ln_1.weight", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight"),
    *("ln_2.weight", "mlp.w1.weight", "mlp.w2.weight", "mlp.c_proj.weight"),
)
"""Tensors of a layer by their published names."""
_PATTERN = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *(f"<|extra_{i}|>" for i in range(205)),
    *("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"),
)
"""Their ids follow the ranks of the file, in this order."""


def load_qwen_vl(
    base: BaseConfig, parts: CheckpointParts, device: torch.device, dtype: torch.dtype
) -> Language:
    """`Qwen/Qwen-VL` and `Qwen/Qwen-VL-Chat`.

    Raises:
        CheckpointError: config, tensors or tokenizer do not make a Qwen-VL.
    """
    path = parts.folder / "qwen.tiktoken"
    tokenizer = QwenTokenizer(path)
    wanted, found = parts.config["visual"].get("image_start_id"), tokenizer.get_vocab()["<img>"]
    if wanted not in (None, found):
        do = "download the file again"
        raise CheckpointError("lines are missing", where=path, got=found, wanted=wanted, do=do)
    return Language(_load_resampler(parts), _load_llm(parts, device, dtype), tokenizer)


def _load_llm(parts: CheckpointParts, device: torch.device, dtype: torch.dtype) -> Qwen2ForCausalLM:
    c = parts.config
    try:
        config = Qwen2Config(
            vocab_size=c["vocab_size"],
            hidden_size=c["hidden_size"],
            intermediate_size=c["intermediate_size"] // 2,  # the file counts both of its halves
            num_hidden_layers=c["num_hidden_layers"],
            num_attention_heads=c["num_attention_heads"],
            num_key_value_heads=c["num_attention_heads"],
            max_position_embeddings=c["seq_length"],
            rms_norm_eps=c["layer_norm_epsilon"],
            rope_parameters={"rope_type": "default", "rope_theta": float(c["rotary_emb_base"])},
            tie_word_embeddings=c.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        where = parts.folder / "config.json"
        raise CheckpointError("no such entry", where=where, got=f"no {error}") from error
    layers = range(config.num_hidden_layers)
    missing = [f"transformer.h.{i}.{name}" for i in layers for name in _PUBLISHED]
    missing = [name for name in missing if name not in parts.files]
    if missing:  # `fill` would name them as the stock LLM does
        raise CheckpointError("tensors missing", where=f"{parts.folder} (LLM)", got=few(missing))
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        llm = Qwen2ForCausalLM(config)
    fill(llm, _stock_names(parts), f"{parts.folder} (LLM)", device, dtype)
    restore_buffers(llm, device)
    return llm


def _stock_names(parts: CheckpointParts) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in parts.tensors("llm"):
        head, layer, rest = _split_layer(name)
        if rest.startswith("attn.c_attn."):  # contiguous thirds, unlike the tower's
            kind = rest.removeprefix("attn.c_attn.")
            for x, third in zip("qkv", _thirds(name, tensor), strict=True):
                yield f"{head}{layer}.self_attn.{x}_proj.{kind}", third
        else:
            old = next((p for p in _LAYER if rest.startswith(p)), "")
            local = _LAYER.get(old, "") + rest.removeprefix(old)
            yield (f"{head}{layer}.{local}" if layer else name), tensor


def _thirds(name: str, tensor: Tensor) -> tuple[Tensor, ...]:
    if len(tensor) % 3:
        got = f"{name} {tuple(tensor.shape)}"
        raise CheckpointError("tensors of another shape", got=got, wanted="rows of q, k and v")
    return tensor.chunk(3)


def _split_layer(name: str) -> tuple[str, str, str]:
    """`model.layers.3.rest` -> (`model.layers.`, `3`, `rest`); other names -> (name, "", "")."""
    head = "model.layers."
    if not name.startswith(head):
        return name, "", ""
    layer, _, rest = name.removeprefix(head).partition(".")
    return head, layer, rest


def _load_resampler(parts: CheckpointParts) -> Resampler:
    names = parts.names("aligner")
    for needed in ("kv_proj.weight", "query"):
        if needed not in names:
            wanted = f"transformer.visual.attn_pool.{needed}"
            raise CheckpointError("no such tensors", where=parts.folder, wanted=wanted)
    hidden, width = parts.files.shape(names["kv_proj.weight"])
    num_queries = parts.files.shape(names["query"])[0]
    if isqrt(num_queries) ** 2 != num_queries:
        got, wanted = f"query with {num_queries} rows", "a square"
        raise CheckpointError(
            "tensors of another shape", where=parts.folder, got=got, wanted=wanted
        )
    with torch.device("meta"):
        aligner = Resampler(width, hidden, num_queries, max(1, hidden // _HEAD_WIDTH))
    fill(aligner, _resampler_names(parts), f"{parts.folder} (alignment module)")
    return aligner


def _resampler_names(parts: CheckpointParts) -> Iterator[tuple[str, Tensor]]:
    """nn.MultiheadAttention's stacked projection becomes three layers; x @ proj a linear layer."""
    value = "value_path."
    for name, tensor in parts.tensors("aligner"):
        if name.startswith("attn.in_proj_"):
            kind = name.removeprefix("attn.in_proj_")
            q, k, v = _thirds(name, tensor)
            yield from ((f"q_proj.{kind}", q), (f"k_proj.{kind}", k), (f"{value}v_proj.{kind}", v))
        elif name == "proj":
            yield f"{value}proj.weight", tensor.T
        elif name.startswith(("kv_proj.", "ln_kv.", "ln_post.", "attn.out_proj.")):
            yield value + name.removeprefix("attn."), tensor
        else:
            yield name, tensor


class QwenTokenizer:
    """Qwen-VL's tokenizer on tiktoken, with the few methods of transformers' that we use."""

    def __init__(self, path: Path) -> None:
        """Reads the published ranks.

        Raises:
            CheckpointError: missing or damaged.
        """
        ranks: dict[bytes, int] = {}
        try:
            for line in path.read_bytes().splitlines():
                if line:
                    token, rank = line.split()
                    ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (OSError, ValueError, binascii.Error) as error:
            raise CheckpointError("cannot load the tokenizer", where=path, got=error) from error
        if not ranks or sorted(ranks.values()) != list(range(len(ranks))):
            got = f"{len(ranks)} tokens, ranks up to {max(ranks.values(), default=None)}"
            do = "download the file again"
            raise CheckpointError("the tokenizer is damaged", where=path, got=got, do=do)
        self._special = {name: len(ranks) + i for i, name in enumerate(_SPECIAL)}
        self._encoding = tiktoken.Encoding(
            "qwen", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=self._special
        )
        self.eos_token_id = self.pad_token_id = self._special["<|endoftext|>"]

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Ids of a text; names of special tokens become them. There is no bos."""
        normal = unicodedata.normalize("NFC", text)
        return {"input_ids": self._encoding.encode(normal, allowed_special="all")}

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD."""
        least = self.eos_token_id if skip_special_tokens else self._encoding.n_vocab
        return self._encoding.decode([i for i in ids if i < least], errors="replace")

    def get_vocab(self) -> dict[str, int]:
        """The special tokens (the rest are bytes, no text)."""
        return dict(self._special)
