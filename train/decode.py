"""Decoding from embeddings, the same for every way of counting and looking.

Questions about one video pass it through the LLM once, and every step reads the LLM's weights once
for all questions of a batch. Positions are explicit and masks are by owner (shared_cache.py), so
each answer is computed as if its question were alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from train.batch import Item, collate
from train.prompt import PADDING_SEGMENT, Rendered
from train.shared_cache import Prefix, SharedCache
from train.video_llm import VideoLLM


@dataclass(frozen=True)
class Sampling:
    """Draw tokens instead of taking the likeliest."""

    temperature: float
    top_k: int
    """Only the so many likeliest tokens are drawn from."""
    draws: Float[Tensor, "B K"]
    """Uniform numbers from 0 to 1, one a question and token, on the CPU. They come from outside so
    that what a question draws does not depend on which others are asked with it."""


class Decoder:
    """Answers batches of questions; keeps the last video's prefix for the next batch."""

    def __init__(self, model: VideoLLM, stop_ids: Iterable[int], max_new_tokens: int) -> None:
        """Uses `model`; an answer ends with one of `stop_ids` or after `max_new_tokens`."""
        self._model, self._most = model, max_new_tokens
        self._stop_ids = frozenset(stop_ids)
        self._kept: Prefix | None = None

    @torch.inference_mode()
    def __call__(self, items: Sequence[Item], sampling: Sampling | None = None) -> list[list[int]]:
        """Each item's answer as token ids; the last one is a stop token unless it was cut off."""
        shared = [self._count_shared(item.prompt) for item in items]
        rests = [item.prompt.input_ids[n:] for item, n in zip(items, shared, strict=True)]
        state = self._begin(items, shared, rests)
        hidden = state.ends
        if unread := [q for q, rest in enumerate(rests) if len(rest)]:
            read = state.read(unread, [rests[q] for q in unread])
            hidden = hidden.index_copy(0, torch.tensor(unread, device=read.device), read)
        answers: list[list[int]] = [[] for _ in items]
        live = list(range(len(items)))
        for step in range(self._most):
            tokens = _choose(self._model.logits(hidden), sampling, live, step)
            for question, token in zip(live, tokens, strict=True):
                answers[question].append(token)
            live = [q for q in live if answers[q][-1] not in self._stop_ids]
            if not live or step + 1 == self._most:
                break
            hidden = state.read(live, [np.asarray(answers[q][-1:]) for q in live])
        return answers

    def _begin(
        self, items: Sequence[Item], shared: list[int], rests: list[Int[np.ndarray, " _"]]
    ) -> _State:
        """The questions behind their prefixes, with room for all of their tokens."""
        rows = _arrange(items, shared)
        prefixes = [self._prefix(items[row[0]], shared[row[0]]) for row in rows]
        room = max(sum(len(rests[q]) for q in row) for row in rows)
        room += (self._most - 1) * max(map(len, rows))
        return _State(self._model, rows, prefixes, room)

    def _count_shared(self, prompt: Rendered) -> int:
        """Tokens in front whose numbers no token behind them changes.

        All, where the prompt looks ahead as a whole; one at least, so that no row begins empty.
        """
        if self._model.attention == "bidirectional-prefix":
            return len(prompt.input_ids)
        return max(1, int((prompt.segment_ids == 0).sum()))

    def _prefix(self, item: Item, length: int) -> Prefix:
        """What a question shares with others, by itself and unpadded.

        So its numbers do not depend on what else is in the batch: one that was kept equals one that
        is computed again, to the last bit.
        """
        ids = item.prompt.input_ids[:length].tobytes()
        kept = self._kept
        if kept is not None and kept.video is item.video and kept.ids == ids:
            return kept
        self._kept = None
        prompt = Rendered(*(part[:length] for part in vars(item.prompt).values()))
        batch = collate([replace(item, prompt=prompt)], 0).to(self._model.llm.device)
        cache: Any = DynamicCache()
        last = self._model.hidden(batch, cache).last_hidden_state[0, -1].clone()
        layers = tuple((layer.keys, layer.values) for layer in cache.layers)
        shift = int(self._model.position_ids(batch).max()) + 1 - length
        self._kept = Prefix(item.video, ids, length, layers, last, shift)
        return self._kept


