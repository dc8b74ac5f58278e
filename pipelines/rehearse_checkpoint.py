"""Checkpoints with a published base's shapes, names and files, and with weights that mean nothing.

What a rehearsal needs of a 7B base is its size and its naming, both of which its configuration
tells; so the real code can be run at full size on a machine that has never seen the weights.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from features.checkpoint_files import PROJECT
from features.config import BaseConfig
from features.errors import ConfigError
from features.recipes import did_you_mean

RECIPES = PROJECT / "pipelines" / "recipes" / "rehearsals"
SHARD_BYTES = 1 << 30
_STD = 0.02
_BLOCK = 4_194_319
"""Numbers that are really drawn. A prime, so that no two rows of a matrix begin at one place."""
_QWEN_SPECIAL = 293
"""Rows of Qwen's vocabulary behind the ranks of its tokenizer's file."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Scale = Literal["full", "tiny"]


@dataclass(frozen=True)
class Rehearsal:
    """What is made up: a base's recipe and its config.json."""

    base: dict[str, Any]
    """Fields of BaseConfig; the checkpoint is added when there is one."""
    config: dict[str, Any]

    @classmethod
    def read(cls, name: str, scale: Scale = "full") -> Rehearsal:
        """A base's own numbers, or the same kind of base in a size for tests.

        Raises:
            ConfigError: no numbers of that base.
        """
        known = sorted(path.stem for path in RECIPES.glob("*.json"))
        if name not in known:
            raise ConfigError(
                "no rehearsal of that base",
                got=name,
                wanted=" or ".join(known),
                do=f"make rehearse BASE={known[0]}; {did_you_mean(name, known)}",
            )
        record = json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8"))
        if scale == "tiny":
            record = _merged(record, record["tiny"])
        return cls(record["base"], record["config"])

    @property
    def is_qwen(self) -> bool:
        """Whether the layout is Qwen-VL's; else it is LLaVA's in transformers' naming."""
        return "visual" in self.config

    @property
    def num_patches(self) -> int:
        """N."""
        eyes = self.config["visual" if self.is_qwen else "vision_config"]
        return int(eyes["image_size"] // eyes["patch_size"]) ** 2

    @property
    def nbytes(self) -> int:
        """Size of the weights on disk."""
        return 2 * sum(torch.Size(shape).numel() for _, shape in self.shapes())

    def shapes(self) -> Shapes:
        """(published name, shape) of every tensor."""
        return _qwen_shapes(self.config) if self.is_qwen else _llava_shapes(self.config)

    def base_at(self, folder: Path) -> BaseConfig:
        """The recipe of the base whose checkpoint lies in `folder`."""
        return BaseConfig(checkpoint=str(folder.resolve()), **self.base)


def write_checkpoint(
    plan: Rehearsal, folder: Path, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Write config, tokenizer and weights, a shard at a time; returns the bytes of the weights.

    Args:
        plan: what to write.
        folder: where; it exists.
        advance: told the bytes of every shard once it is written.

    Raises:
        ConfigError: the disk has no room for it.
    """
    free, needed = shutil.disk_usage(folder).free, plan.nbytes
    if free < needed * 1.05:
        raise ConfigError(
            "not enough room on the disk for the checkpoint",
            where=folder,
            got=f"{free / 1e9:.1f} GB free",
            wanted=f"{needed * 1.05 / 1e9:.1f} GB",
            do="name a folder on another disk with --folder",
        )
    (folder / "config.json").write_text(json.dumps(plan.config, indent=1), encoding="utf-8")
    (_write_tiktoken if plan.is_qwen else _write_words)(plan.config, folder)
    generator = torch.Generator().manual_seed(0)
    block = (torch.randn(_BLOCK, generator=generator) * _STD).bfloat16()
    shards = _shards(plan.shapes())
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({n: _made_up(n, s, block) for n, s in shard.items()}, folder / file)
        places |= dict.fromkeys(shard, file)
        advance((folder / file).stat().st_size)
    index = {"metadata": {"total_size": needed}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return needed


def _shards(shapes: Shapes) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes:
        nbytes = 2 * torch.Size(shape).numel()
        if shards[-1] and size + nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += nbytes
    return shards


def _made_up(name: str, shape: tuple[int, ...], block: Tensor) -> Tensor:
    """Norms that do nothing, no biases, and the block again and again for everything else."""
    if name.endswith(".bias") or name.endswith("_bias"):
        return torch.zeros(shape, dtype=torch.bfloat16)
    if len(shape) == 1 and name.endswith(".weight"):
        return torch.ones(shape, dtype=torch.bfloat16)
    flat = torch.empty(torch.Size(shape).numel(), dtype=torch.bfloat16)
    start = sum(name.encode()) * 7919 % len(block)  # tensors of one shape differ
    for at in range(-start, len(flat), len(block)):
        piece = block[max(-at, 0) : len(flat) - at]
        flat[max(at, 0) :][: len(piece)] = piece
    return flat.view(shape)


def _weights(prefix: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{prefix}.weight", shape
    if bias:
        yield f"{prefix}.bias", shape[:1]


def _llava_shapes(config: Mapping[str, Any]) -> Shapes:
    eyes, text = config["vision_config"], config["text_config"]
    width, inner, patch = (eyes[k] for k in ("hidden_size", "intermediate_size", "patch_size"))
    vision = "vision_tower.vision_model"
    yield f"{vision}.embeddings.class_embedding", (width,)
    yield f"{vision}.embeddings.patch_embedding.weight", (width, 3, patch, patch)
    positions = (eyes["image_size"] // patch) ** 2 + 1
    yield f"{vision}.embeddings.position_embedding.weight", (positions, width)
    yield from _weights(f"{vision}.pre_layrnorm", width)
    for i in range(eyes["num_hidden_layers"]):
        layer = f"{vision}.encoder.layers.{i}"
        for x in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _weights(f"{layer}.self_attn.{x}", width, width)
        yield from _weights(f"{layer}.mlp.fc1", inner, width)
        yield from _weights(f"{layer}.mlp.fc2", width, inner)
        yield from _weights(f"{layer}.layer_norm1", width)
        yield from _weights(f"{layer}.layer_norm2", width)
    yield from _weights(f"{vision}.post_layernorm", width)
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    yield from _weights("multi_modal_projector.linear_1", hidden, width)
    yield from _weights("multi_modal_projector.linear_2", hidden, hidden)
    llm = "language_model.model"
    yield f"{llm}.embed_tokens.weight", (text["vocab_size"], hidden)
    for i in range(text["num_hidden_layers"]):
        layer = f"{llm}.layers.{i}"
        keys = hidden // text["num_attention_heads"] * text["num_key_value_heads"]
        for x, rows in {"q": hidden, "k": keys, "v": keys, "o": hidden}.items():
            yield f"{layer}.self_attn.{x}_proj.weight", (rows, hidden)
        for x in ("gate", "up"):
            yield f"{layer}.mlp.{x}_proj.weight", (inner, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, inner)
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
    yield f"{llm}.norm.weight", (hidden,)
    yield "language_model.lm_head.weight", (text["vocab_size"], hidden)


def _qwen_shapes(config: Mapping[str, Any]) -> Shapes:
    hidden, inner = config["hidden_size"], config["intermediate_size"] // 2
    yield "transformer.wte.weight", (config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"transformer.h.{i}"
        yield f"{layer}.ln_1.weight", (hidden,)
        yield from _weights(f"{layer}.attn.c_attn", 3 * hidden, hidden)
        yield f"{layer}.attn.c_proj.weight", (hidden, hidden)
        yield f"{layer}.ln_2.weight", (hidden,)
        yield f"{layer}.mlp.w1.weight", (inner, hidden)
        yield f"{layer}.mlp.w2.weight", (inner, hidden)
        yield f"{layer}.mlp.c_proj.weight", (hidden, inner)
    yield "transformer.ln_f.weight", (hidden,)
    eyes, visual = config["visual"], "transformer.visual"
    width, out, queries = eyes["width"], eyes["output_dim"], eyes["n_queries"]
    inner = int(width * eyes["mlp_ratio"])
    yield f"{visual}.positional_embedding", (256, width)
    yield f"{visual}.proj", (out, out)
    yield f"{visual}.conv1.weight", (width, 3, eyes["patch_size"], eyes["patch_size"])
    yield from _weights(f"{visual}.ln_pre", width)
    for i in range(eyes["layers"]):
        layer = f"{visual}.transformer.resblocks.{i}"
        yield from _weights(f"{layer}.ln_1", width)
        yield from _weights(f"{layer}.ln_2", width)
        yield from _weights(f"{layer}.attn.in_proj", 3 * width, width)
        yield from _weights(f"{layer}.attn.out_proj", width, width)
        yield from _weights(f"{layer}.mlp.c_fc", inner, width)
        yield from _weights(f"{layer}.mlp.c_proj", width, inner)
    pool = f"{visual}.attn_pool"
    yield f"{pool}.query", (queries, out)
    yield f"{pool}.pos_embed", (queries, out)
    yield f"{pool}.kv_proj.weight", (out, width)
    yield f"{pool}.attn.in_proj_weight", (3 * out, out)
    yield f"{pool}.attn.in_proj_bias", (3 * out,)
    yield from _weights(f"{pool}.attn.out_proj", out, out)
    yield from _weights(f"{pool}.ln_q", out)
    yield from _weights(f"{pool}.ln_kv", out)
    yield from _weights(f"{visual}.ln_post", out)
    yield "lm_head.weight", (config["vocab_size"], hidden)


def _write_words(config: Mapping[str, Any], folder: Path) -> None:
    """A tokenizer whose words are as many as the ids below the image token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", "<s>", "</s>", "USER", "ASSISTANT", ":", "what", "happens", "nothing"]
    words = [*known, *(f"w{i}" for i in range(len(known), config["image_token_index"]))]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    tokenizer.add_special_tokens(["<image>", "<pad>"])
    kind: Any = PreTrainedTokenizerFast  # untyped
    kind(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)


def _write_tiktoken(config: Mapping[str, Any], folder: Path) -> None:
    """Ranks in the published form: every byte, then strings of three that no text can merge to."""
    strings = [bytes([i]) for i in range(256)]
    more = config["vocab_size"] - _QWEN_SPECIAL - len(strings)
    strings += [i.to_bytes(3, "big") for i in islice(count(), more)]
    lines = (f"{base64.b64encode(s).decode()} {rank}\n" for rank, s in enumerate(strings))
    (folder / "qwen.tiktoken").write_text("".join(lines), encoding="ascii")


def _merged(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with `changes` put in at any depth."""
    merged = dict(record)
    for key, value in changes.items():
        merged[key] = _merged(merged[key], value) if isinstance(value, dict) else value
    return merged
