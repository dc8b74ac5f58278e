"""Tiny checkpoints with random weights, in the naming in which the big ones are published."""

from __future__ import annotations

import base64
import json
import math
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, LlamaTokenizer

# Qwen-VL ------------------------------------------------------------------------------------------

HIDDEN, LLM_HEADS, LLM_LAYERS, MLP = 256, 4, 2, 96
WIDTH, HEADS, LAYERS, RATIO, TOWER_MLP = 40, 2, 2, 2.51, 100  # int(40 * 2.51)
PATCH, IMAGE, GRID, TABLE_SIDE, QUERY_SIDE = 8, 64, 8, 4, 4
VOCAB = 500
MERGES = ["th", "the", " a", "wh", "at", "what", " the", "er", "用", "户", "用户", "\n\n", "Pi"]


def qwen_ranks() -> dict[bytes, int]:
    """256 bytes in no natural order, then merges; each is two tokens of lower rank."""
    order = list(range(256))
    random.Random(1).shuffle(order)
    ranks = {bytes([byte]): i for i, byte in enumerate(order)}
    for text in MERGES:
        raw = text.encode()
        for end in range(2, len(raw) + 1):  # a char of three bytes needs its first two merged
            ranks.setdefault(raw[:end], len(ranks))
        for start in range(len(raw) - 1):
            ranks.setdefault(raw[start:], len(ranks))
    return ranks


