"""One training run: from a recipe, a base and stores to a run folder.

The folder `<runs>/<dataset>/<experiment>/seed-<n>/` holds config.yaml (everything that decides the
result), logs, projectors/ and, written last, metrics.json: a folder that has it is a finished run.
The same recipe on the same stores is then not trained again. One that was stopped has state.ckpt
and goes on from there, as if it had never stopped.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from features.annotations import annotations_digest
from features.config import BaseConfig, Budget
from features.device import (
    device_peak,
    intra_op_threads,
    measured_rate,
    pick_device,
    pick_dtype,
)
from features.durable import replace_file
from features.errors import ConfigError
from features.spec import IMPORTED, SCHEMA_VERSION
from train.card import CARD, model_card
from train.checkpoint import ProjectorConfig, save_projectors
from train.distributed import is_rank_zero
from train.flops import count_flops_model
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.loggers import FOLDERS, WriteRows
from train.meter import LoaderClock, Speed, StepMeter
from train.module import ProjectorTraining
from train.options import NO_INFLUENCE, TrainConfig, check_options, pick_budget
from train.progress import ShowProgress
from train.projectors import VideoProjector
from train.prompt import Prompter
from train.questions import QuestionDataset, Source
from train.resume import STATE, SaveState
from train.sources import (
    OpenData,
    TrainingData,
    check_width,
    content_of,
    open_data,
    samples_of,
)
from train.steps import Rank, StepSampler, make_loader
from train.trainer import check_losses, loss_summary, make_trainer, quiet_lightning
from train.validation import Validation, validation_batches
from train.video_llm import VideoLLM, check_trainable, count_parameters, trainable
from train.videos import VideoReader

CONFIG, METRICS, PROJECTORS = "config.yaml", "metrics.json", "projectors"


@dataclass(frozen=True)
class _Job:
    """What a run is made of, with every `auto` decided."""

    config: TrainConfig
    budget: Budget
    base: BaseConfig
    data: Sequence[OpenData]
    device: torch.device
    dtype: torch.dtype
    console: Console

    @property
    def name(self) -> str:
        """Of what is trained on, as in the run's path."""
        return "+".join(one.dataset.name for one in self.data)

    def record(self) -> dict[str, Any]:
        """Everything that decides the result, as plain YAML values."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in NO_INFLUENCE}
        base = {k: v for k, v in asdict(self.base).items() if k not in ("budgets", "licence")}
        base["stop"] = list(self.base.stop)  # as YAML gives it back
        splits = ("train", "val") if self.config.val_every else ("train",)
        return {
            "schema": SCHEMA_VERSION,
            "train": settings | asdict(self.budget),
            "device": {"type": self.device.type, "llm_dtype": str(self.dtype)},
            "base": base | {"digest": base_digest(self.base)},
            "data": {split: [one.record(split) for one in self.data] for split in splits},
        }


def run_folder(config: TrainConfig, dataset: str) -> Path:
    """Where a run of this experiment on this dataset goes."""
    return config.runs / dataset / config.experiment / f"seed-{config.seed}"


def train(config: TrainConfig, base: BaseConfig, *data: TrainingData) -> Path:
    """Train projectors and return the run folder; a finished run of the same recipe is reused.

    Args:
        config: the experiment.
        base: the Image LLM.
        data: datasets, whose `train` splits are used, with their feature stores.

    Raises:
        RedVillmError: anything a user can put right.
        KeyboardInterrupt: the run was asked to stop; the same command goes on from there.
    """
    check_options(config)
    first = is_rank_zero()
    budget, console = pick_budget(config, base), Console(soft_wrap=True, quiet=not first)
    device = pick_device(config.device)
    dtype = pick_dtype(config.llm_dtype, device, accelerated=torch.bfloat16)
    job = _Job(config, budget, base, open_data(base, data), device, dtype, console)
    for one in job.data:
        if one.features.spec.tower.startswith(IMPORTED):
            where = one.features.path
            console.print(f"{where}: imported; that the eyes of {base.name} made it is not checked")
    run, record = run_folder(config, job.name), job.record()
    old, finished = _old_record(run), (run / METRICS).is_file()
    if config.resume and finished and old == record:
        console.print(f"{run}: finished before with the same config and store; reused")
        return run
    state = run / STATE
    unfinished = config.resume and not finished and old == record and state.is_file()
    if first and not unfinished:
        _make_room(run, old if finished else None, record, console)
    metrics = _fit(job, run, state if unfinished else None)
    if first:
        text = json.dumps(metrics, indent=2) + "\n"
        replace_file(run / METRICS, text.encode(), "metrics")
        state.unlink(missing_ok=True)
    return run


def _fit(job: _Job, run: Path, state: Path | None) -> dict[str, Any]:
    """Train (from `state` on, if given), save the projectors, and say in numbers what happened."""
    started = time.perf_counter()
    config = job.config
    base = load_image_llm(job.base, job.device, job.dtype)
    projector = VideoProjector(base.aligner, base.hidden_size, config.switches, config.seed)
    model = VideoLLM.of(projector, base)
    questions = _questions(job, base, projector, "train")
    sampler = partial(
        StepSampler,
        questions,
        job.budget.batch_size,
        job.budget.epochs,
        config.seed,
        config.questions_per_row,
        config.max_steps,
    )
    num_steps = len(sampler())
    _say_questions(job, questions, sampler())
    job.console.print(check_trainable(model))
    clock = LoaderClock()
    with intra_op_threads(model, config.num_threads):
        meter = _meter(job, base, projector, clock)
    module = ProjectorTraining(
        model,
        job.budget,
        num_steps,
        meter,
        config.clip_norm,
        loader_of=lambda rank: make_loader(
            questions, sampler(rank=rank), *_limits(job, base), config.num_workers
        ),
        validation_of=_validation_of(job, base, projector) if config.val_every else None,
    )
    if num_steps:
        callbacks = [
            SaveState(run / STATE, config.save_minutes, config.save_steps),
            WriteRows(run, config.wandb),
            ShowProgress(job.console, meter),
        ]
        with quiet_lightning(), intra_op_threads(model, config.num_threads):
            trainer = make_trainer(run, job.device, num_steps, config, clock, callbacks)
            trainer.fit(module, ckpt_path=state, weights_only=True)
        _check_finished(module, run)
    check_losses(module.history)
    steps = len(module.history)
    if module.validation is not None and module.validation.best:
        steps = module.validation.best_step
        _restore(projector, module.validation.best)
    facts = ProjectorConfig(
        base=job.base,
        base_digest=base.digest,
        spec=job.data[0].features.spec,
        store_digest=content_of(job.data),
        dataset=job.name,
        questions=annotations_digest([s for part in samples_of(job.data, "train") for s in part]),
        switches=config.switches,
        seed=config.seed,
        steps=steps,
    )
    if is_rank_zero():
        save_projectors(run / PROJECTORS, projector, facts)
        licences = dict.fromkeys(one.dataset.licence for one in job.data)
        card = model_card(config.experiment, "; ".join(licences), facts)
        (run / PROJECTORS / CARD).write_text(card, encoding="utf-8")
    return {
        "schema": SCHEMA_VERSION,
        "seconds": round(time.perf_counter() - started, 2),
        "steps": len(module.history),
        "loss": loss_summary(module.history),
        "speed": asdict(meter.report()),
        "questions": questions.counts() | {"dropped": sampler().dropped},
        "parameters": count_parameters(model),
        "digests": {
            "base": base.digest,
            "fingerprint": facts.spec.fingerprint,
            "store": facts.store_digest,
        },
    }


def _questions(job: _Job, base: ImageLLM, projector: VideoProjector, split: str) -> QuestionDataset:
    """The questions of a split with their features.

    Raises:
        ConfigError: no such split.
        StoreError: the features are not as wide as the base's eyes see.
    """
    config = job.config
    check_width(job.data, base.aligner.width)
    if config.questions_per_row > 1 and base.attention == "bidirectional-prefix":
        raise ConfigError(
            "this base's video sees the question, so that questions cannot share it",
            where=f"base {base.name}",
            got=f"questions_per_row {config.questions_per_row}",
            wanted="1",
        )
    memory = config.cache_bytes // len(job.data)
    sources = [
        Source(samples, VideoReader(one.features, config.switches.spatial_window, memory))
        for one, samples in zip(job.data, samples_of(job.data, split), strict=True)
    ]
    return QuestionDataset(
        sources,
        _prompters(job, base),
        projector.num_tokens,
        job.data[0].features.spec.num_frames,
        config.max_length,
    )


def _prompters(job: _Job, base: ImageLLM) -> Prompter | tuple[Prompter, Prompter]:
    """The base's prompt; alternating as Video-ChatGPT's conversion script does it."""
    first = Prompter.of(job.base, base)
    if job.config.video_order == "first":
        return first
    return Prompter.of(job.base, base, video_last=True), first


def _meter(job: _Job, base: ImageLLM, projector: VideoProjector, clock: LoaderClock) -> StepMeter:
    """Made before the LLM is quantised or divided, with the threads that training has."""
    rate = measured_rate(job.device, job.dtype, base.hidden_size)
    peak, count = device_peak(job.device), job.config.devices
    speed = Speed(rate * count, None if peak is None else peak * count)
    return StepMeter(projector, count_flops_model(base.llm), speed, clock)


def _limits(job: _Job, base: ImageLLM) -> tuple[int, int, int]:
    """Padding's id, most questions and most tokens of a micro-batch."""
    return base.pad_token_id, job.config.micro_batch, job.config.micro_tokens


