"""`make mini`: trains a tiny LLaVA from scratch, on the CPU, in minutes.

Five stages in one straight line: the ViT from dense labels, the LM from text, the alignment in
closed form, LM and alignment jointly on text and images, and the gates that say whether a
transition to video means anything on this base. No stage ever sees a video.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.mini.align import align
from pipelines.mini.card import make_card, print_gates
from pipelines.mini.gates import measure
from pipelines.mini.joint import train_joint
from pipelines.mini.language import Reader, train_language
from pipelines.mini.optim import Fit
from pipelines.mini.save import make_model, make_tokenizer, save_base
from pipelines.mini.vit import train_vit
from pipelines.worlds import WORLDS, WorldName


@dataclass(frozen=True)
class MiniConfig:
    """What `make mini` trains, and where it writes it."""

    out: Path = Path("assets/mini")
    """Folder of the finished base, in the layout of llava-hf/llava-1.5-7b-hf."""
    seed: int = 0
    """One seed for everything: another one gives an independently pretrained ViT and LM."""
    vit_steps: int = 700
    """Stage 1, the ViT on dense patch labels, 48 images a step."""
    language_steps: int = 1500
    """Stage 2, the LM on stories and scene lists, 16 texts a step."""
    align_scenes: int = 1500
    """Stage 3, images behind the alignment's ridge regression."""
    joint_steps: int = 1200
    """Stage 4, the LM on text, images and both, 16 of them a step."""
    gate_videos: int = 300
    """Stage 5, fresh videos and stills behind the held-out accuracies."""
    threads: int = 1
    """Torch threads: more of them change the last bits, and thereby the base."""
    world: WorldName = "demo"
    """What it is trained on: the demo's world, the same in English and Chinese (`bilingual`), or
    the harder one of captions and paraphrases."""


def make_mini(config: MiniConfig) -> dict[str, float]:
    """Trains a base, prints its gates, writes it and returns the gates in percent."""
    started = time.monotonic()
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        torch.manual_seed(config.seed)
        reader, tokenizer = _train(config)
        gates = _measure(reader, config)
    finally:
        torch.set_num_threads(threads)
    minutes = (time.monotonic() - started) / 60
    card = make_card(gates, WORLDS[config.world], config.seed, minutes)
    save_base(reader.model, tokenizer, card, config.out)
    print_gates(gates)
    return gates


def _train(config: MiniConfig) -> tuple[Reader, Any]:
    """Runs the stages; each draws from a generator of its own."""
    of = WORLDS[config.world]
    tokenizer = make_tokenizer(of)
    reader = Reader(make_model(tokenizer, of), tokenizer, of)
    rngs = [np.random.default_rng([config.seed, stage]) for stage in range(1, 5)]
    train_vit(reader.model, Fit(config.vit_steps, batch=48), rngs[0], of)
    train_language(reader, Fit(config.language_steps, batch=16), rngs[1])
    align(reader, config.align_scenes, rngs[2])
    train_joint(reader, Fit(config.joint_steps, batch=16), rngs[3])
    return reader, tokenizer


def _measure(reader: Reader, config: MiniConfig) -> dict[str, float]:
    """Returns the gates, of several languages one after the other on the same videos."""
    gates: dict[str, float] = {}
    for name, tongue in reader.world.tongues or (("", reader.world),):
        asked = Reader(reader.model, reader.tokenizer, tongue)
        found = measure(asked, np.random.default_rng([config.seed, 5]), config.gate_videos)
        gates |= {f"{what}, {name}" if name else what: value for what, value in found.items()}
    return gates
