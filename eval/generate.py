"""Answers in free text to every question of a split, through kills, each exactly once.

The prompt, the projectors and the splice are train/'s own functions, so a question is seen as it
was seen in training. Batches are fixed by the questions alone and a batch that was cut off is
computed again as a whole, so a resumed run, or several workers, equal an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.answer_files import (
    add_seconds,
    answered,
    locked,
    make_ready,
    merge_parts,
    note_recipe,
    start_over,
    to_line,
)
from eval.answering import Asked, Decoding, Engine, TorchEngine
from eval.batches import Prompted, in_batches, to_row
from eval.folders import eval_folder
from eval.translations import annotation_translations
from features.annotations import QASample, annotations_digest, load_annotations
from features.config import BaseConfig, DatasetConfig
from features.device import intra_op_threads, pick_device, pick_dtype
from features.durable import file_sha256
from features.errors import ConfigError, FingerprintError
from features.prompts import template_of
from features.recipes import find_split
from features.spec import SCHEMA_VERSION, record_digest
from features.store import FeatureStore
from train.batch import Item
from train.checkpoint import (
    TENSORS,
    check_projectors,
    find_projectors,
    load_projectors,
    read_projector_config,
)
from train.image_llm import base_digest, load_image_llm
from train.video_llm import VideoLLM
from train.videos import VideoReader


@dataclass(frozen=True)
class GenerateConfig:
    """How to answer the questions of a split."""

    split: str = "test"
    """Which split of the dataset."""
    batch_size: int = 32
    """Questions decoded together (the two wordings of one always are); in float16 it can change
    the text, so it is recorded."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0: the likeliest token always; Video-ChatGPT's scripts sample at 0.2."""
    top_k: int = 50
    """Sample from so many of the likeliest tokens only (transformers' default)."""
    sampling_seed: int = 0
    """Of what is drawn; a question draws the same whatever is asked with it."""
    engine: Literal["torch", "vllm"] = "torch"
    """vllm: on its GPUs, if it is installed; its text may differ from torch's in the last bits."""
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """The LLM's dtype; auto: float32 on a CPU, float16 (the paper's) on a GPU."""
    device: str = "auto"
    """auto (cuda, mps, cpu) or a torch device."""
    resume: bool = True
    """Continue what an earlier run began; false starts over."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens", "top_k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more", got=getattr(self, name))
        if self.temperature < 0:
            raise ConfigError("temperature must be 0 or more", got=self.temperature)

    @property
    def torch_device(self) -> torch.device:
        """The device that is meant."""
        return pick_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype that is meant; float16 on a GPU, as the paper decodes."""
        return pick_dtype(self.dtype, self.torch_device, accelerated=torch.float16)

    @property
    def decoding(self) -> Decoding:
        """How an answer is chosen."""
        return Decoding(**{field.name: getattr(self, field.name) for field in fields(Decoding)})


def generate(
    config: GenerateConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    run: Path,
    store: FeatureStore,
    part: tuple[int, int] | None = None,
) -> Path:
    """Answer what is not answered yet; returns the folder with the answers (eval/folders.py).

    A question whose video has no features becomes a row with `pred: null` and the code in `lost`.

    Args:
        config: the split and how to decode.
        base: the Image LLM in front of which the run's projectors were trained.
        dataset: names the annotations.
        run: folder of the run, or of exported or imported projectors (find_projectors).
        store: features of the dataset's videos.
        part: (i, n): this is worker i (from 0) of n, which answers every n-th batch into a file of
            its own; `merge_parts` unites them. None: all, and what parts left is united.

    Raises:
        ConfigError: no such split; or a part of a run that starts over (`start_over` first).
        AnnotationError: see `load_annotations`.
        FingerprintError: the answers that are there depend on something else, or the projectors
            belong to another base or other features.
        CheckpointError: the projectors are missing or damaged.
    """
    if part and not config.resume:
        do = "start_over(folder) once, then resume"
        raise ConfigError("a part cannot start over what other parts answer", got=part, do=do)
    samples = load_annotations(find_split(dataset, config.split))
    folder = eval_folder(run, dataset.name, config.split)
    projectors = find_projectors(run)
    meta = _describe(config, base, dataset, samples, projectors, store)
    with locked(folder, part):
        _answer(config, base, projectors, store, samples, folder, meta, part)
    return folder


def _answer(
    config: GenerateConfig,
    base: BaseConfig,
    projectors: Path,
    store: FeatureStore,
    samples: Sequence[QASample],
    folder: Path,
    meta: dict[str, Any],
    part: tuple[int, int] | None,
) -> None:
    done = set(answered(folder, meta)) if config.resume else set()
    if len(done) < len(samples):
        work = _Work(config, base, projectors, store, samples)
        if not config.resume:  # now that nothing else is in the way
            start_over(folder)
        path = make_ready(folder, part, None if done else meta)
        began = time.perf_counter()
        how: Any = {"encoding": "utf-8", "errors": "backslashreplace"}
        with path.open("a", **how) as file, _progress(hidden=part is not None) as bar:
            task = bar.add_task(f"answers {config.split}", total=len(samples), completed=len(done))
            for rows in work.rows(done, *(part or (0, 1))):
                file.write("".join(to_line(row) for row in rows))
                file.flush()
                bar.advance(task, len(rows))
        if part is None:
            add_seconds(folder, time.perf_counter() - began)
    else:
        Console().print(f"{folder}: answered before from the same checkpoint; reused")
    if part is None:
        merge_parts(folder)
    note_recipe(folder, meta)


