"""Trained projectors on disk: their tensors and the chain of what they came from.

A folder with projectors.safetensors (their tensors, a shared one once) and config.json (the
base's recipe, feature spec, digests, switches, seed): whoever has it needs nothing of the run that
made it. Projectors mean nothing in front of another LLM or on other features, so loading compares
both and refuses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from features.checkpoint_files import read_json
from features.config import BaseConfig
from features.durable import replace_file
from features.errors import CheckpointError
from features.spec import SCHEMA_VERSION, FeatureSpec, check_schema, require_same
from train.image_llm import ImageLLM
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter

RECORD, METRICS, PROJECTORS = "config.yaml", "metrics.json", "projectors"
"""In a run's folder: what decides the result, what came out (written last), what was trained."""
TENSORS, CONFIG = "projectors.safetensors", "config.json"


@dataclass(frozen=True)
class ProjectorConfig:
    """Where projectors come from. Of imported ones, what nobody knows is `imported`."""

    base: BaseConfig
    """The recipe of the base, by which it can be loaded again; training budgets are not kept."""
    base_digest: str
    """train.image_llm.base_digest: alignment module, the LLM's last norm and its configuration."""
    spec: FeatureSpec
    """The features they were trained on."""
    store_digest: str
    """Content digest of the store they were trained on."""
    dataset: str
    """Name of the dataset they were trained on."""
    questions: str
    """features.annotations.annotations_digest of the training questions."""
    switches: ProjectorSwitches
    """What was trained."""
    seed: int
    """Seed of fresh weights and of the order of questions."""
    steps: int | None
    """Optimizer steps; 0 is the untuned base, None is unknown (imported)."""
    video_order: Literal["first", "alternating"] = "first"
    """Where the video was in training; after `alternating` it is behind the question when asked, as
    Video-ChatGPT asks."""
    sha256: str = ""
    """Of the file projectors.safetensors; filled in when it is written."""

    def prompter(self, base: BaseConfig, llm: ImageLLM) -> Prompter:
        """How to ask what was trained so."""
        return Prompter.of(base, llm, video_last=self.video_order == "alternating")

    def to_dict(self) -> dict[str, Any]:
        """As written to config.json."""
        record = {"schema": SCHEMA_VERSION, **asdict(self), "spec": self.spec.to_dict()}
        del record["base"]["budgets"]
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any], where: object) -> ProjectorConfig:
        """Read `to_dict`'s form back.

        Raises:
            StoreError: another schema version, or a damaged spec.
            CheckpointError: fields are missing or unknown.
        """
        check_schema(record, where)
        given = {k: v for k, v in record.items() if k != "schema"}
        if wrong := sorted({field.name for field in fields(cls)} ^ set(given)):
            do = "train (or import) again, or use the release that wrote it"
            what = "unknown or missing fields in a projector config"
            raise CheckpointError(what, where=where, got=wrong, do=do)
        try:
            base = given["base"]
            given["base"] = BaseConfig(**base | {"stop": tuple(base["stop"])})
            given["switches"] = ProjectorSwitches(**given["switches"])
            given["spec"] = FeatureSpec.from_dict(given["spec"], where)
            return cls(**given)
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError("not a projector config", where=where, got=error) from error


def projector_files(tensors: Mapping[str, Tensor], config: ProjectorConfig) -> dict[str, bytes]:
    """The two files by name, config.json last: it names the other's sha256."""
    data = save({k: t.detach().cpu().contiguous() for k, t in tensors.items()})
    config = replace(config, sha256=hashlib.sha256(data).hexdigest())
    return {TENSORS: data, CONFIG: (json.dumps(config.to_dict(), indent=2) + "\n").encode()}


def save_projectors(folder: Path, projector: VideoProjector, config: ProjectorConfig) -> None:
    """Write the two files; config.json comes last, so its presence means that both are whole."""
    (folder / CONFIG).unlink(missing_ok=True)
    for name, data in projector_files(dict(projector.named_parameters()), config).items():
        replace_file(folder / name, data, "projectors")


def find_projectors(path: Path) -> Path:
    """The folder with the two files: `projectors/` of a run, or `path` itself.

    Raises:
        CheckpointError: neither has them.
    """
    for folder in (path / PROJECTORS, path):
        if (folder / CONFIG).is_file():
            return folder
    wanted = "the folder of a run, its projectors/, or an exported or imported folder"
    raise CheckpointError("no projectors there", where=path, wanted=wanted)


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
        theirs_is=f"{folder} (base {config.base.name})",
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
        CheckpointError: a tensor is missing, superfluous or of another shape, or the file is not
            the one that config.json is about.
    """
    config = read_projector_config(folder)
    check_projectors(config, folder, base.name, base.digest, spec)
    projector = VideoProjector(base.aligner, base.hidden_size, config.switches, config.seed)
    parameters = dict(projector.named_parameters())
    try:
        data = (folder / TENSORS).read_bytes()
        tensors = load(data)
    except (OSError, SafetensorError) as error:
        raise CheckpointError("cannot read the file", where=folder / TENSORS, got=error) from error
    wrong = sorted(set(parameters) ^ set(tensors)) or [
        name for name, p in parameters.items() if p.shape != tensors[name].shape
    ]
    if wrong:
        raise CheckpointError("missing, superfluous or misshapen tensors", where=folder, got=wrong)
    check_tensors(data, config, folder)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return projector


def check_tensors(data: bytes, config: ProjectorConfig, folder: Path) -> None:
    """Refuse a file of tensors that changed since config.json was written.

    Raises:
        CheckpointError: naming both digests.
    """
    if (found := hashlib.sha256(data).hexdigest()) != config.sha256:
        got, wanted = f"sha256 {found[:16]}", f"{config.sha256[:16]}, as {CONFIG} says"
        do = "copy the folder again"
        raise CheckpointError("another file", where=folder / TENSORS, got=got, wanted=wanted, do=do)
