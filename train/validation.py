"""The loss on validation questions: which projectors were the best, and when to end early."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.batch import Batch, collate
from train.distributed import sum_numbers
from train.questions import QuestionDataset
from train.shard import idle_pass, passes_lacking
from train.steps import Rank, epoch_rows, group_rows
from train.video_llm import VideoLLM, trainable


class Batches:
    """A rank's share of `count` questions (or all), the same for all runs.

    Whole rows are drawn, so there may be a few more. Features are read anew each time: kept, those
    of 500 videos are gigabytes.
    """

    def __init__(
        self,
        questions: QuestionDataset,
        count: int,
        per_row: int,
        rank: Rank,
        limits: tuple[int, int, int],
    ) -> None:
        """Limits are padding's id, most questions and most tokens of a batch."""
        rows = epoch_rows(questions.videos, per_row, np.random.default_rng(0))
        ends = np.cumsum([len(row) for row in rows])
        chosen = rows[: int(np.searchsorted(ends, count)) + 1]
        mine = rank.share(chosen, questions.cost)
        self._questions, self._pad = questions, limits[0]
        sizes = [(questions.cost(row), len(row)) for row in mine]
        self._groups = [[mine[i] for i in group] for group in group_rows(sizes, *limits[1:])]

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Batch]:
        for group in self._groups:
            yield collate([self._questions[row] for row in group], self._pad)


class Validation:
    """Every so many steps the mean loss over the answer tokens of the same questions.

    The best projectors so far are kept in memory and go with the state of the run.
    """

    def __init__(self, batches: Batches, every: int, patience: int) -> None:
        """Args are what is asked and what follows from it.

        Args:
            batches: this rank's share of the questions.
            every: optimizer steps between validations.
            patience: validations without a better loss after which to end; 0: never.
        """
        self._batches, self._every, self._patience = batches, every, patience
        self.best_loss, self.best_step, self._worse = math.inf, 0, 0
        self.best: dict[str, Tensor] = {}

    @property
    def ended(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self._patience <= self._worse

    def after_step(self, model: VideoLLM, step: int, last: bool) -> dict[str, float]:
        """Validate if it is time, and after the last step; {"val_loss": ...}, or nothing."""
        if step % self._every and not last:
            return {}
        loss = validation_loss(model, self._batches)
        if loss < self.best_loss:
            self.best_loss, self.best_step, self._worse = loss, step, 0
            tensors = trainable(model.projector)
            self.best = {k: p.detach().to("cpu", copy=True) for k, p in tensors.items()}
        else:
            self._worse += 1
        return {"val_loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "worse": self._worse,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.best_loss, self.best_step = state["best_loss"], state["best_step"]
        self._worse, self.best = state["worse"], state["best"]


@torch.no_grad()
def validation_loss(model: VideoLLM, batches: Batches) -> float:
    """Mean cross entropy over the answer tokens of all ranks' batches."""
    device, total, tokens = model.llm.device, 0.0, 0.0
    lacking = passes_lacking(model.llm, len(batches))
    for batch in batches:
        loss, count = model.loss(batch.to(device))
        total, tokens = total + loss.item(), tokens + count
    for _ in range(lacking):
        idle_pass(model.llm, backward=False)
    total, tokens = sum_numbers(device, total, tokens)
    return total / tokens
