"""Answers in free text to every question of a split, through kills, each exactly once.

The prompt, the projectors and the splice are train/'s own functions, so a question is seen as it
was seen in training. Batches are fixed by the questions alone and a batch that was cut off is
computed again as a whole, so a resumed run equals an uninterrupted one.

    <run>/eval/<split>/predictions.meta.json   what the answers depend on; compared on resume
    <run>/eval/<split>/predictions.jsonl       a row a question, appended and flushed a batch
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from features.annotations import QASample, annotations_digest, load_annotations
from features.config import BaseConfig, DatasetConfig
from features.device import intra_op_threads, pick_device, pick_dtype
from features.durable import escape_name, file_sha256, replace_file
from features.errors import ConfigError, FingerprintError, RedVillmError
from features.prompts import template_of
from features.recipes import did_you_mean
from features.spec import SCHEMA_VERSION, canonical_json, check_schema
from features.store import FeatureStore
from train.batch import Batch, Item, collate
from train.checkpoint import (
    TENSORS,
    check_projectors,
    find_projectors,
    load_projectors,
    read_projector_config,
)
from train.decode import decode_greedily
from train.image_llm import ImageLLM, base_digest, load_image_llm
from train.prompt import Prompter
from train.video_llm import VideoLLM
from train.videos import VideoReader

PREDICTIONS, META = "predictions.jsonl", "predictions.meta.json"
NOT_COMPARED = ("schema", "versions")
"""Fields of the meta file that are recorded and do not forbid resuming."""


@dataclass(frozen=True)
class GenerateConfig:
    """How to answer the questions of a split. Decoding is greedy."""

    split: str = "test"
    """Which split of the dataset."""
    batch_size: int = 16
    """Questions decoded together; in float16 it can change the text, so it is recorded."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """The LLM's dtype; auto: float32 on a CPU, float16 (the paper's) on a GPU."""
    device: str = "auto"
    """auto (cuda, mps, cpu) or a torch device."""
    resume: bool = True
    """Continue what an earlier run began; false starts over."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more", got=getattr(self, name))

    @property
    def torch_device(self) -> torch.device:
        """The device that is meant."""
        return pick_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype that is meant; float16 on a GPU, as the paper decodes."""
        return pick_dtype(self.dtype, self.torch_device, accelerated=torch.float16)


@dataclass(frozen=True)
class Answer:
    """What the LLM said."""

    text: str
    finish_reason: Literal["stop", "length"]
    """`length`: it was cut off at max_new_tokens."""
    num_tokens: int
    """Without the stop token."""


def eval_folder(run: Path, split: str) -> Path:
    """Where the answers of a run to a split lie."""
    return run / "eval" / escape_name(split)


def generate(
    config: GenerateConfig, base: BaseConfig, dataset: DatasetConfig, run: Path, store: FeatureStore
) -> Path:
    """Answer what is not answered yet; returns the folder with the two files.

    A question whose video has no features becomes a row with `pred: null` and the code in `lost`.

    Args:
        config: the split and how to decode.
        base: the Image LLM in front of which the run's projectors were trained.
        dataset: names the annotations.
        run: folder of the run, or of exported or imported projectors (find_projectors).
        store: features of the dataset's videos.

    Raises:
        ConfigError: no such split, or one with two questions a sample.
        AnnotationError: see `load_annotations`.
        FingerprintError: the answers that are there depend on something else, or the projectors
            belong to another base or other features.
        CheckpointError: the projectors are missing or damaged.
    """
    samples = _load_split(dataset, config.split)
    folder = eval_folder(run, config.split)
    projectors = find_projectors(run)
    meta = _describe(config, base, dataset, samples, projectors, store)
    done = _answered(folder, meta) if config.resume else set()
    if len(done) == len(samples):
        Console().print(f"{folder}: answered before from the same checkpoint; reused")
        return folder
    trained = read_projector_config(projectors)
    llm = load_image_llm(base, config.torch_device, config.torch_dtype)
    projector = load_projectors(projectors, llm, store.spec)
    videos = VideoReader(store, projector.switches.spatial_window)
    model = VideoLLM.of(projector, llm).eval()
    _make_ready(folder, meta, keep=bool(done))
    lost = {s.sample_id: code for s in samples if (code := videos.lost(s.video_id)) is not None}
    with (
        (folder / PREDICTIONS).open("a", encoding="utf-8") as file,
        _progress() as progress,
        intra_op_threads(model),
    ):
        task = progress.add_task(f"answers {config.split}", total=len(samples), completed=len(done))

        def append(rows: list[dict[str, Any]]) -> None:
            new = [row for row in rows if row["sample_id"] not in done]
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new))
            file.flush()
            progress.advance(task, len(new))

        append([_row(s, None, lost[s.sample_id]) for s in samples if s.sample_id in lost])
        items = _render(
            [s for s in samples if s.sample_id not in lost],
            trained.prompter(base, llm),
            model,
            videos,
        )
        while group := list(islice(items, config.batch_size)):
            if any(sample.sample_id not in done for sample, _ in group):
                batch = collate([item for _, item in group], llm.pad_token_id, side="left")
                answers = answer(model, batch.to(llm.llm.device), llm, config.max_new_tokens)
                pairs = zip(group, answers, strict=True)
                append([_row(sample, reply, None) for (sample, _), reply in pairs])
    return folder


@torch.inference_mode()
def answer(model: VideoLLM, batch: Batch, base: ImageLLM, max_new_tokens: int) -> list[Answer]:
    """Greedy answers to a batch that is padded on the left, on the LLM's device."""
    answers = []
    for ids in decode_greedily(model, batch, base.stop_ids, max_new_tokens).tolist():
        kept = list(takewhile(lambda token: token not in base.stop_ids, ids))
        text = base.tokenizer.decode(kept, skip_special_tokens=True).strip()
        answers.append(Answer(text, "stop" if len(kept) < len(ids) else "length", len(kept)))
    return answers


