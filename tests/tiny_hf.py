"""Tiny checkpoints of today's Image LLMs, as transformers writes them; tests import this."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

MINI = Path(__file__).resolve().parent.parent / "assets" / "mini"
IMAGE = 4
TEXT = {
    "vocab_size": 80,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GEMMA = {**TEXT, "head_dim": 12, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SIGLIP = {"model_type": "siglip_vision_model", **VISION}
INTERN = {**VISION, "model_type": "internvl_vision", "image_size": [32, 32], "patch_size": [8, 8]}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
QWEN = {**TEXT, "rope_parameters": MROPE, "bos_token_id": 1, "eos_token_id": 2}
QWEN_VISION = {"depth": 3, "num_heads": 2, "patch_size": 4}
QWEN25 = {
    **QWEN_VISION,
    "hidden_size": 32,
    "out_hidden_size": 48,
    "intermediate_size": 64,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}


def text(kind: str, **facts: Any) -> dict[str, Any]:
    return {"model_type": kind, **TEXT, **facts}


@dataclass(frozen=True)
class Family:
    model: str
    config: dict[str, Any]
    layer: int = -1
    regrouping: int = 1


FAMILIES = {
    "llava-next": Family(
        "LlavaNext",
        {
            "vision_config": {"model_type": "clip_vision_model", **VISION},
            "text_config": text("mistral"),
            "image_token_index": IMAGE,
        },
        layer=-2,
    ),
    "llava-onevision": Family(
        "LlavaOnevision",
        {"vision_config": SIGLIP, "text_config": text("qwen2"), "image_token_index": IMAGE},
    ),
    "internvl": Family(
        "InternVL",
        {
            "vision_config": {**INTERN, "use_mean_pooling": False},
            "text_config": text("qwen2"),
            "image_token_id": IMAGE,
        },
        regrouping=2,
    ),
    "idefics3": Family(
        "Idefics3",
        {"vision_config": VISION, "text_config": text("llama"), "image_token_id": IMAGE},
        regrouping=2,
    ),
    "smolvlm": Family(
        "SmolVLM",
        {"vision_config": VISION, "text_config": text("llama"), "image_token_id": IMAGE},
        regrouping=2,
    ),
    "qwen2-vl": Family(
        "Qwen2VL",
        {
            "vision_config": {**QWEN_VISION, "embed_dim": 32, "hidden_size": 48},
            "text_config": QWEN,
            "image_token_id": IMAGE,
        },
        regrouping=2,
    ),
    "qwen2-5-vl": Family(
        "Qwen2_5_VL",
        {"vision_config": QWEN25, "text_config": QWEN, "image_token_id": IMAGE},
        regrouping=2,
    ),
    "paligemma": Family(
        "PaliGemma",
        {
            "vision_config": {**SIGLIP, "projection_dim": 48},
            "text_config": {"model_type": "gemma", **GEMMA},
            "projection_dim": 48,
            "image_token_index": IMAGE,
        },
    ),
    "paligemma2": Family(
        "PaliGemma",
        {
            "vision_config": {**SIGLIP, "projection_dim": 48},
            "text_config": {
                "model_type": "gemma2",
                **GEMMA,
                "sliding_window": 6,
                "final_logit_softcapping": 3.0,
                "attn_logit_softcapping": 2.0,
            },
            "projection_dim": 48,
            "image_token_index": IMAGE,
        },
    ),
    "gemma3": Family(
        "Gemma3",
        {
            "vision_config": SIGLIP,
            "text_config": {
                "model_type": "gemma3_text",
                **GEMMA,
                "sliding_window": 3,
                "layer_types": ["sliding_attention", "full_attention"],
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                },
            },
            "mm_tokens_per_image": 4,
            "image_token_index": IMAGE,
        },
        regrouping=2,
    ),
}
FAMILIES["idefics3"].config["scale_factor"] = 2
FAMILIES["smolvlm"].config["scale_factor"] = 2


TOKENS = {  # what the published tokenizers call the placeholder and the end of an answer
    "llava-onevision": ("<image>", "<|im_end|>"),
    "internvl": ("<IMG_CONTEXT>", "<|im_end|>"),
    "idefics3": ("<image>", "<end_of_utterance>"),
    "smolvlm": ("<image>", "<end_of_utterance>"),
    "qwen2-vl": ("<|image_pad|>", "<|im_end|>"),
    "qwen2-5-vl": ("<|image_pad|>", "<|im_end|>"),
    "gemma3": ("<image_soft_token>", "<end_of_turn>"),
}


def write(name: str, folder: Path, published_tokens: bool = False) -> Any:
    """Every parameter is random, so that none can be forgotten unnoticed."""
    family = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(hf, f"{family.model}Config")(**json.loads(json.dumps(family.config)))
    model = getattr(hf, f"{family.model}ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    image, stop = TOKENS.get(name, ("<image>", "</s>")) if published_tokens else ("<image>", "</s>")
    for file in MINI.glob("tokenizer*"):
        text = file.read_text().replace('"<image>"', f'"{image}"').replace('"</s>"', f'"{stop}"')
        (folder / file.name).write_text(text)
    return model
