"""One training run: from a recipe, a base and a store to a run folder.

The folder `<runs>/<dataset>/<experiment>/seed-<n>/` holds config.yaml (everything that decides the
result), logs, projectors/ and, written last, metrics.json: a folder that has it is a finished run.
The same recipe on the same store is then not trained again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from features.annotations import QASample, annotations_digest, load_annotations
from features.config import BaseConfig, Budget, DatasetConfig
from features.device import intra_op_threads, pick_device, pick_dtype
from features.durable import replace_file
from features.errors import ConfigError, FingerprintError, StoreError
from features.places import StorePath
from features.spec import IMPORTED, SCHEMA_VERSION, FeatureSpec
from features.store import FeatureStore
from features.tower_files import base_eyes
from train.card import model_card
from train.checkpoint import ProjectorConfig, save_projectors
from train.data import QuestionDataset, StepSampler, VideoReader, make_loader
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.module import ProjectorTraining
from train.options import NO_INFLUENCE, TrainConfig, pick_budget
from train.projectors import VideoProjector
from train.prompt import Prompter
from train.trainer import check_losses, loss_summary, make_trainer, quiet_lightning
from train.video_llm import VideoLLM, check_trainable, count_parameters

CONFIG, METRICS, PROJECTORS = "config.yaml", "metrics.json", "projectors"


@dataclass(frozen=True)
class _Job:
    """What a run is made of, with every `auto` decided."""

    config: TrainConfig
    budget: Budget
    base: BaseConfig
    dataset: DatasetConfig
    samples: Sequence[QASample]
    features: FeatureStore
    device: torch.device
    dtype: torch.dtype
    console: Console

    def record(self) -> dict[str, Any]:
        """Everything that decides the result, as plain YAML values."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in NO_INFLUENCE}
        base = {k: v for k, v in asdict(self.base).items() if k not in ("budgets", "licence")}
        base["stop"] = list(self.base.stop)  # as YAML gives it back
        digest = base_digest(self.base)
        return {
            "schema": SCHEMA_VERSION,
            "train": settings | asdict(self.budget),
            "device": {"type": self.device.type, "llm_dtype": str(self.dtype)},
            "base": base | {"digest": digest},
            "dataset": {"name": self.dataset.name, "questions": annotations_digest(self.samples)},
            "store": {
                "fingerprint": self.features.spec.fingerprint,
                "content": self.features.content_digest,
            },
        }


def run_folder(config: TrainConfig, dataset: str) -> Path:
    """Where a run of this experiment on this dataset goes."""
    return config.runs / dataset / config.experiment / f"seed-{config.seed}"


def train(config: TrainConfig, base: BaseConfig, dataset: DatasetConfig, store: StorePath) -> Path:
    """Train projectors and return the run folder; a finished run of the same recipe is reused.

    Args:
        config: the experiment.
        base: the Image LLM.
        dataset: its `train` split is used.
        store: where the extracted features are.

    Raises:
        RedVillmError: anything a user can put right.
    """
    budget, console = pick_budget(config, base), Console(soft_wrap=True)
    device = pick_device(config.device)
    dtype = pick_dtype(config.llm_dtype, device, accelerated=torch.bfloat16)
    features, samples = FeatureStore.open(store), _training_samples(dataset)
    check_store(base, features.spec, store)
    if features.spec.tower.startswith(IMPORTED):
        console.print(f"{store}: imported; that the eyes of {base.name} made it is taken on trust")
    job = _Job(config, budget, base, dataset, samples, features, device, dtype, console)
    run, record = run_folder(config, dataset.name), job.record()
    if config.resume and _finished_record(run) == record:
        console.print(f"{run}: finished before with the same config and store; reused")
        return run
    _set_aside(run, record, console)
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    metrics = _fit(job, run)
    text = json.dumps(metrics, indent=2) + "\n"
    replace_file(run / METRICS, text.encode(), "metrics")
    return run


def _fit(job: _Job, run: Path) -> dict[str, Any]:
    """Train, save the projectors, and say in numbers what happened."""
    started = time.perf_counter()
    config, spec = job.config, job.features.spec
    base = load_image_llm(job.base, job.device, job.dtype)
    projector = VideoProjector(base.aligner, base.hidden_size, config.switches, config.seed)
    model = VideoLLM.of(projector, base)
    dataset = _make_dataset(job, base, projector)
    sampler = StepSampler(
        len(dataset), job.budget.batch_size, job.budget.epochs, config.seed, config.max_steps
    )
    _say_questions(job, dataset, sampler)
    job.console.print(check_trainable(model))
    module = ProjectorTraining(model, job.budget, len(sampler), config.clip_norm)
    if len(sampler):
        limits = (config.micro_batch, config.micro_tokens, config.num_workers)
        loader = make_loader(dataset, sampler, base.pad_token_id, *limits)
        with quiet_lightning(), intra_op_threads(model, config.num_threads):
            make_trainer(run, job.device, len(sampler), job.console).fit(module, loader)
    losses = check_losses(module, len(sampler))
    facts = ProjectorConfig(
        base=base.name,
        base_digest=base.digest,
        spec=spec,
        store_digest=job.features.content_digest,
        switches=config.switches,
        prompt=job.base.prompt,
        seed=config.seed,
        steps=len(sampler),
    )
    save_projectors(run / PROJECTORS, projector, facts)
    card = model_card(config.experiment, job.base, job.dataset, facts)
    (run / PROJECTORS / "README.md").write_text(card, encoding="utf-8")
    return {
        "schema": SCHEMA_VERSION,
        "seconds": round(time.perf_counter() - started, 2),
        "steps": len(sampler),
        "loss": loss_summary(losses),
        "questions": dataset.counts() | {"dropped": sampler.dropped},
        "parameters": count_parameters(model),
        "digests": {
            "base": base.digest,
            "fingerprint": spec.fingerprint,
            "store": job.features.content_digest,
        },
    }