def read_meta(folder: Path) -> dict[str, Any]:
    """What the predictions in a folder depend on.

    Raises:
        RedVillmError: missing, damaged or of another schema version.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        check_schema(meta, folder / META)
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        do = "generate again with resume false"
        raise RedVillmError("cannot read", where=folder / META, got=error, do=do) from error
    return meta


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """Rows of predictions.jsonl, whole lines only: a torn last line does not exist.

    Raises:
        RedVillmError: missing, damaged before its end, or an id repeats.
    """
    path = folder / PREDICTIONS
    rows: dict[str, dict[str, Any]] = {}
    try:
        for line in path.read_bytes().split(b"\n")[:-1]:
            row = json.loads(line)
            if rows.setdefault(row["sample_id"], row) is not row:
                raise ValueError(f"sample {row['sample_id']} is there twice")
    except (OSError, ValueError, KeyError, TypeError) as error:
        where, do = f"{path}, row {len(rows)}", "generate again with resume false"
        raise RedVillmError("cannot read predictions", where=where, got=error, do=do) from error
    return list(rows.values())


def _load_split(dataset: DatasetConfig, split: str) -> list[QASample]:
    if split not in dataset.splits:
        do = did_you_mean(split, dataset.splits)
        raise ConfigError("no such split", where=f"dataset {dataset.name}", got=split, do=do)
    samples = load_annotations(dataset.splits[split])
    if any(sample.question2 is not None for sample in samples):
        got = dataset.splits[split].format
        raise ConfigError("cannot ask two questions a sample yet", where=split, got=got)
    return samples


def _describe(
    config: GenerateConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    samples: Sequence[QASample],
    projectors: Path,
    store: FeatureStore,
) -> dict[str, Any]:
    """Everything the answers depend on.

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
    weights = file_sha256(projectors / TENSORS)
    return {
        "schema": SCHEMA_VERSION,
        "base": digest,
        "prompt": template_of(base.prompt),
        "video_order": trained.video_order,
        "spec": store.spec.fingerprint,
        "features": store.content_digest,
        "checkpoint": sha256(canonical_json([weights, switches]).encode()).hexdigest(),
        "dataset": dataset.name,
        "split": config.split,
        "annotations": annotations_digest(samples),
        "dtype": str(config.torch_dtype).removeprefix("torch."),
        "device": config.torch_device.type,
        "batch_size": config.batch_size,
        "max_new_tokens": config.max_new_tokens,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def _answered(folder: Path, meta: dict[str, Any]) -> set[str]:
    """Ids that are answered already, under the very same conditions."""
    path = folder / PREDICTIONS
    if not path.exists() or not (rows := read_predictions(folder)):
        return set()
    there = read_meta(folder)
    keys = [key for key in {**meta, **there} if key not in NOT_COMPARED]
    differing = [key for key in keys if there.get(key) != meta.get(key)]
    if differing:
        raise FingerprintError(
            "the answers that are there depend on something else",
            where=folder,
            got={key: there.get(key) for key in differing},
            wanted={key: meta.get(key) for key in differing},
            do="generate with resume false to start over, or use the settings of then",
        )
    return {row["sample_id"] for row in rows}


def _make_ready(folder: Path, meta: dict[str, Any], keep: bool) -> None:
    """Cut off a line that a kill tore (or everything), so that whole lines can be appended."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / PREDICTIONS).open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1 if keep else 0)
    if not keep:
        text = json.dumps(meta, indent=1, ensure_ascii=False) + "\n"
        replace_file(folder / META, text.encode(), "predictions-meta")


def _render(
    samples: Sequence[QASample], prompter: Prompter, model: VideoLLM, videos: VideoReader
) -> Iterator[tuple[QASample, Item]]:
    """Questions with their videos, sorted by video and length; a bad one is found before any."""
    encoded = [(s, prompter.encode(s.question, where=f"sample {s.sample_id}")) for s in samples]
    encoded.sort(key=lambda pair: (pair[0].video_id, len(pair[1].ids), pair[0].sample_id))
    for sample, prompt in encoded:
        video = videos[sample.video_id]
        count = model.projector.num_tokens(len(video.temporal), len(video.spatial))
        yield sample, Item((sample.sample_id,), prompter.expand(prompt, count), video)


def _row(sample: QASample, reply: Answer | None, lost: str | None) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id,
        "video_id": sample.video_id,
        "type": sample.type,
        "question": sample.question,
        "answer": sample.answer,
        "pred": reply.text if reply else None,
        "lost": lost,
        "finish_reason": reply.finish_reason if reply else None,
        "num_tokens": reply.num_tokens if reply else None,
    }


def _progress() -> Progress:
    bar, left = BarColumn(), TimeRemainingColumn()
    return Progress(TextColumn("{task.description}"), bar, MofNCompleteColumn(), left)