class _Work:
    """The questions of a split, rendered and in batches, with the engine that answers them."""

    def __init__(
        self,
        config: GenerateConfig,
        base: BaseConfig,
        projectors: Path,
        store: FeatureStore,
        samples: Sequence[QASample],
    ) -> None:
        """Loads everything; a question that cannot be asked is found before any is answered."""
        local = config.engine == "torch"
        device = config.torch_device if local else torch.device("cpu")
        self._llm = load_image_llm(base, device, config.torch_dtype)
        trained = read_projector_config(projectors)
        projector = load_projectors(projectors, self._llm, store.spec)
        self._videos = VideoReader(store, projector.switches)
        self._model = VideoLLM.of(projector, self._llm).eval()
        self._prompter = trained.prompter(base, self._llm)
        self._config = config
        ordered = sorted(samples, key=lambda sample: sample.sample_id)
        lost = [(s, self._videos.lost(s.video_id)) for s in ordered]
        self._lost = [(sample, code) for sample, code in lost if code is not None]
        self._batches = in_batches(
            [sample for sample, code in lost if code is None], self._prompter, config.batch_size
        )

    def rows(self, done: set[str], i: int, n: int) -> Iterator[list[dict[str, Any]]]:
        """Rows that are missing of every n-th batch from the i-th, batch by batch."""
        yield [to_row(s, [], code) for s, code in self._lost[i::n] if s.sample_id not in done]
        mine = [b for b in self._batches[i::n] if any(s.sample_id not in done for s, _ in b)]
        if not mine:
            return
        with intra_op_threads(self._model):
            engine = self._engine()
            for batch in mine:
                asked = list(self._ask(batch))
                replies = iter(engine(asked))
                rows = [to_row(s, [next(replies) for _ in prompts], None) for s, prompts in batch]
                yield [row for row in rows if row["sample_id"] not in done]

    def _engine(self) -> Engine:
        if self._config.engine == "torch":
            return TorchEngine(self._model, self._llm, self._config.decoding)
        from eval.vllm_engine import VllmEngine

        return VllmEngine(self._model, self._llm, self._config.decoding)

    def _ask(self, batch: Sequence[Prompted]) -> Iterator[Asked]:
        for video_id, group in groupby(batch, key=lambda pair: pair[0].video_id):
            video = self._videos[video_id]
            count = self._model.projector.num_tokens(len(video.temporal), len(video.spatial))
            for sample, prompts in group:
                for wording, prompt in enumerate(prompts, start=1):
                    item = Item((sample.sample_id,), self._prompter.expand(prompt, count), video)
                    yield Asked(sample.sample_id, wording, item)


def _describe(
    config: GenerateConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    samples: Sequence[QASample],
    projectors: Path,
    store: FeatureStore,
) -> dict[str, Any]:
    """Everything the answers depend on, and what a reader of them wants to know.

    Raises:
        FingerprintError: the projectors belong to another base or other features.
    """
    trained = read_projector_config(projectors)
    digest = base_digest(base)
    check_projectors(trained, projectors, base.name, digest, store.spec)
    if template_of(trained.base.prompt) != template_of(base.prompt):
        raise FingerprintError(
            "these projectors were trained behind another prompt",
            where=projectors,
            got=repr(base.prompt),
            wanted=repr(trained.base.prompt),
            do="say --prompt with the one of then",
        )
    switches = asdict(trained.switches)
    # As before these switches were there, so that answers of then stay what they are.
    del switches["trained"]  # of what is answered, the weights say it
    if trained.switches.video == "seen":
        del switches["video"]
    weights = file_sha256(projectors / TENSORS)
    return {
        "schema": SCHEMA_VERSION,
        "base": digest,
        "prompt": template_of(base.prompt),
        "video_order": trained.video_order,
        "spec": store.spec.fingerprint,
        "features": store.content_digest,
        "checkpoint": record_digest([weights, switches]),
        "dataset": dataset.name,
        "split": config.split,
        "annotations": annotations_digest(samples),
        "translations": annotation_translations(find_split(dataset, config.split)),
        "questions": len(samples),
        "dtype": str(config.torch_dtype).removeprefix("torch."),
        "device": config.torch_device.type,
        "batch_size": config.batch_size,
        **asdict(config.decoding),
        "engine": config.engine,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "aspects": list(dataset.splits[config.split].aspects),
        "type_names": list(dataset.type_names),
        "seconds": 0.0,
    }


def _progress(hidden: bool) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeRemainingColumn(), disable=hidden)
