"""Recipes shared by the stages: what a base is, what a dataset is, where things lie.

A recipe is one YAML file in pipelines/recipes/{bases,datasets,experiments}. The dataclasses of
bases and datasets are here because both extract/ (the base's eyes) and train/ (its language) read
the same recipe and may not import one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from features.spec import Normalisation, Preprocessing

AnnotationFormat = Literal[
    "videoinstruct", "vcgbench", "consistency", "qa-pairs", "tgif", "msvd", "jsonl"
]

Aspect = Literal["qa", "correctness", "detail", "context", "temporal", "consistency"]
"""What an answer is judged for: right or wrong with a score, or a score for one of the five aspects
of Video-ChatGPT's generative benchmark."""


@dataclass(frozen=True)
class Budget:
    """How long and how fast to train; the defaults are the paper's (section 4.1)."""

    lr: float = 2e-5
    """Peak learning rate of AdamW."""
    epochs: int = 3
    """Passes over the training questions."""
    batch_size: int = 32
    """Questions an optimizer step, over all devices and micro-batches."""
    warmup: float = 0.03
    """Share of the steps that warm up linearly, before the cosine."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""


@dataclass(frozen=True)
class BaseConfig:
    """An Image LLM: its eyes (tower) and its language (alignment module, LLM, prompt)."""

    name: str
    """Short name, used in folder names."""
    checkpoint: str
    """Folder of the checkpoint (relative to the project) or a Hugging Face hub id."""
    layout: Literal[
        "auto",
        "llava-hf",
        "llava",
        "qwen-vl",
        "llava-next",
        "llava-onevision",
        "internvl",
        "idefics3",
        "qwen2-vl",
        "paligemma",
        "gemma3",
    ] = "auto"
    """How the checkpoint names its tensors; `auto`: as its config.json says."""
    delta_base: str | None = None
    """Folder or hub id of the LLaMA that a published delta is to be added to (layout llava)."""
    tower: str = "checkpoint"
    """`checkpoint` (the base's own, or the one it names), `clip:<folder or hub id>`,
    `open_clip:<name>:<tag>`, or `local-dir:<folder>`."""
    layer: int = -2
    """Hidden state taken from the tower, counted as in transformers."""
    image_size: int = 336
    """Side of the square image, in pixels."""
    preprocessing: Preprocessing = "crop-bicubic"
    """How a frame becomes a square image."""
    normalisation: Normalisation = "clip"
    """Whose mean and spread are taken out of the pixels."""
    regrouping: int = 1
    """Side of the square of patches that the tower side joins into one token (1: none)."""
    num_frames: int = 100
    """T: frames sampled a video unless the command says otherwise."""
    prompt: str = "USER: <image>\n{question} ASSISTANT:"
    """Prompt template, or the name of one (features/prompts.py: `paper` is the paper's equation 4);
    `<image>` marks the video tokens, `{question}` the instruction."""
    image_token: str = "<image>"
    """The tokenizer's placeholder; where it has none the text is tokenised on either side."""
    stop: tuple[str, ...] = ()
    """Tokens that end an answer, the first one also in training; the tokenizer's eos if empty."""
    budgets: dict[str, Budget] = field(default_factory=lambda: {"default": Budget()})
    """Training budgets by name; an experiment picks one (`default` unless it says otherwise)."""
    licence: str = "see the checkpoint's own model card"
    """Licence of the weights, for the model card of what is trained in front of them."""


@dataclass(frozen=True)
class SplitConfig:
    """Annotations of one split of a dataset."""

    format: AnnotationFormat
    """Form of the file."""
    questions: Path
    """The annotation file (for `qa-pairs` the one with the questions)."""
    answers: Path | None = None
    """`qa-pairs` only: the file with the answers, joined by question_id."""
    id_prefix: str = ""
    """Put before each video name to get the video's id (ActivityNet-QA drops `v_`)."""
    part: str = ""
    """`jsonl` only: take the rows whose `split` is this (rows without one are `train`)."""
    aspects: tuple[Aspect, ...] = ("qa",)
    """What the answers are judged for."""
    num_questions: int | None = None
    """Questions as published; only `make data` compares."""
    videos: int | None = None
    """Videos they are about, as published."""


@dataclass(frozen=True)
class DatasetConfig:
    """Videos and annotations."""

    name: str
    """Short name, used in folder names."""
    videos: Path
    """Folder with the video files; a video's id is its path below it without the suffix."""
    splits: dict[str, SplitConfig] = field(default_factory=dict)
    """Annotations by split name (train, val, test, ...)."""
    type_names: tuple[str, ...] = ()
    """Names of the question types that the files give as numbers, from 0."""
    licence: str = "see the dataset's own page"
    """Licence of videos and annotations, for model cards."""
    source: str = ""
    """Where videos and annotations are to be had, in words. Nothing is ever downloaded."""
    checksums: Path | None = None
    """sha256 of the video files, as `sha256sum` writes them, paths below `videos`."""
