"""Video-ChatGPT's extraction loop, written anew from what is known of it, to be measured against.

One video after the other in one process: full-resolution frames from decord, float32, nearest
resize, transformers' image processor, float32 ViT in batches of 32, one pickle a video.
"""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import CLIPVisionModel
from transformers.models.clip import CLIPImageProcessor

_BATCH = 32


@torch.inference_mode()
def extract_baseline(videos: Path, tower: Path, target: Path, num_frames: int) -> None:
    """One pickle a video: (num_frames + N, D), temporal rows first, zero where frames lack.

    Args:
        videos: folder of the clips.
        tower: folder of the CLIP vision model.
        target: folder for the pickles.
        num_frames: T.
    """
    target.mkdir(parents=True)
    model: Any = CLIPVisionModel.from_pretrained(tower)
    model.eval()
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_convert_rgb=False)
    for path in sorted(videos.iterdir()):
        frames = _read_frames(path, num_frames)
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        side = model.config.image_size
        images = torch.nn.functional.interpolate(images, size=(side, side))
        pixels = processor(list(images), return_tensors="pt")["pixel_values"]
        batches = [
            model(pixels[start : start + _BATCH], output_hidden_states=True).hidden_states[-2][
                :, 1:
            ]
            for start in range(0, len(pixels), _BATCH)
        ]
        features = _pool(torch.cat(batches), num_frames)
        with (target / f"{path.stem}.pkl").open("wb") as file:
            pickle.dump(features, file)


def _pool(tokens: Float[Tensor, "T N D"], num_frames: int) -> Float[np.ndarray, "S D"]:
    temporal = torch.zeros(num_frames, tokens.shape[2])
    temporal[: len(tokens)] = tokens.mean(1)
    return torch.cat([temporal, tokens.mean(0)]).numpy()


def _read_frames(path: Path, num_frames: int) -> UInt8[np.ndarray, "T H W 3"]:
    if path.suffix == ".gif":  # decord 0.6.0 refuses GIFs: a favour to the baseline
        with av.open(path) as container:
            every = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode()])
        return every[_midpoints(len(every), num_frames)]
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0))
    frames: np.ndarray = reader.get_batch(_midpoints(len(reader), num_frames)).asnumpy()
    return frames


def _midpoints(total: int, num_frames: int) -> list[int]:
    count = min(total, num_frames)
    segment = (total - 1) / count  # multiplied, not divided last: it decides ties
    edges = np.round(segment * np.arange(count + 1)).astype(int)
    return [int(low + high) // 2 for low, high in pairwise(edges)]