def _validation_of(
    job: _Job, base: ImageLLM, projector: VideoProjector
) -> Callable[[Rank], Validation]:
    config, questions = job.config, _questions(job, base, projector, "val")
    if questions.lost:
        reasons = ", ".join(f"{code} {n:,}" for code, n in sorted(questions.lost.items()))
        job.console.print(f"lost {questions.lost.total():,} validation questions: {reasons}")

    def of(rank: Rank) -> Validation:
        count, per_row = config.val_questions, config.questions_per_row
        batches = validation_batches(questions, count, per_row, rank, *_limits(job, base))
        return Validation(batches, config.val_every, config.patience)

    return of


def _check_finished(module: ProjectorTraining, run: Path) -> None:
    """Leave, if the run was asked to stop before its last step.

    Raises:
        KeyboardInterrupt: saying where.
    """
    done = len(module.history)
    if module.stopping and done < module.num_steps:
        state = f"{run / STATE} holds step {done} of {module.num_steps}"
        raise KeyboardInterrupt(f"{state}; the same command goes on from there")


@torch.no_grad()
def _restore(projector: VideoProjector, tensors: dict[str, torch.Tensor]) -> None:
    for name, parameter in trainable(projector).items():
        parameter.copy_(tensors[name])


def _old_record(run: Path) -> dict[str, Any] | None:
    """The record of the run that was begun in that folder, or None."""
    try:
        return dict(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, yaml.YAMLError):
        return None  # none, or one that was killed while it wrote this


