from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.describe import describe, preprocessing
from features.errors import CheckpointError
from features.prompts import template_of

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (None, ("crop-bicubic", "clip")),
        (
            {"image_mean": CLIP_MEAN, "resample": 3, "do_center_crop": True},
            ("crop-bicubic", "clip"),
        ),
        (
            {"image_mean": CLIP_MEAN, "do_center_crop": True, "do_pad": True},
            ("pad-bicubic", "clip"),
        ),
        ({"image_mean": [0.5] * 3, "resample": 3}, ("squash-bicubic", "half")),
        (
            {"image_mean": [0.5] * 3, "resample": 2, "do_center_crop": False},
            ("squash-bilinear", "half"),
        ),
        ({"image_mean": [0.485, 0.456, 0.406], "resample": 1}, ("squash-lanczos", "imagenet")),
    ],
)
def test_preprocessing_as_the_file_has_it(tmp_path: Path, record, wanted) -> None:
    if record is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    found = preprocessing(tmp_path)
    assert (found["preprocessing"], found["normalisation"]) == wanted


def test_an_unknown_mean_is_refused(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3}))
    with pytest.raises(CheckpointError, match=r"image_mean 0\.1"):
        preprocessing(tmp_path)


def write(folder: Path, name: str, record: dict) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(record))


def test_facts_of_the_published_configs(tmp_path: Path) -> None:
    """The keys that matter of the published config.json files (the facts page names them)."""
    write(tmp_path / "clip", "config.json", {"vision_config": {"image_size": 336}})
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "mm_vision_tower": str(tmp_path / "clip"),
        "mm_vision_select_layer": -2,
        "image_aspect_ratio": "pad",
        "mm_use_im_start_end": False,
    }
    write(tmp_path / "llava-v1.5-7b", "config.json", config)
    base = describe(str(tmp_path / "llava-v1.5-7b"))
    assert (base.name, base.layer, base.image_size) == ("llava-v1.5-7b", -2, 336)
    assert (base.preprocessing, base.prompt, base.image_token) == (
        "pad-bicubic",
        "vicuna-v1",
        "<image>",
    )
    v1 = {**config, "image_aspect_ratio": "square", "mm_use_im_start_end": True}
    write(tmp_path / "llava-v1", "config.json", v1)
    base = describe(str(tmp_path / "llava-v1"))
    assert (base.preprocessing, base.image_token) == ("crop-bicubic", "<im_patch>")
    assert "<im_start><image><im_end>" in template_of(base.prompt)

    qwen = {"architectures": ["QWenLMHeadModel"], "visual": {"image_size": 448}}
    write(tmp_path / "qwen", "config.json", qwen)
    write(tmp_path / "qwen", "generation_config.json", {"chat_format": "raw"})
    base = describe(str(tmp_path / "qwen"))
    assert (base.layer, base.image_size, base.preprocessing) == (-1, 448, "squash-bicubic")
    assert (base.prompt, base.stop) == ("qwen-raw", ("<|endoftext|>",))
    write(tmp_path / "qwen", "generation_config.json", {"chat_format": "chatml"})
    base = describe(str(tmp_path / "qwen"))
    assert (base.prompt, base.stop) == ("qwen-chatml", ("<|im_end|>", "<|im_start|>"))
    write(tmp_path / "qwen", "config.json", {"architectures": ["QWenLMHeadModel"]})
    with pytest.raises(CheckpointError, match="QWenLMHeadModel"):  # the text model of that name
        describe(str(tmp_path / "qwen"))


def test_a_config_without_what_is_needed_names_the_entry(tmp_path: Path) -> None:
    write(tmp_path / "x", "config.json", {"architectures": ["LlavaForConditionalGeneration"]})
    with pytest.raises(CheckpointError, match="vision_feature_layer"):
        describe(str(tmp_path / "x"))
