"""`inspect`: what a base is, and whether its files are whole, without loading them.

Everything is built on the meta device by the very loaders that extraction and training use, so
every name and shape of the checkpoint is checked and hardly a byte of it is read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from extract.tower import build_encoder
from features.config import BaseConfig
from features.errors import CheckpointError
from features.prompts import template_of
from features.tower_files import has_tower_files, tower_files
from train.aligners import Resampler
from train.image_llm import NO_TOKEN, ImageLLM, load_image_llm, open_base
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import count_parameters, trainable

META = torch.device("meta")


def inspect_base(base: BaseConfig) -> Table:
    """A table of facts.

    Raises:
        CheckpointError: files, tensors or token ids are missing, superfluous or contradictory.
        ConfigError: the prompt lacks a part.
    """
    table = Table("fact", "value", title=f"base {base.name}", show_lines=False)
    for name, value in facts(base):
        table.add_row(name, escape(str(value)))
    return table


def facts(base: BaseConfig) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything that is to be said."""
    parts = open_base(base)
    llm = load_image_llm(base, META, torch.bfloat16)
    yield "checkpoint", parts.folder
    yield "layout", f"{parts.layout.name}, {len(parts.files):,} tensors, all names and shapes fit"
    num_patches = yield from _eyes(base, llm)
    yield "alignment module", f"{type(llm.aligner).__name__}, {_count(llm.aligner)} parameters"
    text = llm.llm.config
    yield "LLM", f"{type(llm.llm).__name__}, H = {llm.hidden_size}, {text.num_hidden_layers} layers"
    yield "LLM parameters", _count(llm.llm)
    yield from _language(base, llm)
    yield "licence of the weights", base.licence
    frames = base.num_frames
    if num_patches:
        size = (frames + num_patches) * llm.aligner.width * 2
        yield "a cached video", f"{size:,} bytes ({frames} + {num_patches} rows of float16)"
    for name, switches in _modes(llm):
        projector = VideoProjector(llm.aligner, llm.hidden_size, switches)
        tokens = projector.num_tokens(frames, num_patches) if num_patches else "?"
        trained = sum(p.numel() for p in trainable(projector).values())
        yield f"trained, {name}", f"{trained:,} parameters, {tokens} video tokens"


def _eyes(base: BaseConfig, llm: ImageLLM) -> Generator[tuple[str, Any], None, int]:
    """Facts of the tower; returns N, or 0 where only open_clip can tell.

    Raises:
        CheckpointError: the tower is another than the alignment module was trained on.
    """
    if not has_tower_files(base):
        yield "tower", f"{base.tower} (open_clip finds it when extraction begins)"
        return 0
    files = tower_files(base)
    encoder = build_encoder(files, base.layer, META, torch.float32)
    yield "tower", f"{files.kind}, {_count(encoder)} parameters up to layer {base.layer}"
    yield "tower files", files.parts.folder
    n, d = encoder.num_patches, encoder.width
    seen = f"{encoder.image_size} px, {base.preprocessing}, normalised as {base.normalisation}"
    yield "image", seen
    yield "N, D", f"{n}, {d}"
    if (encoder.image_size, d) != (base.image_size, llm.aligner.width):
        raise CheckpointError(
            "this tower is not the base's",
            where=files.parts.folder,
            got=f"{encoder.image_size} px, D = {d}",
            wanted=f"{base.image_size} px (recipe), D = {llm.aligner.width} (alignment module)",
        )
    return n


def _language(base: BaseConfig, llm: ImageLLM) -> Iterator[tuple[str, Any]]:
    image = "none: the text is tokenised on either side" if llm.image_token_id == NO_TOKEN else ""
    yield "image token", image or f"{base.image_token} = {llm.image_token_id}"
    yield "stop, pad ids", f"{list(llm.stop_ids)}, {llm.pad_token_id}"
    Prompter.of(base, llm)
    yield "prompt", repr(template_of(base.prompt))


def _modes(llm: ImageLLM) -> Iterator[tuple[str, ProjectorSwitches]]:
    yield "copy (RED-VILLM)", ProjectorSwitches()
    yield "shared (Video-ChatGPT)", ProjectorSwitches(temporal_module="shared")
    yield "copy + MLP", ProjectorSwitches(extra_mlp="alignment")
    yield "spatial features only", ProjectorSwitches("spatial_features")
    yield "temporal features only", ProjectorSwitches("temporal_features")
    if isinstance(llm.aligner, Resampler):
        yield "copy, resampler-grid", ProjectorSwitches(resampler="resampler-grid")
        yield "copy, tokenwise", ProjectorSwitches(resampler="tokenwise")


def _count(module: torch.nn.Module) -> str:
    counts = count_parameters(module)
    return f"{counts['trained'] + counts['frozen']:,}"
