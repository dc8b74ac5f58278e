"""Trained projectors on disk: their tensors and the chain of what they came from.

A folder with projectors.safetensors (trainable tensors, a shared one once) and config.json (base,
feature spec, store content, switches, seed). Projectors mean nothing in front of another LLM or on
other features, so loading compares both and refuses.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from features.checkpoint_files import read_json
from features.durable import replace_file
from features.errors import CheckpointError
from features.spec import SCHEMA_VERSION, FeatureSpec, check_schema, require_same
from train.image_llm import ImageLLM
from train.projectors import ProjectorSwitches, VideoProjector
from train.video_llm import trainable

TENSORS, CONFIG = "projectors.safetensors", "config.json"


@dataclass(frozen=True)
class ProjectorConfig:
    """Where projectors come from."""

    base: str
    """The base's name."""
    base_digest: str
    """train.image_llm.base_digest: alignment module, the LLM's last norm and its configuration."""
    spec: FeatureSpec
    """The features they were trained on."""
    store_digest: str
    """Content digest of the store they were trained on."""
    switches: ProjectorSwitches
    """What was trained."""
    prompt: str
    """Template, or the name of one, behind which it was trained."""
    seed: int
    """Seed of fresh weights and of the order of questions."""
    steps: int
    """Optimizer steps; 0 is the untuned base."""

    def to_dict(self) -> dict[str, Any]:
        """As written to config.json."""
        return {"schema": SCHEMA_VERSION, **asdict(self), "spec": self.spec.to_dict()}

    @classmethod
    def from_dict(cls, record: dict[str, Any], where: object) -> ProjectorConfig:
        """Read `to_dict`'s form back.

        Raises:
            StoreError: another schema version, or a damaged spec.
            CheckpointError: fields are missing or unknown.
        """
        check_schema(record, where)
        try:
            return cls(
                spec=FeatureSpec.from_dict(record["spec"], where),
                switches=ProjectorSwitches(**record["switches"]),
                **{k: v for k, v in record.items() if k not in ("schema", "spec", "switches")},
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError("not a projector config", where=where, got=error) from error


def save_projectors(folder: Path, projector: VideoProjector, config: ProjectorConfig) -> None:
    """Write the two files; config.json comes last, so its presence means that both are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    tensors = {k: p.detach().cpu().contiguous() for k, p in trainable(projector).items()}
    save_file(tensors, folder / TENSORS)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    replace_file(folder / CONFIG, text.encode(), "projectors")


def read_projector_config(folder: Path) -> ProjectorConfig:
    """The config of saved projectors.

    Raises:
        CheckpointError: missing or damaged.
    """
    return ProjectorConfig.from_dict(read_json(folder / CONFIG), folder / CONFIG)


def check_projectors(
    config: ProjectorConfig, folder: Path, base: str, base_digest: str, spec: FeatureSpec
) -> None:
    """Refuse projectors that were trained in front of another base or on other features.

    Raises:
        FingerprintError: naming both sides.
    """
    require_same(
        "base",
        base_digest,
        config.base_digest,
        ours_is=f"base {base}",
        theirs_is=f"{folder} (base {config.base})",
    )
    require_same(
        "feature fingerprint",
        spec.fingerprint,
        config.spec.fingerprint,
        ours_is="features given",
        theirs_is=f"{folder}",
    )


def load_projectors(folder: Path, base: ImageLLM, spec: FeatureSpec) -> VideoProjector:
    """Projectors for `base` on features of `spec`, float32, on the CPU (VideoLLM.of moves them).

    Raises:
        FingerprintError: they were trained for another base or on other features.
        CheckpointError: a tensor is missing, superfluous or of another shape.
    """
    config = read_projector_config(folder)
    check_projectors(config, folder, base.name, base.digest, spec)
    projector = VideoProjector(base.aligner, base.hidden_size, config.switches, config.seed)
    parameters = trainable(projector)
    try:
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError("cannot read the file", where=folder / TENSORS, got=error) from error
    wrong = sorted(set(parameters) ^ set(tensors)) or [
        name for name, p in parameters.items() if p.shape != tensors[name].shape
    ]
    if wrong:
        raise CheckpointError("missing, superfluous or misshapen tensors", where=folder, got=wrong)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return projector