def _make_room(
    run: Path, finished: dict[str, Any] | None, record: dict[str, Any], console: Console
) -> None:
    """Move a finished run out of the way, throw an unfinished one away, and begin a new folder."""
    if finished is not None:
        changed = [key for key in record if finished.get(key) != record[key]]
        why = f"{', '.join(changed)} changed" if changed else "resume is off"
        folder = run.parent / "replaced"
        folder.mkdir(exist_ok=True)
        target = folder / f"{run.name}-{len(list(folder.iterdir()))}"
        run.rename(target)
        console.print(f"{run}: trained again ({why}); the old run is {target}")
    for leftover in (*FOLDERS, PROJECTORS):
        shutil.rmtree(run / leftover, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    (run / STATE).unlink(missing_ok=True)
    text = yaml.safe_dump(record, sort_keys=False)
    replace_file(run / CONFIG, text.encode(), "config")


def _say_questions(job: _Job, dataset: QuestionDataset, sampler: StepSampler) -> None:
    """What is trained on and what is not.

    Raises:
        ConfigError: not enough for one optimizer step.
    """
    console, budget = job.console, job.budget
    if dataset.lost:
        reasons = ", ".join(f"{code} {n:,}" for code, n in sorted(dataset.lost.items()))
        asked = dataset.counts()["asked"]
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
