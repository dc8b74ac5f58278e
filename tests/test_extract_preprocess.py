from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from extract.preprocess import jpeg_thumb, to_square

SIZES = [(64, 64), (240, 320), (481, 333), (37, 51)]
RAW = {"do_rescale": False, "do_normalize": False}


def picture(height: int, width: int) -> np.ndarray:
    """Large shapes plus noise, so that both smooth areas and edges are compared."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(rng.random((height, width, 1)) < 0.3, noise, smooth)


def processed(processor: object, image: np.ndarray) -> np.ndarray:
    found = processor(image, return_tensors="np", input_data_format="channels_last")  # type: ignore[operator]
    return np.asarray(found["pixel_values"][0]).transpose(1, 2, 0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_crop_bicubic_equals_clips_processor(height: int, width: int) -> None:
    image = picture(height, width)
    facts = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, **RAW}
    ours = to_square(image[None], "crop-bicubic", 224)[0]
    np.testing.assert_array_equal(ours, processed(CLIPImageProcessorPil(**facts), image))
    # The torchvision backend rounds differently; preprocess.py's docstring states these bounds.
    other = processed(CLIPImageProcessor(**facts), image).astype(int)
    assert np.abs(ours - other).max() <= 2
    assert (ours != other).mean() < 0.01


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pad_bicubic_equals_llavas_processor(height: int, width: int) -> None:
    image = picture(height, width)
    facts = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}, **RAW}
    wanted = processed(LlavaImageProcessorPil(do_pad=True, **facts), image)
    np.testing.assert_array_equal(to_square(image[None], "pad-bicubic", 336)[0], wanted)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_squash_modes(height: int, width: int) -> None:
    frames = np.stack([picture(height, width), picture(height, width)[::-1]])
    pixels = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float()
    nearest = torch.nn.functional.interpolate(pixels, size=(224, 224), mode="nearest")
    wanted = nearest.permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(to_square(frames, "squash-nearest", 224), wanted)
    qwen = Image.fromarray(frames[0]).resize((224, 224), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(to_square(frames, "squash-bicubic", 224)[0], np.asarray(qwen))


def test_squash_nearest_at_every_length() -> None:
    for length in [*range(1, 500), 720, 1080, 1920, 3840]:
        line = torch.arange(length, dtype=torch.float32)[None, None, :, None]
        wanted = torch.nn.functional.interpolate(line, size=(336, 1), mode="nearest").flatten()
        high, low = np.divmod(np.arange(length), 256)
        frame = np.stack([high, low, low], axis=-1).astype(np.uint8)[None, :, None]
        rows = to_square(frame, "squash-nearest", 336)[0, :, 0].astype(int)
        np.testing.assert_array_equal(rows[:, 0] * 256 + rows[:, 1], wanted.numpy())


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(360, 640, (160, 90)), (40, 60, (60, 40))]
)
def test_thumbnails_are_small_and_never_enlarged(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    with Image.open(BytesIO(jpeg_thumb(picture(height, width)))) as image:
        assert (image.format, image.size) == ("JPEG", expected)
