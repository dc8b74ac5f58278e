"""Which questions form an optimizer step, which rank computes them, and in what micro-batches.

One item of the loader is one optimizer step: exactly the recipe's number of questions (over all
ranks), cut into micro-batches of similar length. Which questions form a step depends on the seed
and on how many share a row, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch.utils.data import DataLoader, Sampler

from train.batch import Batch, Item, collate
from train.questions import QuestionDataset, Row


@dataclass(frozen=True)
class Rank:
    """One of the processes that share a step."""

    index: int = 0
    count: int = 1

    def share(self, rows: Sequence[Row], cost: Callable[[Row], int]) -> list[Row]:
        """This rank's rows of a step: the dearest first, each to whoever has least so far."""
        shares: list[list[Row]] = [[] for _ in range(self.count)]
        loads = [0] * self.count
        for row in sorted(rows, key=cost, reverse=True):
            least = loads.index(min(loads))
            shares[least].append(row)
            loads[least] += cost(row)
        return shares[self.index]


class StepSampler(Sampler[list[Row]]):
    """Rows of each optimizer step: seeded orders of all questions end to end, cut into full steps.

    A step may straddle two epochs; what is left at the very end is `dropped`. Questions that share
    a row stay together, except where a step is full. The order is a function of the arguments
    alone, so a position in it is a step number.
    """

    def __init__(
        self,
        questions: QuestionDataset,
        batch_size: int,
        epochs: int,
        seed: int,
        questions_per_row: int = 1,
        max_steps: int | None = None,
        rank: Rank = Rank(),
        start: int = 0,
    ) -> None:
        """Args are what decides the order, and whose share it is from which step on.

        Args:
            questions: what is asked.
            batch_size: questions a step, of all ranks.
            epochs: passes over the questions.
            seed: of the order.
            questions_per_row: most questions about one video that share a row.
            max_steps: steps at most.
            rank: whose share of each step.
            start: steps that have been made; the length counts them.
        """
        self._questions, self._rank, self._start = questions, rank, start
        self._batch_size, self._epochs, self._seed = batch_size, epochs, seed
        self._per_row = questions_per_row
        whole = len(questions) * epochs // batch_size
        self._num_steps = whole if max_steps is None else min(whole, max_steps)
        self.dropped = len(questions) * epochs - self._num_steps * batch_size

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[Row]]:
        left, step, room = self._num_steps, list[Row](), self._batch_size
        for row in self._stream() if left else ():
            while row:
                head, row = row[:room], row[room:]
                step.append(head)
                room -= len(head)
                if not room:
                    if self._num_steps - left >= self._start:
                        yield self._rank.share(step, self._questions.cost)
                    left, step, room = left - 1, [], self._batch_size
                    if not left:
                        return

    def _stream(self) -> Iterator[Row]:
        for epoch in range(self._epochs):
            rng = np.random.default_rng([self._seed, epoch])
            yield from epoch_rows(self._questions.videos, self._per_row, rng)


def epoch_rows(videos: Sequence[str], most: int, rng: np.random.Generator) -> list[Row]:
    """All questions once, in random order, in rows of at most `most` about one video.

    Args:
        videos: the video of each question.
        most: questions a row; with 1 the order is that of a plain permutation.
        rng: decides the order and which of a video's questions share a row.
    """
    order = rng.permutation(len(videos))
    place = np.argsort(order)
    by_video: dict[str, list[int]] = {}
    for index in order.tolist():
        by_video.setdefault(videos[index], []).append(index)
    rows = [tuple(v[i : i + most]) for v in by_video.values() for i in range(0, len(v), most)]
    # By one of its places, whichever: the first one would put long rows early in the epoch.
    return sorted(rows, key=lambda row: place[min(row)])


def cut_step(
    items: Sequence[Item], pad_token_id: int, max_questions: int, max_tokens: int
) -> list[Batch]:
    """Cut a step into micro-batches of rows of similar length, longest first.

    Args:
        items: the step's rows (this rank's; there may be none).
        pad_token_id: fills input_ids.
        max_questions: most questions a micro-batch.
        max_tokens: most tokens a micro-batch, padding included. A row that has more of either goes
            alone.
    """
    sizes = [(len(item.prompt.input_ids), len(item.sample_ids)) for item in items]
    groups = group_rows(sizes, max_questions, max_tokens)
    return [collate([items[i] for i in group], pad_token_id) for group in groups]


def group_rows(
    sizes: Sequence[tuple[int, int]], max_questions: int, max_tokens: int
) -> list[list[int]]:
    """Indices of rows that go together, given each one's tokens and questions; see `cut_step`."""
    groups: list[list[int]] = []
    for row in sorted(range(len(sizes)), key=lambda row: -sizes[row][0]):
        together = [*groups[-1], row] if groups else [row]
        tokens = len(together) * sizes[together[0]][0]  # the first of a group is its longest
        questions = sum(sizes[one][1] for one in together)
        if len(together) > 1 and tokens <= max_tokens and questions <= max_questions:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def make_loader(
    dataset: QuestionDataset,
    sampler: StepSampler,
    pad_token_id: int,
    max_questions: int,
    max_tokens: int,
    num_workers: int = 0,
) -> DataLoader[Item]:
    """One item an optimizer step: the list of its micro-batches.

    It has no state to save, since the sampler begins at any step: one whose state is saved
    (torchdata's) refuses to go on with another number of workers.
    """
    cut = partial(
        cut_step, pad_token_id=pad_token_id, max_questions=max_questions, max_tokens=max_tokens
    )
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=cut, num_workers=num_workers)
