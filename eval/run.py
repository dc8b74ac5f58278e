"""One evaluation from end to end: generate, judge, summarise; and reading its folder back.

A headline is only given when nearly all that was asked was also judged: dropping what failed and
averaging the rest is the easiest way to a number that nobody should believe.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.generate import GenerateConfig, generate, read_meta, read_predictions
from eval.judge import Judge, OfflineJudge, Verdict, read_verdicts, write_verdicts
from eval.metrics import Question, TypeScore, score_by_type, withhold
from features.config import BaseConfig, DatasetConfig
from features.durable import file_sha256, replace_file
from features.errors import RedVillmError
from features.spec import SCHEMA_VERSION
from features.store import FeatureStore

MIN_COVERAGE = 0.99


@dataclass(frozen=True)
class EvalFolder:
    """What `evaluate` left in <run>/eval/<split>."""

    path: Path
    meta: dict[str, Any]
    """predictions.meta.json: everything the answers depend on."""
    predictions: list[dict[str, Any]]
    verdicts: list[Verdict]

    @property
    def questions(self) -> list[Question]:
        """All that was asked, sorted by id."""
        rows = sorted(self.predictions, key=lambda row: str(row["sample_id"]))
        return [Question(row["sample_id"], row["video_id"], row["type"]) for row in rows]


@dataclass(frozen=True)
class EvalSummary:
    """The result of one evaluation."""

    split: str
    judge: str
    scores: dict[str, TypeScore]
    """By type, and `all`."""
    refused: str | None
    """Why there is no headline (None: there is one)."""
    lost: dict[str, int]
    """Lost questions by the code of the reason."""
    folder: Path

    @property
    def headline(self) -> float | None:
        """Accuracy over all questions in percent, or None when too few were judged."""
        return self.scores["all"].accuracy


def evaluate(
    config: GenerateConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    run: Path,
    store: FeatureStore,
    *,
    judge: Judge | None = None,
    min_coverage: float = MIN_COVERAGE,
) -> EvalSummary:
    """Answer, judge and summarise one split with one trained run; resumes what was begun.

    Args:
        config: the split and how to decode.
        base: the Image LLM the run was trained on.
        dataset: names the annotations of the split.
        run: folder of the run, or of exported or imported projectors.
        store: features of the dataset's videos.
        judge: the offline judge unless given.
        min_coverage: share of the questions that must have been judged for a headline.

    Raises:
        RedVillmError: see `generate`.
    """
    judge = judge or OfflineJudge()
    folder = generate(config, base, dataset, run, store)
    write_verdicts(folder / "verdicts.jsonl", judge(read_predictions(folder)))
    found = EvalFolder(
        folder,
        read_meta(folder),
        read_predictions(folder),
        read_verdicts(folder / "verdicts.jsonl"),
    )
    scores, refused = withhold(score_by_type(found.questions, [found.verdicts]), min_coverage)
    lost = dict(sorted(Counter(r["lost"] for r in found.predictions if r["lost"]).items()))
    summary = EvalSummary(config.split, judge.name, scores, refused, lost, folder)
    record = {
        "schema": SCHEMA_VERSION,
        "headline": summary.headline,
        **{k: v for k, v in asdict(summary).items() if k != "folder"},
        "predictions": file_sha256(folder / "predictions.jsonl"),
        "meta": found.meta,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    replace_file(folder / "summary.json", text.encode(), "summary")
    return summary


def read_eval(folder: Path) -> EvalFolder:
    """Read a finished evaluation back.

    Raises:
        RedVillmError: it is unfinished, or the predictions changed after they were judged.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        changed = summary["predictions"] != file_sha256(folder / "predictions.jsonl")
    except (OSError, ValueError, KeyError) as error:
        do = "run the evaluation (again)"
        raise RedVillmError("no finished evaluation", where=folder, got=error, do=do) from error
    if changed:
        do = "run the evaluation again"
        raise RedVillmError("predictions changed after they were judged", where=folder, do=do)
    verdicts = read_verdicts(folder / "verdicts.jsonl")
    return EvalFolder(folder, read_meta(folder), read_predictions(folder), verdicts)
