"""Video-ChatGPT's checkpoints as projectors of ours.

It trains LLaVA's mm_projector in front of features pooled as ours are, with one projector for both
streams: `temporal_module: shared`. Its file holds that projector, and the embeddings of tokens that
it puts around the video, which our prompts do not have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from features.checkpoint_files import CheckpointFiles
from features.config import BaseConfig
from features.durable import file_sha256
from features.errors import CheckpointError, few
from features.layouts import LAYOUTS
from features.places import place
from features.spec import IMPORTED, FeatureSpec
from features.store import read_spec
from features.tower_files import make_spec, tower_digest
from train.card import CARD, model_card
from train.checkpoint import CONFIG, TENSORS, ProjectorConfig, projector_files
from train.export import publish
from train.image_llm import base_digest, open_base
from train.projectors import ProjectorSwitches
from train.sources import check_store

NUM_FRAMES = 100
"""T of Video-ChatGPT."""
_WRAPPERS = re.compile(r"^((module|base_model|model)\.)*")
_UNUSED = {
    "embed_tokens.weight": "embeddings of <vid_patch>, <vid_start>, <vid_end>; the prompt has none"
}


@dataclass(frozen=True)
class ImportOptions:
    """Video-ChatGPT's mm_projector checkpoint as projectors for `pipelines.load` and `eval`."""

    file: Path
    """The checkpoint: a torch file (.bin) or safetensors."""
    target: Path
    """Folder to make."""
    base: str
    """Base that it was trained in front of (Video-ChatGPT's: llava-lightning-7b)."""
    store: str | None = None
    """Store with whose features it is to be used; unless given, what `extract` makes with the eyes
    of the base, T = 100 and no further option."""


def import_projector(options: ImportOptions, base: BaseConfig) -> dict[str, str]:
    """Write the folder; returns the tensors that were not used, with the reason.

    Raises:
        CheckpointError: the file is damaged, holds an unknown tensor or does not fit the base, or
            something else is in the target's place.
        FingerprintError: the store was not made by the eyes of the base.
        StoreError: no such store, or the target cannot be written.
    """
    if not options.file.is_file():
        raise CheckpointError("no such file", where=options.file)
    file = CheckpointFiles(options.file)
    names, unused = _sort(file, options.file)
    _check_shapes(file, names, base, options.file)
    spec = _spec_of(options.store, base)
    config = ProjectorConfig(
        base=base,
        base_digest=base_digest(base),
        spec=spec,
        store_digest=IMPORTED,
        dataset=IMPORTED,
        questions=IMPORTED,
        switches=ProjectorSwitches(temporal_module="shared"),
        seed=0,
        video_order="alternating",
        steps=None,
    )
    tensors = {f"alignment.{local}": file[name].float() for local, name in names.items()}
    files = projector_files(tensors, config)
    origin = f"Imported from `{options.file.name}`, sha256 `{file_sha256(options.file)}`."
    card = model_card("Video-ChatGPT", "unknown", config, origin).encode()
    publish(options.target, {TENSORS: files[TENSORS], CARD: card, CONFIG: files[CONFIG]})
    return unused


def _spec_of(store: str | None, base: BaseConfig) -> FeatureSpec:
    if store is None:
        return make_spec(base, tower_digest(base), NUM_FRAMES)
    spec = read_spec(place(store))
    check_store(base, spec, place(store))
    return spec


def _sort(file: CheckpointFiles, where: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(name within the alignment module -> name in the file, name in the file -> why unused).

    Raises:
        CheckpointError: a tensor that is neither, or one that is there twice.
    """
    names: dict[str, str] = {}
    unused, unknown = {}, []
    for name in file:
        bare = _WRAPPERS.sub("", name)
        part, local = LAYOUTS["llava"].locate(f"model.{bare}") or ("", "")
        if bare in _UNUSED:
            unused[name] = _UNUSED[bare]
        elif part != "aligner" or local in names:
            unknown.append(name)
        else:
            names[local] = name
    if unknown or not names:
        raise CheckpointError(
            "not a checkpoint of Video-ChatGPT's projector",
            where=where,
            got=few(sorted(unknown)) or "no mm_projector",
            wanted="mm_projector.weight and .bias, or mm_projector.0 and .2, and embed_tokens",
        )
    return names, unused


def _check_shapes(
    file: CheckpointFiles, names: dict[str, str], base: BaseConfig, where: Path
) -> None:
    parts = open_base(base)
    wanted = {local: parts.files.shape(name) for local, name in parts.names("aligner").items()}
    got = {local: file.shape(name) for local, name in names.items()}
    if got != wanted:
        differ = {local for local in {*got, *wanted} if got.get(local) != wanted.get(local)}
        raise CheckpointError(
            f"the projector does not fit the alignment module of {base.name}",
            where=where,
            got={local: got.get(local, "missing") for local in sorted(differ)},
            wanted={local: wanted.get(local, "nothing") for local in sorted(differ)},
            do="name the base it was trained in front of",
        )
