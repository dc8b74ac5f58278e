"""From a decoded frame to the square image the tower was trained on.

Runs in the decoding child, on numpy and Pillow alone: torch would add two seconds and 200 MB to
every child. Pillow's bicubic is what CLIP, LLaVA and Qwen-VL were trained with; `transformers`
keeps it as `CLIPImageProcessorPil`, which these modes equal bit for bit. Its torchvision backend
rounds differently: at most 2 of 255 levels, on less than 1 % of the values. `squash-nearest` equals
torch's `interpolate(mode="nearest")`, the baseline's choice. (Tests hold all of this.)
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from features.spec import Normalisation, Preprocessing

NORMALISATIONS: dict[Normalisation, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and spread of pixels between 0 and 1."""
PAD_COLOUR = (122, 116, 104)
"""CLIP's mean colour, as LLaVA v1.5 pads with it."""
THUMB_SIDE = 160


def to_square(
    frames: UInt8[np.ndarray, "T H W 3"], mode: Preprocessing, size: int
) -> UInt8[np.ndarray, "T S S 3"]:
    """Square images of side `size` from RGB frames of any size.

    Args:
        frames: RGB.
        mode: `squash-*` ignores the aspect ratio, `crop-bicubic` resizes the shorter side and keeps
            the centre, `pad-bicubic` first pads to a square with CLIP's mean colour.
        size: S, in pixels.
    """
    if mode == "squash-nearest":
        rows, columns = (_nearest(length, size) for length in frames.shape[1:3])
        return np.ascontiguousarray(frames[:, rows][:, :, columns])
    return np.stack([_resized(Image.fromarray(frame), mode, size) for frame in frames])


def jpeg_thumb(frame: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A small JPEG of one frame, longest side at most 160 pixels, never enlarged."""
    image = Image.fromarray(frame)
    image.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR)
    target = BytesIO()
    image.save(target, "JPEG", quality=80)
    return target.getvalue()


def _nearest(length: int, size: int) -> np.ndarray:
    """Source index of each target pixel, computed in float32 as torch does."""
    scale = np.float32(length) / np.float32(size)
    return np.minimum((np.arange(size, dtype=np.float32) * scale).astype(np.int64), length - 1)


def _resized(image: Image.Image, mode: Preprocessing, size: int) -> UInt8[np.ndarray, "S S 3"]:
    width, height = image.size
    if mode == "pad-bicubic":
        side = max(width, height)
        square = Image.new("RGB", (side, side), PAD_COLOUR)
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        image, width, height = square, side, side
    if mode == "crop-bicubic":
        short = min(width, height)
        width, height = int(size * width / short), int(size * height / short)
    else:
        width, height = size, size
    kernel = Image.Resampling[mode.partition("-")[2].upper()]
    resized = image.resize((width, height), kernel)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))
