"""What people do today, to be measured against: one question a row, in transformers' Trainer.

Rows are padded to the longest of their batch, the LLM gets the labels and makes logits of every
position, and the Trainer divides the loss by the answer tokens of the whole optimizer step. The
projectors, their start, the frozen LLM, AdamW and its schedule are ours, so that only the loop
differs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from benchmarks.train_world import TrainWorld
from features.annotations import load_annotations
from features.config import Budget
from features.store import FeatureStore
from train.image_llm import ImageLLM, load_image_llm
from train.projectors import ProjectorSwitches, VideoProjector
from train.prompt import IGNORE, Prompter
from train.splice import splice


@dataclass(frozen=True)
class PlainRun:
    """What became of it, by step."""

    losses: list[float]
    seconds: list[float]
    """From the end of one step to the end of the next; the first from when all was loaded."""


def train_plain(
    world: TrainWorld, steps: Sequence[Sequence[str]], rows: int, scratch: Path
) -> PlainRun:
    """Train on the questions of these ids, step by step.

    Args:
        world: base, store and questions.
        steps: ids of the questions of each optimizer step, equally many; `rows` divides them.
        rows: questions that pass through the LLM at once.
        scratch: a folder for the Trainer.
    """
    llm = load_image_llm(world.base)
    model = _PlainVideoLLM(llm)
    data = _Rows(world, llm, [sample_id for step in steps for sample_id in step])
    budget = Budget()
    optimizer = torch.optim.AdamW(
        model.projector.parameters(), budget.lr, weight_decay=budget.weight_decay
    )
    warmup = math.ceil(budget.warmup * len(steps))
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, len(steps))
    options = TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=len(steps[0]) // rows,
        num_train_epochs=1,
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    clock = _Clock()
    trainer = Trainer(
        model,
        options,
        data_collator=data.collate,
        train_dataset=data,
        optimizers=(optimizer, schedule),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return PlainRun(losses, clock.seconds)


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._since)
        self._since = now


class _PlainVideoLLM(nn.Module):
    accepts_loss_kwargs = True  # so the Trainer tells the answer tokens of the whole step

    def __init__(self, base: ImageLLM) -> None:
        super().__init__()
        self.projector = VideoProjector(base.aligner, base.hidden_size, ProjectorSwitches())
        self.llm: Any = base.llm
        self.image_token_id = base.image_token_id

    def forward(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"],
        labels: Int[Tensor, "B L"],
        temporal: Float[Tensor, "B T D"],
        spatial: Float[Tensor, "B N D"],
        num_items_in_batch: Tensor | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        exists = [torch.ones(x.shape[:2], dtype=torch.bool) for x in (temporal, spatial)]
        tokens, valid = self.projector(temporal, exists[0], spatial, exists[1])
        embeds = self.llm.get_input_embeddings()(input_ids)
        embeds = splice(embeds, input_ids, self.image_token_id, tokens, valid)
        out = self.llm(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            labels=labels,
            num_items_in_batch=num_items_in_batch,
            use_cache=False,
        )
        return {"loss": out.loss}


class _Rows(Dataset[dict[str, Tensor]]):
    """The questions in their order, tokenised beforehand; features are read once and kept."""

    def __init__(self, world: TrainWorld, llm: ImageLLM, ids: Sequence[str]) -> None:
        self._store, self._pad = FeatureStore(world.store), llm.pad_token_id
        samples = load_annotations(world.dataset.splits["train"])
        by_id = {sample.sample_id: sample for sample in samples}
        self._samples = [by_id[sample_id] for sample_id in ids]
        self._videos: dict[str, tuple[Tensor, Tensor]] = {}
        prompter = Prompter.of(world.base, llm)
        count = sum(len(x) for x in self._video(self._samples[0].video_id))
        self._prompts = [prompter.render(s.question, s.answer, count) for s in self._samples]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        prompt = self._prompts[index]
        temporal, spatial = self._video(self._samples[index].video_id)
        ids, labels = torch.from_numpy(prompt.input_ids), torch.from_numpy(prompt.labels)
        return {"input_ids": ids, "labels": labels, "temporal": temporal, "spatial": spatial}

    def _video(self, video_id: str) -> tuple[Tensor, Tensor]:
        if video_id not in self._videos:
            found = self._store[video_id]
            arrays = found.temporal, found.spatial
            temporal, spatial = (torch.from_numpy(x).float() for x in arrays)
            self._videos[video_id] = temporal, spatial
        return self._videos[video_id]

    def collate(self, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        ids = [row["input_ids"] for row in rows]
        return {
            "input_ids": pad_sequence(ids, True, self._pad),
            "attention_mask": pad_sequence([torch.ones_like(x) for x in ids], True, 0),
            "labels": pad_sequence([row["labels"] for row in rows], True, IGNORE),
            "temporal": torch.stack([row["temporal"] for row in rows]),
            "spatial": torch.stack([row["spatial"] for row in rows]),
        }
