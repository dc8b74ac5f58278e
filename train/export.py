"""Trained projectors as a folder that can be shared by itself.

    projectors.safetensors   the trained tensors
    README.md                the model card
    config.json              where they come from, and the sha256 of the tensors; written last

The folder of a finished run has all of it under projectors/, so an export is a checked copy. What
Video-ChatGPT trains is a special case (one projector for both streams) and can be had in its form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors.torch import load, save
from torch import Tensor

from features.durable import disk_errors, replace_file
from features.errors import CheckpointError
from features.layouts import LAYOUTS
from train.card import CARD
from train.checkpoint import (
    CONFIG,
    METRICS,
    PROJECTORS,
    TENSORS,
    ProjectorConfig,
    check_tensors,
    read_projector_config,
)
from train.projectors import ProjectorSwitches

MM_PROJECTOR = "mm_projector.safetensors"


@dataclass(frozen=True)
class ExportOptions:
    """A trained run as a folder that can be shared by itself."""

    run: Path
    """Folder of the run (runs/<dataset>/<experiment>/seed-<n>)."""
    target: Path
    """Folder to make."""
    format: Literal["red-villm", "video-chatgpt"] = "red-villm"
    """What `pipelines.load` and `eval` read, or Video-ChatGPT's mm_projector (as safetensors)."""


def export(options: ExportOptions) -> Path:
    """Write the folder and return it; the same export again changes nothing.

    Raises:
        CheckpointError: the run is unfinished or damaged, something else is in the target's place,
            or the projectors are not of the form that was asked for.
        StoreError: the target cannot be written.
    """
    if not (options.run / METRICS).is_file():
        do = "let the training end: `make train` with the same config goes on"
        raise CheckpointError("not a finished run", where=options.run, wanted=METRICS, do=do)
    folder = options.run / PROJECTORS
    config = read_projector_config(folder)
    with disk_errors("cannot read the projectors", folder):
        files = {name: (folder / name).read_bytes() for name in (TENSORS, CARD, CONFIG)}
    check_tensors(files[TENSORS], config, folder)
    if options.format == "video-chatgpt":
        files = {MM_PROJECTOR: save(_mm_projector(config, load(files[TENSORS]), folder))}
    publish(options.target, files)
    return options.target


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of an export in this order; a folder without the last one is not whole.

    Raises:
        CheckpointError: the folder holds anything else; nothing of it is touched.
        StoreError: it cannot be written.
    """
    with disk_errors("cannot write there", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.name.startswith(".") and path.suffix == ".tmp":
                continue  # left by an export that was killed
            if path.name not in files or path.read_bytes() != files[path.name]:
                do = "give a new folder"
                raise CheckpointError("something else is in its place", where=path, do=do)
    for name, data in files.items():
        replace_file(folder / name, data, "export")


def _mm_projector(
    config: ProjectorConfig, tensors: Mapping[str, Tensor], where: Path
) -> dict[str, Tensor]:
    """The tensors under their names in the original LLaVA.

    Raises:
        CheckpointError: Video-ChatGPT has no such projectors.
    """
    wanted = ProjectorSwitches(temporal_module="shared")
    table = LAYOUTS["llava"].table.items()
    names = {f"alignment.{local}": name for name, (part, local) in table if part == "aligner"}
    found = {name: name.rpartition(".")[0] + "." for name in tensors}
    unknown = sorted(name for name, prefix in found.items() if prefix not in names)
    if config.switches != wanted or unknown:
        raise CheckpointError(
            "Video-ChatGPT has no such projectors",
            where=where,
            got=unknown or config.switches,
            wanted=f"{wanted}, in front of a linear layer or LLaVA-1.5's MLP",
        )
    return {names[p] + name.removeprefix(p): tensors[name] for name, p in found.items()}
