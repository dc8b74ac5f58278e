"""The training itself: the model is built, steps are made, projectors are saved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from features.annotations import annotations_digest
from features.device import device_peak, intra_op_threads, measured_rate
from features.errors import ConfigError
from features.spec import SCHEMA_VERSION
from train.attention import use_block_masks
from train.card import CARD, model_card
from train.checkpoint import PROJECTORS, ProjectorConfig, save_projectors
from train.distributed import is_rank_zero, num_nodes
from train.flops import count_flops_model
from train.frozen import checkpoint_activations, keep_frozen
from train.image_llm import ImageLLM, load_image_llm
from train.job import Job, limits_of, questions_of, say_lost, say_questions
from train.loggers import WriteRows
from train.meter import LoaderClock, Speed, StepMeter
from train.module import ProjectorTraining
from train.progress import ShowProgress
from train.projectors import VideoProjector
from train.quantise import quantise
from train.resume import STATE, SaveState
from train.shard import shard
from train.sources import content_of
from train.steps import Rank, StepSampler, make_loader
from train.trainer import loss_summary, make_trainer, quiet_lightning
from train.validation import Batches, Validation
from train.video_llm import VideoLLM, check_trainable, count_parameters, trainable


def fit(job: Job, run: Path, state: Path | None) -> dict[str, Any] | None:
    """Train, save the projectors, and say in numbers what happened.

    None if the run was asked to stop before its last step.

    Args:
        job: what to train.
        run: the run folder.
        state: of an earlier part of the same run, to go on from.
    """
    started = time.perf_counter()
    config, divided = job.config, job.config.strategy == "fsdp"
    # What is quantised or divided reaches its device part by part.
    in_parts = divided or config.quantise != "none"
    base = load_image_llm(job.base, "cpu" if in_parts else job.device, job.dtype)
    projector = VideoProjector(base.aligner, base.hidden_size, config.switches, config.seed)
    model = VideoLLM.of(projector, base)
    questions = questions_of(job, base, projector, "train")
    sampler = partial(
        StepSampler,
        questions,
        job.budget.batch_size,
        job.budget.epochs,
        config.seed,
        config.questions_per_row,
        config.max_steps,
    )
    whole = sampler()
    say_questions(job, questions, whole)
    job.console.print(check_trainable(model))
    projector.to(job.device)
    parameters, clock = count_parameters(model), LoaderClock()
    with intra_op_threads(model, config.num_threads):
        meter = _prepare(job, base, projector, clock)
    module = ProjectorTraining(
        model,
        job.budget,
        len(whole),
        meter,
        config.clip_norm,
        loader_of=lambda rank, start: make_loader(
            questions,
            sampler(rank=rank, start=start),
            *limits_of(job, base),
            config.num_workers,
        ),
        validation_of=_validation_of(job, base, projector) if config.val_every else None,
        divide=partial(_divide, job, base) if divided else None,
    )
    if module.num_steps:
        _make_steps(job, run, module, clock, state)
    if module.stopping and len(module.history) < module.num_steps:
        return None
    steps = len(module.history)
    if module.validation is not None and module.validation.best:
        steps = module.validation.best_step
        _restore(projector, module.validation.best)
    facts = _facts(job, base, steps)
    if is_rank_zero(config.devices):
        save_projectors(run / PROJECTORS, projector, facts)
        licences = dict.fromkeys(one.dataset.licence for one in job.data)
        card = model_card(config.experiment, "; ".join(licences), facts)
        (run / PROJECTORS / CARD).write_text(card, encoding="utf-8")
    return {
        "schema": SCHEMA_VERSION,
        "seconds": round(time.perf_counter() - started, 2),
        "steps": len(module.history),
        "loss": loss_summary(module.history),
        "distance": {k: v.item() for k, v in meter.distances().items()},
        "speed": asdict(meter.report()),
        "questions": questions.counts() | {"dropped": whole.dropped},
        "parameters": parameters,
        "digests": {
            "base": base.digest,
            "fingerprint": facts.spec.fingerprint,
            "store": facts.store_digest,
        },
    }


def _prepare(job: Job, base: ImageLLM, projector: VideoProjector, clock: LoaderClock) -> StepMeter:
    """Put the frozen LLM into the state it trains in; the meter counts it as it was before."""
    config, flops = job.config, count_flops_model(base.llm)
    recomputes = checkpoint_activations(base.llm, config.activation_checkpointing)
    if config.quantise != "none":
        quantise(base.llm, config.quantise, job.device)
    keep_frozen(base.llm)
    if config.questions_per_row > 1 and job.device.type == "cuda":
        use_block_masks(base.llm, base.attention)
    peak = device_peak(job.device)
    rate = measured_rate(job.device, job.dtype, base.hidden_size)
    count = config.devices * num_nodes()
    speed = Speed(rate * count, None if peak is None else peak * count)
    return StepMeter(projector, flops, speed, clock, recomputes)


def _divide(job: Job, base: ImageLLM) -> None:
    """Called by every process, once they know one another."""
    shard(base.llm, init_device_mesh(job.device.type, (dist.get_world_size(),)))


def _make_steps(
    job: Job, run: Path, module: ProjectorTraining, clock: LoaderClock, state: Path | None
) -> None:
    """All steps that are left, or as many as are made before somebody asks to stop."""
    config = job.config
    callbacks = [
        SaveState(run / STATE, config.save_minutes, config.save_steps),
        WriteRows(run, config.wandb),
        ShowProgress(job.console, module.meter),
    ]
    if config.num_threads:  # Lightning shares the cores out among processes, but for this
        os.environ.setdefault("OMP_NUM_THREADS", str(config.num_threads))
    with quiet_lightning(), intra_op_threads(module.model, config.num_threads):
        trainer = make_trainer(run, job.device, module.num_steps, config, clock, callbacks)
        trainer.fit(module, ckpt_path=state, weights_only=True)


def _validation_of(
    job: Job, base: ImageLLM, projector: VideoProjector
) -> Callable[[Rank], Validation]:
    config, questions = job.config, questions_of(job, base, projector, "val")
    say_lost(job, questions, "validation")
    if not len(questions):
        got, do = questions.counts()["lost"], "extract the val videos, or set val_every 0"
        raise ConfigError("no validation question can be asked", got=got, do=do)

    def of(rank: Rank) -> Validation:
        count, per_row = config.val_questions, config.questions_per_row
        batches = Batches(questions, count, per_row, rank, limits_of(job, base))
        return Validation(batches, config.val_every, config.patience)

    return of


@torch.no_grad()
def _restore(projector: VideoProjector, tensors: dict[str, torch.Tensor]) -> None:
    for name, parameter in trainable(projector).items():
        parameter.copy_(tensors[name])


def _facts(job: Job, base: ImageLLM, steps: int) -> ProjectorConfig:
    """Where the projectors come from."""
    samples = [sample for part in job.samples("train") for sample in part]
    return ProjectorConfig(
        base=job.base,
        base_digest=base.digest,
        spec=job.data[0].features.spec,
        store_digest=content_of(job.data),
        dataset=job.name,
        questions=annotations_digest(samples),
        switches=job.config.switches,
        seed=job.config.seed,
        video_order=job.config.video_order,
        steps=steps,
    )