def _make_dataset(job: _Job, base: ImageLLM, projector: VideoProjector) -> QuestionDataset:
    """The questions with their features.

    Raises:
        StoreError: the features are not as wide as the base's eyes see.
    """
    config = job.config
    videos = VideoReader(job.features, config.switches.spatial_window, config.cache_bytes)
    for video_id in job.features.ids[:1]:
        width = videos[video_id].spatial.shape[1]
        if width != base.aligner.width:
            raise StoreError(
                "features of another width than the base's vision tower gives",
                where=job.features.path,
                got=width,
                wanted=base.aligner.width,
                do="extract with this base",
            )
    return QuestionDataset(
        job.samples,
        videos,
        Prompter.of(job.base, base),
        projector.num_tokens,
        job.features.spec.num_frames,
        config.max_length,
    )


def check_store(base: BaseConfig, spec: FeatureSpec, store: StorePath) -> None:
    """Refuse features that were not made by the base's eyes.

    Of imported ones only that is asked which whoever imported them said of these eyes.

    Raises:
        FingerprintError: naming the first setting that differs.
    """
    imported = spec.tower.startswith(IMPORTED)
    for name, ours in base_eyes(base).items():
        theirs = getattr(spec, name)
        unknown = imported and (name in ("tower", "preprocessing") or theirs == IMPORTED)
        if ours != theirs and not unknown:
            raise FingerprintError(
                f"these features were made for another base: {name} differs",
                where=store,
                got=f"store: {theirs}",
                wanted=f"base {base.name}: {ours}",
                do="extract with this base, or train with the base of the store",
            )


def _training_samples(dataset: DatasetConfig) -> list[QASample]:
    if "train" not in dataset.splits:
        raise ConfigError(
            "the dataset has no training questions",
            where=f"dataset {dataset.name}",
            got=f"splits {sorted(dataset.splits)}",
            wanted="a split named train",
        )
    return load_annotations(dataset.splits["train"])


def _finished_record(run: Path) -> dict[str, Any] | None:
    """The record of the run in that folder, or None when none has finished there."""
    if not (run / METRICS).is_file():
        return None
    return dict(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")))


def _set_aside(run: Path, record: dict[str, Any], console: Console) -> None:
    """Move a finished run out of the way; what was never finished is thrown away."""
    old = _finished_record(run)
    if old is None:
        for leftover in ("logs", "tensorboard", PROJECTORS):
            shutil.rmtree(run / leftover, ignore_errors=True)
        return
    changed = [key for key in record if old.get(key) != record[key]]
    why = f"{', '.join(changed)} changed" if changed else "resume is off"
    folder = run.parent / "replaced"
    folder.mkdir(exist_ok=True)
    target = folder / f"{run.name}-{len(list(folder.iterdir()))}"
    run.rename(target)
    console.print(f"{run}: trained again ({why}); the old run is {target}")


def _say_questions(job: _Job, dataset: QuestionDataset, sampler: StepSampler) -> None:
    """What is trained on and what is not.

    Raises:
        ConfigError: not enough for one optimizer step.
    """
    console, budget = job.console, job.budget
    if dataset.lost:
        reasons = ", ".join(f"{code} {n:,}" for code, n in sorted(dataset.lost.items()))
        asked = len(job.samples)
        console.print(f"lost {dataset.lost.total():,} of {asked:,} training questions: {reasons}")
    if dataset.truncated:
        console.print(f"{dataset.truncated:,} answers lost their end to max_length")
    if not len(sampler) and budget.epochs:
        raise ConfigError(
            "not enough questions for one optimizer step",
            got=f"{len(dataset)} questions x {budget.epochs} epochs",
            wanted=f"at least batch_size = {budget.batch_size}",
        )
    console.print(
        f"{len(dataset):,} questions x {budget.epochs} epochs = {len(sampler):,} steps of "
        f"{budget.batch_size}; {sampler.dropped} left over at the end are dropped"
    )
