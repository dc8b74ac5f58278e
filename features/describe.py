"""A base from nothing but its checkpoint: what config.json and its neighbours say.

`BASE=` takes a recipe's name, a YAML file, or a folder or hub id; the last two come here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from pathlib import Path
from typing import Any

from features.checkpoint_files import read_json, resolve_checkpoint
from features.config import BaseConfig
from features.errors import CheckpointError
from features.layouts import detect_layout
from features.recipes import load_recipe
from features.tower_files import clip_config

_MEANS = {0.48145466: "clip", 0.5: "half", 0.485: "imagenet"}
"""First channel of image_mean -> name of the normalisation."""
_KERNELS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as preprocessor_config.json has them."""


def load_base(name: str) -> BaseConfig:
    """A base by the name of its recipe, a YAML file, or its checkpoint's folder or hub id.

    Raises:
        ConfigError: no such recipe.
        CheckpointError: no such checkpoint, or one that we cannot take apart.
    """
    return describe(name) if is_checkpoint(name) else load_recipe("bases", name, BaseConfig)


def is_checkpoint(name: str) -> bool:
    """Whether a base is named by its checkpoint (folder or hub id), not by a recipe."""
    is_folder = (Path(name) / "config.json").is_file()
    return is_folder or ("/" in name and not name.endswith((".yaml", ".yml")))


def describe(checkpoint: str) -> BaseConfig:
    """The base that a checkpoint is.

    Raises:
        CheckpointError: no such checkpoint, one that we cannot take apart, or one whose config
            lacks what we need.
    """
    folder = resolve_checkpoint(checkpoint)
    layout = detect_layout(folder).name
    config = read_json(folder / "config.json")
    try:
        facts = _DESCRIBE[layout](config, folder)
    except KeyError as error:
        where = folder / "config.json"
        raise CheckpointError("no such entry", where=where, got=f"no {error}") from error
    return BaseConfig(name=Path(checkpoint).name.lower(), checkpoint=checkpoint, **facts)


def _llava_hf(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "layer": config["vision_feature_layer"],
        "image_size": config["vision_config"]["image_size"],
        "prompt": "llava-1.5",
        **preprocessing(folder),
    }


def _llava(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The original: its eyes are a CLIP elsewhere, whose config tells the image size."""
    tower = clip_config(resolve_checkpoint(config["mm_vision_tower"]))
    marked = bool(config.get("mm_use_im_start_end"))
    padded = config.get("image_aspect_ratio") == "pad"
    return {
        "layer": config["mm_vision_select_layer"],
        "image_size": tower["image_size"],
        "preprocessing": "pad-bicubic" if padded else "crop-bicubic",
        "prompt": "vicuna-v1-start-end" if marked else "vicuna-v1",
        "image_token": "<im_patch>" if marked else "<image>",
    }


def _qwen_vl(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    generation = folder / "generation_config.json"
    form = read_json(generation).get("chat_format") if generation.is_file() else None
    chat = form == "chatml"
    return {
        "layer": -1,
        "image_size": config["visual"]["image_size"],
        "preprocessing": "squash-bicubic",
        "prompt": "qwen-chatml" if chat else "qwen-raw",
        "image_token": "<imgpad>",
        "stop": ("<|im_end|>", "<|im_start|>") if chat else ("<|endoftext|>",),
    }


def _squashed(
    config: dict[str, Any],
    folder: Path,
    prompt: str,
    normalisation: str = "half",
    kernel: str = "bicubic",
    **facts: Any,
) -> dict[str, Any]:
    """A family that squashes its base tile to the tower's size; its own files win over defaults."""
    size = config.get("vision_config", {}).get("image_size", 224)
    facts = {"layer": -1, "image_size": size if isinstance(size, int) else size[0], **facts}
    if (folder / "preprocessor_config.json").is_file():
        found = preprocessing(folder)
        normalisation, kernel = found["normalisation"], found["preprocessing"].split("-")[1]
    mode = f"squash-{kernel}"
    return facts | {"preprocessing": mode, "normalisation": normalisation, "prompt": prompt}


def _llava_next(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    mistral = config.get("text_config", {}).get("model_type") == "mistral"
    layer = config.get("vision_feature_layer", -2)
    prompt = "mistral" if mistral else "vicuna-v1"
    return _squashed(config, folder, prompt, "clip", layer=layer)


def _llava_onevision(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    layer = config.get("vision_feature_layer", -1)
    return _squashed(config, folder, "llava-onevision", layer=layer, stop=("<|im_end|>",))


def _internvl(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return _squashed(
        config,
        folder,
        "internvl",
        "imagenet",
        layer=config.get("vision_feature_layer", -1),
        regrouping=round(1 / config.get("downsample_ratio", 0.5)),
        image_token="<IMG_CONTEXT>",
        stop=("<|im_end|>",),
    )


def _idefics3(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    prompt = "smolvlm" if config.get("model_type") == "smolvlm" else "idefics3"
    facts = {"regrouping": config["scale_factor"], "stop": ("<end_of_utterance>",)}
    return _squashed(config, folder, prompt, kernel="lanczos", **facts)


def _qwen2_vl(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """It takes any size; 16 x 16 tokens an image are as many as Qwen-VL's resampler gives."""
    vision = config["vision_config"]
    side = vision.get("spatial_merge_size", 2)
    return _squashed(
        config,
        folder,
        "qwen2-vl",
        "clip",
        image_size=16 * side * vision.get("patch_size", 14),
        regrouping=side,
        image_token="<|image_pad|>",
        stop=("<|im_end|>",),
    )


def _paligemma(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return _squashed(config, folder, "paligemma")


def _gemma3(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    vision = config["vision_config"]
    grid = vision["image_size"] // vision["patch_size"]
    return _squashed(
        config,
        folder,
        "gemma3",
        kernel="bilinear",
        regrouping=grid // isqrt(config.get("mm_tokens_per_image", 256)),
        image_token="<image_soft_token>",
        stop=("<end_of_turn>",),
    )


_DESCRIBE: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    "llava-hf": _llava_hf,
    "llava": _llava,
    "qwen-vl": _qwen_vl,
    "llava-next": _llava_next,
    "llava-onevision": _llava_onevision,
    "internvl": _internvl,
    "idefics3": _idefics3,
    "qwen2-vl": _qwen2_vl,
    "paligemma": _paligemma,
    "gemma3": _gemma3,
}


def preprocessing(folder: Path) -> dict[str, Any]:
    """Preprocessing and normalisation, as preprocessor_config.json has them.

    Raises:
        CheckpointError: an unknown mean or resampling filter.
    """
    path = folder / "preprocessor_config.json"
    record = read_json(path) if path.is_file() else {}
    mean = record.get("image_mean", [0.48145466])[0]
    kernel = record.get("resample", 3)
    if mean not in _MEANS or kernel not in _KERNELS:
        raise CheckpointError(
            "unknown preprocessing",
            where=path,
            got=f"image_mean {mean}, resample {kernel}",
            wanted=f"image_mean in {sorted(_MEANS)}, resample in {sorted(_KERNELS)}",
            do="write a base recipe that names its `preprocessing` and `normalisation`",
        )
    # A file that says nothing is LLaVA's first release, which crops.
    mode = "pad" if record.get("do_pad") else "crop"
    if record.get("do_center_crop", not record) is False and mode != "pad":
        mode = "squash"
    return {"preprocessing": f"{mode}-{_KERNELS[kernel]}", "normalisation": _MEANS[mean]}
