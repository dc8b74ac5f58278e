"""One training run: from a recipe, a base and a store to a run folder.

The folder `<runs>/<dataset>/<experiment>/seed-<n>/` holds config.yaml (everything that decides the
result), logs, projectors/ and, written last, metrics.json: a folder that has it is a finished run.
The same recipe on the same store is then not trained again.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from features.annotations import QASample, annotations_digest, load_annotations
from features.checkpoint_files import resolve_checkpoint
from features.config import BaseConfig, Budget, DatasetConfig
from features.errors import ConfigError, FingerprintError
from features.recipes import did_you_mean
from features.spec import SCHEMA_VERSION, FeatureSpec
from features.store import FeatureStore
from train.checkpoint import ProjectorConfig, save_projectors
from train.data import QuestionDataset, StepSampler, VideoReader, make_loader
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.module import ProjectorTraining
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import Prompter
from train.video_llm import VideoLLM, check_trainable, count_parameters

CONFIG, METRICS, PROJECTORS = "config.yaml", "metrics.json", "projectors"


@dataclass(frozen=True)
class TrainConfig:
    """An experiment: what is trained, how long, and where it goes."""

    experiment: str = "red-villm"
    """Name of the experiment, used in folder names."""
    runs: Path = Path("runs")
    """Root of all run folders."""
    seed: int = 0
    """Seed of fresh weights and of the order of questions."""
    switches: ProjectorSwitches = field(default_factory=ProjectorSwitches)
    """What the model sees and what is trained."""
    budget: str = "default"
    """Which of the base's training budgets."""
    lr: float | None = None
    """Peak learning rate instead of the budget's."""
    epochs: int | None = None
    """Passes over the questions instead of the budget's; 0 saves the untuned projectors."""
    batch_size: int | None = None
    """Questions an optimizer step instead of the budget's."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 clips nothing."""
    micro_batch: int = 32
    """Most questions that pass through the LLM at once."""
    micro_tokens: int = 4096
    """Most tokens, padding included, that pass through the LLM at once."""
    max_length: int = 2048
    """Longest sequence in tokens; a longer answer loses its end, which is counted."""
    num_workers: int = 0
    """Processes that read features; the result does not depend on it."""
    cache_bytes: int = 1 << 30
    """Features that each process may keep in memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    llm_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """dtype of the frozen LLM: bfloat16 on a GPU, float32 on the CPU."""
    resume: bool = True
    """Reuse a finished run of the same config and store; off: train it again."""


_NO_INFLUENCE = ("runs", "num_workers", "cache_bytes", "resume", "budget", "lr", "epochs")


def run_folder(config: TrainConfig, dataset: str) -> Path:
    """Where a run of this experiment on this dataset goes."""
    return config.runs / dataset / config.experiment / f"seed-{config.seed}"


def train(config: TrainConfig, base: BaseConfig, dataset: DatasetConfig, store: Path) -> Path:
    """Train projectors and return the run folder; a finished run of the same recipe is reused.

    Args:
        config: the experiment.
        base: the Image LLM.
        dataset: its `train` split is used.
        store: folder of the extracted features.

    Raises:
        RedVillmError: anything a user can put right.
    """
    console = Console()
    features = FeatureStore.open(store)
    samples = _training_samples(dataset)
    device, dtype = pick_device(config.device, config.llm_dtype)
    config = replace(config, device=device.type, llm_dtype=str(dtype).removeprefix("torch."))
    budget = pick_budget(config, base)
    check_store(base, features.spec, store)
    record = _record(config, budget, base, dataset.name, samples, features)
    run = run_folder(config, dataset.name)
    if config.resume and is_finished(run, record):
        console.print(f"{run}: finished before with the same config and store; reused")
        return run
    _set_aside(run, record, console)
    run.mkdir(parents=True, exist_ok=True)
    (run / CONFIG).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    image_llm = load_image_llm(base, device, dtype)
    metrics = _fit(config, budget, base, image_llm, samples, features, run, console)
    (run / f"{METRICS}.partial").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (run / f"{METRICS}.partial").replace(run / METRICS)
    return run


def _fit(
    config: TrainConfig,
    budget: Budget,
    base: BaseConfig,
    image_llm: ImageLLM,
    samples: Sequence[QASample],
    features: FeatureStore,
    run: Path,
    console: Console,
) -> dict[str, Any]:
    """Train, save the projectors, and say in numbers what happened."""
    started = time.perf_counter()
    projector = VideoProjector(
        image_llm.aligner, image_llm.hidden_size, config.switches, config.seed
    )
    model = VideoLLM.of(projector, image_llm)
    dataset = QuestionDataset(
        samples,
        VideoReader(features, config.switches.spatial_window, config.cache_bytes),
        Prompter.of(base, image_llm),
        projector.num_tokens,
        features.spec.num_frames,
        config.max_length,
    )
    sampler = StepSampler(len(dataset), budget.batch_size, budget.epochs, config.seed)
    _say_questions(console, dataset, sampler, budget, len(samples))
    console.print(check_trainable(model))
    module = ProjectorTraining(model, budget, len(sampler), config.clip_norm)
    if len(sampler):
        loader = make_loader(
            dataset,
            sampler,
            image_llm.pad_token_id,
            config.micro_batch,
            config.micro_tokens,
            config.num_workers,
        )
        with _quiet_lightning():
            make_trainer(run, config.device, len(sampler), console).fit(module, loader)
    facts = ProjectorConfig(
        base=base.name,
        base_digest=image_llm.digest,
        spec=features.spec,
        store_digest=features.content_digest,
        switches=config.switches,
        seed=config.seed,
        steps=len(sampler),
    )
    save_projectors(run / PROJECTORS, projector, facts)
    return {
        "schema": SCHEMA_VERSION,
        "seconds": round(time.perf_counter() - started, 2),
        "steps": len(sampler),
        "loss": _loss_summary(module),
        "questions": {
            "asked": len(samples),
            "used": len(dataset),
            "lost": dict(dataset.lost),
            "truncated": dataset.truncated,
            "dropped": sampler.dropped,
        },
        "parameters": count_parameters(model),
        "digests": {
            "base": image_llm.digest,
            "fingerprint": features.spec.fingerprint,
            "store": features.content_digest,
        },
    }


def make_trainer(run: Path, device: str, num_steps: int, console: Console) -> L.Trainer:
    """Lightning's trainer for one pass over the steps, with its logs inside the run folder."""
    bar = [RichProgressBar(leave=True)] if console.is_terminal else []
    return L.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        max_steps=num_steps,
        default_root_dir=run,
        logger=[
            CSVLogger(run, name="", version="logs"),
            TensorBoardLogger(run, name="", version="tensorboard"),
        ],
        log_every_n_steps=1,
        callbacks=bar,
        enable_progress_bar=bool(bar),
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without its adverts and with no advice about a choice that is ours."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", "Experiment logs directory .* exists and is not empty")
        try:
            yield
        finally:
            logger.setLevel(level)