def _linear(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * math.prod(shape[1:]) ** -0.5 * 1.5


def qwen_tensors() -> dict[str, Tensor]:
    """Every tensor of a tiny Qwen-VL, random."""
    g = torch.Generator().manual_seed(7)
    tensors: dict[str, Tensor] = {}

    def linear(name: str, out: int, width: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = _linear(g, out, width)
        if bias:
            tensors[f"{name}.bias"] = torch.randn(out, generator=g) * 0.3

    def norm(name: str, width: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = 1 + torch.randn(width, generator=g) * 0.3
        if bias:
            tensors[f"{name}.bias"] = torch.randn(width, generator=g) * 0.3

    v = "transformer.visual"
    tensors[f"{v}.conv1.weight"] = _linear(g, WIDTH, 3, PATCH, PATCH)
    tensors[f"{v}.positional_embedding"] = torch.randn(TABLE_SIDE**2, WIDTH, generator=g)
    norm(f"{v}.ln_pre", WIDTH)
    for i in range(LAYERS):
        block = f"{v}.transformer.resblocks.{i}"
        norm(f"{block}.ln_1", WIDTH)
        norm(f"{block}.ln_2", WIDTH)
        linear(f"{block}.attn.in_proj", 3 * WIDTH, WIDTH)
        linear(f"{block}.attn.out_proj", WIDTH, WIDTH)
        linear(f"{block}.mlp.c_fc", TOWER_MLP, WIDTH)
        linear(f"{block}.mlp.c_proj", WIDTH, TOWER_MLP)
    pool = f"{v}.attn_pool"
    tensors[f"{pool}.query"] = torch.randn(QUERY_SIDE**2, HIDDEN, generator=g)
    tensors[f"{pool}.pos_embed"] = torch.randn(QUERY_SIDE**2, HIDDEN, generator=g)
    linear(f"{pool}.kv_proj", HIDDEN, WIDTH, bias=False)
    tensors[f"{pool}.attn.in_proj_weight"] = _linear(g, 3 * HIDDEN, HIDDEN)
    tensors[f"{pool}.attn.in_proj_bias"] = torch.randn(3 * HIDDEN, generator=g) * 0.3
    linear(f"{pool}.attn.out_proj", HIDDEN, HIDDEN)
    norm(f"{pool}.ln_q", HIDDEN)
    norm(f"{pool}.ln_kv", HIDDEN)
    norm(f"{v}.ln_post", HIDDEN)
    tensors[f"{v}.proj"] = _linear(g, HIDDEN, HIDDEN)

    tensors["transformer.wte.weight"] = torch.randn(VOCAB, HIDDEN, generator=g)
    for i in range(LLM_LAYERS):
        block = f"transformer.h.{i}"
        norm(f"{block}.ln_1", HIDDEN, bias=False)
        norm(f"{block}.ln_2", HIDDEN, bias=False)
        linear(f"{block}.attn.c_attn", 3 * HIDDEN, HIDDEN)
        linear(f"{block}.attn.c_proj", HIDDEN, HIDDEN, bias=False)
        linear(f"{block}.mlp.w1", MLP, HIDDEN, bias=False)
        linear(f"{block}.mlp.w2", MLP, HIDDEN, bias=False)
        linear(f"{block}.mlp.c_proj", HIDDEN, MLP, bias=False)
    norm("transformer.ln_f", HIDDEN, bias=False)
    linear("lm_head", VOCAB, HIDDEN, bias=False)
    return tensors


def write_qwen_vl(folder: Path, chat: bool = False) -> dict[str, Tensor]:
    """A tiny `Qwen/Qwen-VL` (or `-Chat`); gives its tensors under their published names."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = qwen_ranks()
    config = {
        "architectures": ["QWenLMHeadModel"],
        "attn_dropout_prob": 0.0,
        "auto_map": {"AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
        "bf16": True,
        "emb_dropout_prob": 0.0,
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": 2 * MLP,
        "kv_channels": HIDDEN // LLM_HEADS,
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 8192,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": LLM_HEADS,
        "num_hidden_layers": LLM_LAYERS,
        "onnx_safe": None,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": 2048,
        "tie_word_embeddings": False,
        "tokenizer_type": "QWenTokenizer",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.31.0",
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": False,
        "use_logn_attn": True,
        "visual": {
            "heads": HEADS,
            "image_size": IMAGE,
            "image_start_id": len(ranks) + 3 + 205 + 6,
            "layers": LAYERS,
            "mlp_ratio": RATIO,
            "output_dim": HIDDEN,
            "patch_size": PATCH,
            "width": WIDTH,
        },
        "vocab_size": VOCAB,
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = [b"%s %d" % (base64.b64encode(token), rank) for token, rank in ranks.items()]
    (folder / "qwen.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    generation = {"chat_format": "chatml" if chat else "raw", "eos_token_id": len(ranks)}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    tensors = qwen_tensors()
    # Two shards with an index, as published.
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2]}
    shards["model-00002-of-00002.safetensors"] = names[1::2]
    write_shards(folder, "model.safetensors", tensors, shards)
    return tensors


# Any checkpoint -----------------------------------------------------------------------------------


def write_shards(
    folder: Path, kind: str, tensors: dict[str, Tensor], shards: dict[str, list[str]]
) -> None:
    """Shards and their index; `kind` is model.safetensors or pytorch_model.bin."""
    for file, names in shards.items():
        part = {name: tensors[name].contiguous() for name in names}
        if kind.endswith(".bin"):
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
    index = {name: file for file, names in shards.items() for name in names}
    record = {"metadata": {}, "weight_map": index}
    (folder / f"{kind}.index.json").write_text(json.dumps(record))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    for file in sorted(folder.glob("*.bin")):
        tensors |= torch.load(file, weights_only=True)
    return tensors


def with_tensors(source: Path, target: Path, tensors: dict[str, Tensor]) -> Path:
    """A copy of a checkpoint with other tensors, in one file."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix not in (".safetensors", ".bin") and ".index." not in file.name:
            shutil.copy(file, target)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, target / "model.safetensors", metadata={"format": "pt"})
    return target


# The original LLaVA -------------------------------------------------------------------------------

LLAVA_HIDDEN, LLAVA_HEADS, LLAVA_MLP, LLAVA_LAYERS = 48, 4, 80, 2
CLIP_WIDTH, CLIP_IMAGE, CLIP_PATCH = 32, 32, 8


def write_clip(folder: Path, width: int = CLIP_WIDTH) -> CLIPModel:
    """A tiny CLIP of both halves, as `openai/clip-vit-large-patch14` is one."""
    vision = {
        "hidden_size": width,
        "intermediate_size": 72,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": CLIP_IMAGE,
        "patch_size": CLIP_PATCH,
        "hidden_act": "quick_gelu",
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 20,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(11)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    # What old releases saved besides.
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model


LLAMA_PIECES = ["▁", *"abcdehimortuwUSERASITN", "at", "▁w", "h"]
LLAMA_MERGES = [("▁", "w"), ("a", "t"), ("▁w", "h")]
START_END = ("<im_patch>", "<im_start>", "<im_end>")


def llama_vocabulary() -> dict[str, int]:
    """unk, bos, eos, 256 bytes and a few pieces."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *LLAMA_PIECES, "▁wh"]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def write_llama_tokenizer(folder: Path, more: tuple[str, ...] = ()) -> int:
    """tokenizer.json of a Llama; gives the size of its vocabulary."""
    tokenizer = LlamaTokenizer(
        vocab=llama_vocabulary(), merges=LLAMA_MERGES, pad_token="<unk>", add_bos_token=True
    )
    if more:
        tokenizer.add_tokens(list(more))
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_llava(
    folder: Path,
    projector: str = "mlp",
    clip_folder: Path | str = "",
    bin: bool = False,  # noqa: A002
    start_end: bool = False,
) -> dict[str, Tensor]:
    """A tiny LLaVA in its original layout; gives its tensors under their published names."""
    folder.mkdir(parents=True, exist_ok=True)
    # Three tokens were added to the first LLaVA's LLaMA, whether it uses them or not.
    vocab = write_llama_tokenizer(folder, START_END)
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "freeze_mm_mlp_adapter": False,
        "hidden_act": "silu",
        "hidden_size": LLAVA_HIDDEN,
        "image_aspect_ratio": "pad" if projector == "mlp" else "square",
        "initializer_range": 0.02,
        "intermediate_size": LLAVA_MLP,
        "max_position_embeddings": 2048,
        "mm_hidden_size": CLIP_WIDTH,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": start_end,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(clip_folder),
        "model_type": "llava",
        "num_attention_heads": LLAVA_HEADS,
        "num_hidden_layers": LLAVA_LAYERS,
        "num_key_value_heads": LLAVA_HEADS,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "use_cache": True,
        "vocab_size": vocab,
    }
    g = torch.Generator().manual_seed(13)
    size, tensors = LLAVA_HIDDEN, {}
    if projector == "mlp":
        config |= {"mm_projector_type": "mlp2x_gelu"}
        tensors["model.mm_projector.0.weight"] = _linear(g, size, CLIP_WIDTH)
        tensors["model.mm_projector.2.weight"] = _linear(g, size, size)
        for layer in (0, 2):
            tensors[f"model.mm_projector.{layer}.bias"] = torch.randn(size, generator=g) * 0.3
    else:
        tensors["model.mm_projector.weight"] = _linear(g, size, CLIP_WIDTH)
        tensors["model.mm_projector.bias"] = torch.randn(size, generator=g) * 0.3
    (folder / "config.json").write_text(json.dumps(config))
    tensors["model.embed_tokens.weight"] = torch.randn(vocab, size, generator=g)
    for i in range(LLAVA_LAYERS):
        block = f"model.layers.{i}"
        for x in "qkvo":
            tensors[f"{block}.self_attn.{x}_proj.weight"] = _linear(g, size, size)
        tensors[f"{block}.mlp.gate_proj.weight"] = _linear(g, LLAVA_MLP, size)
        tensors[f"{block}.mlp.up_proj.weight"] = _linear(g, LLAVA_MLP, size)
        tensors[f"{block}.mlp.down_proj.weight"] = _linear(g, size, LLAVA_MLP)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{block}.{norm}.weight"] = 1 + torch.randn(size, generator=g) * 0.3
    tensors["model.norm.weight"] = 1 + torch.randn(size, generator=g) * 0.3
    tensors["lm_head.weight"] = _linear(g, vocab, size)
    names = sorted(tensors)
    if bin:
        table = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}
        shards = {"pytorch_model-00001-of-00002.bin": [*names[::2], *table]}
        shards["pytorch_model-00002-of-00002.bin"] = names[1::2]
        write_shards(folder, "pytorch_model.bin", tensors | table, shards)
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def write_delta(merged: Path, llama: Path, delta: Path) -> None:
    """A LLaVA as a LLaMA with three rows less and the delta that was published over it."""
    tensors = read_tensors(merged)
    g = torch.Generator().manual_seed(17)
    below: dict[str, Tensor] = {}
    change = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if "mm_projector" in name:
            continue
        rows = len(tensor) - 3 if name.split(".")[-2] in ("embed_tokens", "lm_head") else None
        part = tensor[:rows]
        below[name] = torch.randn(part.shape, generator=g) * part.std()
        change[name][:rows] -= below[name]
    with_tensors(merged, delta, change)
    with_tensors(merged, llama, below)
    config = json.loads((merged / "config.json").read_text())
    kept = {k: v for k, v in config.items() if not k.startswith("mm_")}
    kept |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    kept["vocab_size"] = len(below["lm_head.weight"])
    (llama / "config.json").write_text(json.dumps(kept))


def write_sentencepiece(folder: Path) -> None:
    """The same vocabulary as tokenizer.model, as LLaMA publishes it: BPE with falling scores."""
    from transformers.convert_slow_tokenizer import import_protobuf

    model = import_protobuf().ModelProto()
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    merged = {a + b: -float(i) for i, (a, b) in enumerate(LLAMA_MERGES)}
    for piece in llama_vocabulary():
        kind = 6 if piece.startswith("<0x") else kinds.get(piece, 1)
        model.pieces.add(piece=piece, score=merged.get(piece, -1e3), type=kind)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
