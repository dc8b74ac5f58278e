"""Where the answers of a run lie, and what was said about them.

<run>/eval/<dataset>/<split>/ (`<split>.zh-en/` for translated answers, see translated.py) holds
- `predictions.jsonl`, a row a question, and `predictions.meta.json`, what the answers depend on;
- `judges/<judge>/` with `judge.json`, `verdicts.jsonl`, a row a question and aspect, and
  `summary.json`, the scores, written last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.judges.base import JUDGE, JudgeRecord, Verdict, read_verdicts
from features.annotations import QASample
from features.durable import escape_name, file_sha256
from features.errors import RedVillmError
from features.spec import check_schema

PREDICTIONS, META = "predictions.jsonl", "predictions.meta.json"
JUDGES, VERDICTS, SUMMARY = "judges", "verdicts.jsonl", "summary.json"


def eval_folder(run: Path, dataset: str, split: str) -> Path:
    """Where the answers of a run to a split lie."""
    return run / "eval" / escape_name(dataset) / escape_name(split)


def prediction_row(
    sample: QASample, pred: str | None, pred2: str | None = None, lost: str | None = None
) -> dict[str, Any]:
    """A row of predictions.jsonl; who decoded adds how that went."""
    return {
        "sample_id": sample.sample_id,
        "video_id": sample.video_id,
        "type": sample.type,
        "question": sample.question,
        "question2": sample.question2,
        "answer": sample.answer,
        "pred": pred,
        "pred2": pred2,
        "lost": lost,
        "finish_reason": None,
        "finish_reason2": None,
        "num_tokens": None,
        "num_tokens2": None,
    }


@dataclass(frozen=True)
class EvalFolder:
    """A finished judgement: answers and what one judge said of them."""

    path: Path
    """The judge's folder."""
    meta: dict[str, Any]
    """predictions.meta.json: everything the answers depend on, and `dataset`, `split`, `aspects`,
    `type_names`."""
    predictions: list[dict[str, Any]]
    judge: JudgeRecord
    verdicts: list[Verdict]


def read_judged(folder: Path, other: EvalFolder | None = None) -> EvalFolder:
    """Read `<...>/judges/<judge>` back.

    Args:
        folder: the judge's folder.
        other: another judge's judgement of the same answers, which are then not read again.

    Raises:
        RedVillmError: it is unfinished, or the predictions changed after they were judged.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        record = JudgeRecord(**json.loads((folder / JUDGE).read_text(encoding="utf-8")))
        changed = summary["predictions"] != file_sha256(folder.parents[1] / PREDICTIONS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "run the evaluation (again)"
        raise RedVillmError("no finished evaluation", where=folder, got=error, do=do) from error
    if changed:
        do = "run the evaluation again"
        raise RedVillmError("predictions changed after they were judged", where=folder, do=do)
    answers = folder.parents[1]
    meta = read_meta(answers) if other is None else other.meta
    predictions = read_predictions(answers) if other is None else other.predictions
    return EvalFolder(folder, meta, predictions, record, read_verdicts(folder / VERDICTS))


def read_meta(folder: Path) -> dict[str, Any]:
    """What the predictions in a folder depend on.

    Raises:
        RedVillmError: missing, damaged or of another schema version.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        check_schema(meta, folder / META)
    except (OSError, ValueError, AttributeError) as error:
        do = "generate again with resume false"
        raise RedVillmError("cannot read", where=folder / META, got=error, do=do) from error
    return meta


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """Rows of predictions.jsonl; see `read_rows`."""
    return read_rows(folder / PREDICTIONS)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of answers, whole lines only: a torn last line does not exist.

    Raises:
        RedVillmError: missing, damaged before its end, or an id repeats.
    """
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