def pick_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """The device and the frozen LLM's dtype behind `auto`.

    Raises:
        ConfigError: cuda was asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("no CUDA device here", got="device=cuda", do="say device=auto or cpu")
    chosen = ("cuda" if has_cuda else "cpu") if device == "auto" else device
    if dtype == "auto":
        dtype = "bfloat16" if chosen == "cuda" else "float32"
    return torch.device(chosen), {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def pick_budget(config: TrainConfig, base: BaseConfig) -> Budget:
    """The base's budget of that name with the experiment's overrides.

    Raises:
        ConfigError: the base has no such budget.
    """
    if config.budget not in base.budgets:
        raise ConfigError(
            "the base has no such training budget",
            where=f"base {base.name}",
            got=config.budget,
            do=did_you_mean(config.budget, base.budgets),
        )
    overrides = {k: getattr(config, k) for k in ("lr", "epochs", "batch_size")}
    return replace(
        base.budgets[config.budget], **{k: v for k, v in overrides.items() if v is not None}
    )


def check_store(base: BaseConfig, spec: FeatureSpec, store: Path) -> None:
    """Refuse features that were not made the way the base wants them.

    Raises:
        FingerprintError: naming the first setting that differs.
    """
    for name in ("tower", "layer", "image_size", "preprocessing"):
        ours, theirs = getattr(base, name), getattr(spec, name)
        if ours != theirs:
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


def _record(
    config: TrainConfig,
    budget: Budget,
    base: BaseConfig,
    dataset: str,
    samples: Sequence[QASample],
    features: FeatureStore,
) -> dict[str, Any]:
    """Everything that decides the result, as plain YAML values."""
    settings = {k: v for k, v in asdict(config).items() if k not in _NO_INFLUENCE}
    base_record = {k: v for k, v in asdict(base).items() if k != "budgets"}
    return {
        "schema": SCHEMA_VERSION,
        "train": {**settings, "batch_size": budget.batch_size},
        "budget": asdict(budget),
        "base": {**base_record, "digest": base_digest(resolve_checkpoint(base.checkpoint))},
        "dataset": {"name": dataset, "questions": annotations_digest(samples)},
        "store": {"fingerprint": features.spec.fingerprint, "content": features.content_digest},
    }


def is_finished(run: Path, record: dict[str, Any]) -> bool:
    """Whether the folder holds a finished run of exactly this record."""
    if not (run / METRICS).is_file():
        return False
    return bool(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")) == record)


def _set_aside(run: Path, record: dict[str, Any], console: Console) -> None:
    """Move a finished run out of the way; what was never finished may be overwritten."""
    if not (run / METRICS).is_file():
        return
    old = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    changed = [key for key in record if old.get(key) != record[key]] or ["nothing"]
    folder = run.parent / "replaced"
    folder.mkdir(exist_ok=True)
    target = folder / f"{run.name}-{len(list(folder.iterdir()))}"
    run.rename(target)
    console.print(f"{run}: trained again ({', '.join(changed)} changed); the old run is {target}")


def _say_questions(
    console: Console, dataset: QuestionDataset, sampler: StepSampler, budget: Budget, asked: int
) -> None:
    if dataset.lost:
        reasons = ", ".join(f"{code} {n:,}" for code, n in sorted(dataset.lost.items()))
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


def _loss_summary(module: ProjectorTraining) -> dict[str, Any]:
    losses = [float(loss) for loss in module.history]
    if not losses:
        return {}
    every = max(1, len(losses) // 100)
    few = min(10, len(losses))
    return {
        "first": sum(losses[:few]) / few,
        "last": sum(losses[-few:]) / few,
        "curve": [[step, losses[step]] for step in range(0, len(losses), every)],
    }