class _State:
    """How far the questions of one batch are."""

    def __init__(
        self, model: VideoLLM, rows: list[list[int]], prefixes: list[Prefix], room: int
    ) -> None:
        """Rows of questions behind their prefixes."""
        self._model, self._cache = model, SharedCache(prefixes, room)
        self._shifts = torch.tensor([prefix.shift for prefix in prefixes])[:, None]
        where = {q: (n, owner) for n, row in enumerate(rows) for owner, q in enumerate(row, 1)}
        self._row = {q: n for q, (n, _) in where.items()}
        self._owner = {q: owner for q, (_, owner) in where.items()}
        self._place = {q: prefixes[n].length for q, n in self._row.items()}
        self.ends = torch.stack([prefixes[self._row[q]].last for q in range(len(where))])
        """(B, H): hidden states behind the prefixes, for questions that have nothing behind."""

    def read(
        self, questions: list[int], pieces: list[Int[np.ndarray, " _"]]
    ) -> Float[Tensor, "Q H"]:
        """Pass the next tokens of some questions through the LLM; hidden states behind the last."""
        self._drop_rows({self._row[q] for q in questions})
        filled = [0] * len(self._shifts)
        for question, piece in zip(questions, pieces, strict=True):
            filled[self._row[question]] += len(piece)
        ids, owner, place = (np.zeros((len(filled), max(filled)), np.int64) for _ in range(3))
        owner[:] = PADDING_SEGMENT
        filled, ends = [0] * len(filled), []
        for question, piece in zip(questions, pieces, strict=True):
            row, start = self._row[question], self._place[question]
            part = row, slice(filled[row], filled[row] + len(piece))
            ids[part], owner[part] = piece, self._owner[question]
            place[part] = np.arange(start, start + len(piece))
            self._place[question] += len(piece)
            filled[row] += len(piece)
            ends.append(filled[row] - 1)
        grid = [torch.from_numpy(x) for x in (ids, owner, place)]
        hidden = self._pass(*grid)
        return hidden[[self._row[q] for q in questions], ends]

    def _pass(
        self, ids: Int[Tensor, "R W"], owner: Int[Tensor, "R W"], place: Int[Tensor, "R W"]
    ) -> Float[Tensor, "R W H"]:
        llm: Any = self._model.llm  # transformers does not type the parts of its models
        position = place + self._shifts
        if self._model.positions == "mrope":
            position = position.expand(3, -1, -1)
        to = llm.device
        masks = self._cache.extend(owner.to(to), place.to(to), llm.config, llm.dtype)
        passed = llm.model(
            inputs_embeds=llm.get_input_embeddings()(ids.to(to)),
            attention_mask=masks,
            position_ids=position.to(to),
            past_key_values=self._cache,
            use_cache=True,
        )
        hidden: Tensor = passed.last_hidden_state
        return hidden

    def _drop_rows(self, needed: set[int]) -> None:
        """Leave finished rows when they are half: so all copying together is one copy at most."""
        if 2 * len(needed) > len(self._shifts):
            return
        kept = sorted(needed)
        self._cache.keep(torch.tensor(kept))
        self._shifts = self._shifts[kept]
        number = {row: n for n, row in enumerate(kept)}
        self._row = {q: number[row] for q, row in self._row.items() if row in number}


def _arrange(items: Sequence[Item], shared: Sequence[int]) -> list[list[int]]:
    """Rows of questions that begin alike, none much longer than the others.

    A long row makes the others pay for padding, a short one holds the video for few questions.
    Reading a video's keys and values costs about as much as a token's arithmetic, on CPUs and GPUs
    and whatever the size of the LLM, as both grow with its layers and width: hence `+ 1`.
    """
    groups: dict[tuple[int, bytes], list[int]] = {}
    for question, (item, length) in enumerate(zip(items, shared, strict=True)):
        key = id(item.video), item.prompt.input_ids[:length].tobytes()
        groups.setdefault(key, []).append(question)
    sizes = [len(group) for group in groups.values()]
    widths = range(max(sizes), 0, -1)  # of equals the widest: it takes the least memory
    width = min(widths, key=lambda w: (w + 1) * sum(-(-size // w) for size in sizes))
    return [
        part.tolist()
        for group in groups.values()
        for part in np.array_split(group, -(-len(group) // width))
    ]


def _choose(
    logits: Float[Tensor, "Q V"], sampling: Sampling | None, questions: list[int], step: int
) -> list[int]:
    """The likeliest tokens, or drawn ones by inverting the distribution function."""
    if sampling is None:
        likeliest: list[int] = logits.argmax(dim=-1).tolist()
        return likeliest
    scores, ids = logits.topk(min(sampling.top_k, logits.shape[1]))
    mass = (scores.cpu().double() / sampling.temperature).softmax(dim=-1).cumsum(dim=-1)
    place = (mass[:, :-1] <= sampling.draws[questions, step][:, None]).sum(dim=-1, keepdim=True)
    drawn: list[int] = ids.cpu().gather(1, place)[:, 0].tolist()
    return drawn
