"""`make gpu-check`: does a base compute the same on this accelerator, and how near to its floors.

Parity is against float32 on the CPU. A floor is what the device does at best, measured here by a
large matrix product and a large copy, times the least work there is: 2 FLOPs a parameter and token
forwards, 4 for training projectors in front of a frozen LLM, one reading of the LLM a new token.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from extract.tower import Tower, load_tower
from features.config import BaseConfig
from features.describe import load_base
from features.device import fastest_call, intra_op_threads, measured_rate, pick_device
from features.durable import replace_json
from features.errors import ConfigError
from features.spec import ComputeDtype
from train.batch import Batch, Item, collate
from train.decode import Decoder
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import Video

LIMITS: dict[ComputeDtype, float] = {"float16": 0.01, "bfloat16": 0.05}
"""Largest relative error (Frobenius norm) that still counts as the same."""


@dataclass(frozen=True)
class GpuCheckConfig:
    """What is checked and how long."""

    base: str = "mini"
    """Base: a recipe, a YAML file, or a checkpoint (folder, hub id)."""
    device: str = "auto"
    """auto (cuda or mps) or a torch device; `cpu` runs the same checks without an accelerator."""
    images: int = 16
    """Frames the tower sees at once."""
    questions: int = 4
    """Questions a training step and a decoding batch."""
    new_tokens: int = 16
    """Tokens decoded, behind the first one."""
    seconds: float = 1.0
    """Least time that each speed is measured for."""
    out: Path = Path("runs/gpu-check.json")
    """JSON of the figures."""

    def __post_init__(self) -> None:
        if min(self.images, self.questions, self.new_tokens) < 1:
            raise ConfigError("images, questions and new_tokens must be 1 or more", got=self)


def gpu_check(config: GpuCheckConfig, console: Console) -> bool:
    """Measure, print and write; returns whether everything is within the limits.

    Raises:
        ConfigError: no accelerator, and the CPU was not asked for by name.
    """
    device = pick_device(config.device)
    if device.type == "cpu" and config.device != "cpu":
        do = "run this where there is one, or say --device cpu"
        raise ConfigError("no accelerator here", wanted="cuda or mps", do=do)
    base = load_base(config.base)
    shape = config.images, base.image_size, base.image_size, 3
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tower, llm = load_tower(base, "float32", "cpu"), load_image_llm(base)
    items = _items(base, llm, tower.encode(images[:2]).clone(), config.questions)
    batch = collate(items, llm.pad_token_id)
    wanted = _outputs(tower, llm, images[:2], batch)
    record: dict[str, Any] = {"base": base.name, "device": str(device), "parity": {}, "speed": {}}
    for name, limit in LIMITS.items():
        del tower, llm  # before the next ones are loaded beside them
        tower = load_tower(base, name, str(device))
        llm = load_image_llm(base, device, getattr(torch, name))
        found = _outputs(tower, llm, images[:2], batch)
        record["parity"][name] = _compare(found, wanted, limit)
        with intra_op_threads(llm.llm):
            record["speed"][name] = _speed(config, tower, llm, images, items)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    replace_json(config.out, record, "gpu-check")
    console.print(*_tables(record), f"figures: {config.out}", sep="\n")
    return all(part["ok"] for parts in record["parity"].values() for part in parts.values())


def _items(base: BaseConfig, llm: ImageLLM, tokens: Tensor, questions: int) -> list[Item]:
    """One question again and again, about a clip of two frames; padded nowhere."""
    video = Video(tokens.mean(1).float(), tokens.mean(0).float())
    count = llm.aligner.num_tokens(len(video.temporal)) + llm.aligner.num_tokens(len(video.spatial))
    prompt = Prompter.of(base, llm).render("what happens", "a circle moves left", count)
    return [Item((f"q{i}",), prompt, video) for i in range(questions)]


@torch.inference_mode()
def _outputs(tower: Tower, llm: ImageLLM, images: Any, batch: Batch) -> dict[str, Tensor]:
    """What a base computes, in float32 on the CPU."""
    device, dtype = llm.llm.device, llm.llm.dtype
    seen = tower.encode(images)
    # The model's projectors stay float32; a copy of the aligner shows what the dtype would cost.
    aligner = deepcopy(llm.aligner).to(device, dtype)
    valid = torch.ones(seen.shape[:2], dtype=torch.bool, device=device)
    projector = VideoProjector(llm.aligner, llm.hidden_size, ProjectorSwitches())
    model = VideoLLM.of(projector, llm)
    logits = model.logits(model.hidden(batch.to(device)).last_hidden_state)[:1]
    found = {"tower": seen, "aligner": aligner(seen, valid)[0], "logits": logits}
    return {name: tensor.float().cpu() for name, tensor in found.items()}


def _compare(found: dict[str, Tensor], wanted: dict[str, Tensor], limit: float) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, reference in wanted.items():
        error = ((found[name] - reference).norm() / reference.norm()).item()
        # NaN, which float16 gives where it overflows, is not within any limit
        parts[name] = {"relative_error": error, "limit": limit, "ok": error <= limit}
    agree = found["logits"].argmax(-1) == wanted["logits"].argmax(-1)
    parts["logits"]["same_best_token"] = agree.float().mean().item()
    return parts


def _speed(
    config: GpuCheckConfig, tower: Tower, llm: ImageLLM, images: Any, items: Sequence[Item]
) -> dict[str, Any]:
    """Seconds of the tower, a training step and a decoded token, beside their floors."""
    device, dtype, least = llm.llm.device, llm.llm.dtype, config.seconds
    size, numbers = (512, 1 << 23) if device.type == "cpu" else (8192, 1 << 28)
    rate = measured_rate(device, dtype, size, least)
    x = torch.zeros(numbers, dtype=dtype, device=device)
    y = torch.empty_like(x)
    bandwidth = 2 * x.nbytes / fastest_call(lambda: y.copy_(x), device, least)
    del x, y
    language: Any = llm.llm  # transformers types `generate` for another self
    # A row of the embedding is looked up, not multiplied.
    weights = language.num_parameters() - language.get_input_embeddings().weight.numel()
    projector = VideoProjector(llm.aligner, llm.hidden_size, ProjectorSwitches())
    model = VideoLLM.of(projector, llm)
    here = collate(items, llm.pad_token_id).to(device)

    def step() -> None:
        loss: Any = model.loss(here)[0]
        loss.backward()
        model.zero_grad()

    def decode(count: int) -> None:
        Decoder(model, (), count)(items)  # nothing stops it

    eyes = 2 * tower.num_parameters * tower.num_patches * len(images) / rate
    encode, train = (fastest_call(f, device, least) for f in (lambda: tower.encode(images), step))
    whole = fastest_call(lambda: decode(1 + config.new_tokens), device, least)
    token = (whole - fastest_call(lambda: decode(1), device, least)) / config.new_tokens
    rows, tokens = len(here.input_ids), here.input_ids.numel()
    works: dict[str, tuple[Any, ...]] = {
        "tower": (encode, eyes, len(images), "frames"),
        "train": (train, 4 * weights * tokens / rate, rows, "questions"),
        "decode": (token, weights * dtype.itemsize / bandwidth, rows, "tokens"),
    }
    keys = "seconds", "floor_seconds", "count", "unit"
    speeds = {"matmul_flops": rate, "copy_bytes_a_second": bandwidth}
    return speeds | {name: dict(zip(keys, work, strict=True)) for name, work in works.items()}


def _tables(record: dict[str, Any]) -> tuple[Table, Table]:
    title = f"parity: {record['base']} on {record['device']}"
    parity = Table("dtype", "part", "relative error", "limit", "", title=title)
    speed = Table("dtype", "work", "a second", "ms", "floor ms", "of floor", title="speed")
    for dtype, parts in record["parity"].items():
        for name, p in parts.items():
            mark = "ok" if p["ok"] else "[red]too far[/]"
            parity.add_row(dtype, name, f"{p['relative_error']:.1e}", f"{p['limit']}", mark)
    for dtype, works in record["speed"].items():
        for name in ("tower", "train", "decode"):
            seconds, floor, count, unit = works[name].values()
            cells = f"{count / seconds:.1f} {unit}", f"{1e3 * seconds:.2f}", f"{1e3 * floor:.2f}"
            speed.add_row(dtype, name, *cells, f"{floor / seconds:.0%}")
    return parity, speed
