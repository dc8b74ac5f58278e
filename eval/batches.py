"""The questions of a split in the batches in which they are asked, and the rows they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.answering import Answer
from eval.folders import prediction_row
from features.annotations import QASample
from train.prompt import Encoded, Prompter

Prompted = tuple[QASample, list[Encoded]]
"""A sample with each wording of its question."""


def in_batches(
    samples: Sequence[QASample], prompter: Prompter, batch_size: int
) -> list[list[Prompted]]:
    """Sorted by video and length. Both wordings of a question stay together: they are one row."""
    prompted: list[Prompted] = []
    for sample in samples:
        wordings = [sample.question, *([sample.question2] if sample.question2 is not None else [])]
        where = f"sample {sample.sample_id}"
        prompted.append((sample, [prompter.encode(text, where=where) for text in wordings]))
    prompted.sort(key=lambda p: (p[0].video_id, len(p[1][0].ids), p[0].sample_id))
    size = max(1, batch_size // max((len(wordings) for _, wordings in prompted), default=1))
    return [prompted[start : start + size] for start in range(0, len(prompted), size)]


def to_row(sample: QASample, replies: Sequence[Answer], lost: str | None) -> dict[str, Any]:
    """A row of predictions.jsonl: answers to each wording, or why there is none."""
    first = replies[0] if replies else None
    second = replies[1] if len(replies) > 1 else None
    pred, pred2 = (reply.text if reply else None for reply in (first, second))
    return prediction_row(sample, pred, pred2, lost) | {
        "finish_reason": first.finish_reason if first else None,
        "finish_reason2": second.finish_reason if second else None,
        "num_tokens": first.num_tokens if first else None,
        "num_tokens2": second.num_tokens if second else None,
    }
