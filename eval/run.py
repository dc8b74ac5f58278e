"""One evaluation from end to end: generate, judge, summarise.

A headline is only given when nearly all that was asked was also judged: dropping what failed and
averaging the rest is the easiest way to a number that nobody should believe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.answer_files import PARTS
from eval.folders import (
    JUDGES,
    PREDICTIONS,
    SUMMARY,
    VERDICTS,
    read_judged,
    read_meta,
    read_predictions,
)
from eval.generate import GenerateConfig, generate
from eval.judges.base import JUDGE, Cost, Judge, JudgeItem, JudgeRecord, Verdict, write_verdicts
from eval.metrics import overlaps, questions_of, score_by_type, withhold
from eval.scores import MIN_COVERAGE, TypeScore
from eval.translations import split_name, translations_label
from features.config import Aspect, BaseConfig, DatasetConfig
from features.durable import file_sha256, replace_json
from features.errors import RedVillmError, few
from features.spec import SCHEMA_VERSION
from features.store import FeatureStore

UNFINISHED = ("api_failure", "not_asked")
"""Outcomes that another attempt, or more budget, can mend."""


@dataclass(frozen=True)
class EvalSummary:
    """What one judge said of the answers to one split."""

    dataset: str
    split: str
    judge: JudgeRecord
    scores: dict[Aspect, dict[str, TypeScore]]
    """By aspect, then by type, and `all`."""
    refused: dict[Aspect, str]
    """Aspects without a headline, and why."""
    lost: dict[str, int]
    """Questions without an answer, by the code of the reason."""
    folder: Path
    """The judge's."""
    translations: str = ""
    """What was translated before it was judged, and which way; empty: nothing."""

    @property
    def headline(self) -> dict[Aspect, float | None]:
        """Accuracy in percent, or the score of an aspect that knows no right and wrong."""
        totals = {aspect: scores["all"] for aspect, scores in self.scores.items()}
        return {a: t.accuracy if a == "qa" else t.score for a, t in totals.items()}

    def __str__(self) -> str:
        told = []
        for aspect, value in self.headline.items():
            unit = "%" if aspect == "qa" else f"of 5 for {aspect}"
            told.append(
                self.refused.get(aspect) or f"{value:.{1 if aspect == 'qa' else 2}f} {unit}"
            )
        which = f"{self.dataset} {self.split}" + (self.translations and f" - {self.translations}")
        return f"{', '.join(told)} ({self.judge.label}, {which}); {self.folder}"


def evaluate(
    config: GenerateConfig,
    base: BaseConfig,
    dataset: DatasetConfig,
    run: Path,
    store: FeatureStore,
    judge: Judge,
    min_coverage: float = MIN_COVERAGE,
) -> EvalSummary:
    """Answer, judge and summarise one split with one trained run; resumes what was begun.

    Args:
        config: the split and how to decode.
        base: the Image LLM the run was trained on.
        dataset: names the annotations of the split.
        run: folder of the run, or of exported or imported projectors.
        store: features of the dataset's videos.
        judge: who judges.
        min_coverage: share of the questions that must have been judged for a headline.

    Raises:
        RedVillmError: see `generate` and the judge.
    """
    return judge_answers(generate(config, base, dataset, run, store), judge, min_coverage)


def judge_answers(
    folder: Path,
    judge: Judge,
    min_coverage: float = MIN_COVERAGE,
    again: bool = False,
    before: Callable[[Cost], None] = lambda cost: None,
) -> EvalSummary:
    """Judge the answers in a folder for every aspect of their split, and summarise.

    Args:
        folder: with predictions.jsonl and its meta file.
        judge: who judges.
        min_coverage: share of the questions that must have been judged for a headline.
        again: ask the judge even where it has said all it can; what it keeps is not paid for twice.
        before: told what asking will take, before anything is sent.

    Raises:
        RedVillmError: the answers are not all there, or the judge cannot be asked.
    """
    # Of the answers that are read now: others may lie there when a judge of hours is done.
    digest = file_sha256(folder / PREDICTIONS) if (folder / PREDICTIONS).exists() else ""
    meta, rows = _finished(folder)
    where = folder / JUDGES / judge.record.slug
    verdicts, cost = _judged_before(where, judge, meta, rows, again)
    if verdicts is None:
        if cost.requests:
            before(cost)
        verdicts = judge_rows(judge, rows, meta["aspects"])
        (where / SUMMARY).unlink(missing_ok=True)
        replace_json(where / JUDGE, asdict(judge.record), "judge")
        write_verdicts(where / VERDICTS, verdicts)
    summary = _summarise(where, meta, rows, judge.record, verdicts, min_coverage)
    record = {k: v for k, v in asdict(summary).items() if k not in ("folder", "judge")}
    facts = {"schema": SCHEMA_VERSION, "headline": summary.headline, "predictions": digest}
    told = {**facts, **record, "judge": judge.record.label, "meta": meta}
    replace_json(where / SUMMARY, told, "summary")
    return summary


def cost_of(folder: Path, judge: Judge, again: bool = False) -> Cost:
    """What `judge_answers` would take; nothing is sent.

    Raises:
        RedVillmError: the answers cannot be read or are not all there.
    """
    meta, rows = _finished(folder)
    return _judged_before(folder / JUDGES / judge.record.slug, judge, meta, rows, again)[1]


def judge_rows(
    judge: Judge, rows: Sequence[Mapping[str, Any]], aspects: Sequence[Aspect]
) -> list[Verdict]:
    """A verdict for each row and aspect, sorted; what has no answer is lost and never judged."""
    lost = [
        Verdict(row["sample_id"], aspect, "lost", reason=row["lost"] or "")
        for row in rows
        for aspect in aspects
        if row["pred"] is None
    ]
    found = judge(judge_items(rows, aspects))
    return sorted([*lost, *found], key=lambda verdict: (verdict.sample_id, verdict.aspect))


def judge_items(rows: Sequence[Mapping[str, Any]], aspects: Sequence[Aspect]) -> list[JudgeItem]:
    """What there is to judge in rows of predictions.jsonl, in a fixed order."""
    shown = ("question", "answer", "pred", "question2", "pred2")
    return [
        JudgeItem(row["sample_id"], aspect, **{name: row[name] for name in shown})
        for row in sorted(rows, key=lambda row: str(row["sample_id"]))
        for aspect in aspects
        if row["pred"] is not None
    ]


def _finished(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Meta and rows of a folder in which every question has its row.

    Raises:
        RedVillmError: one has not.
    """
    meta, rows = read_meta(folder), read_predictions(folder)
    parts = sorted(path.name for path in folder.glob(PARTS))
    wanted = meta.get("questions", len(rows))
    if not rows or parts or len(rows) != wanted:
        raise RedVillmError(
            "the answers are not all there",
            where=folder,
            got=f"{len(rows)} of {wanted}" + (f" and {few(parts)}" if parts else ""),
            do="run the evaluation again: it goes on from there",
        )
    return meta, rows


def _judged_before(
    where: Path, judge: Judge, meta: Mapping[str, Any], rows: Sequence[dict[str, Any]], again: bool
) -> tuple[list[Verdict] | None, Cost]:
    """The verdicts that are there, if asking would cost something and mend nothing; and the cost.

    What costs nothing is judged anew, so that what reads replies can get better.
    """
    cost = judge.estimate(judge_items(rows, meta["aspects"]))
    if again or not cost.requests:
        return None, cost
    try:
        verdicts = read_judged(where).verdicts
    except RedVillmError:
        return None, cost
    wanted = {(row["sample_id"], aspect) for row in rows for aspect in meta["aspects"]}
    whole = {(v.sample_id, v.aspect) for v in verdicts} == wanted and len(verdicts) == len(wanted)
    if whole and all(v.outcome not in UNFINISHED for v in verdicts):
        return verdicts, Cost(cached=len(verdicts))
    return None, cost


def _summarise(
    where: Path,
    meta: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    record: JudgeRecord,
    verdicts: Sequence[Verdict],
    min_coverage: float,
) -> EvalSummary:
    questions = questions_of(rows, meta["type_names"])
    scores: dict[Aspect, dict[str, TypeScore]] = {}
    refused: dict[Aspect, str] = {}
    words = [overlaps(rows)]
    for aspect in meta["aspects"]:
        about = [verdict for verdict in verdicts if verdict.aspect == aspect]
        found = score_by_type(questions, [about], words)
        scores[aspect], message = withhold(found, min_coverage)
        if message is not None:
            refused[aspect] = message
    lost = dict(sorted(Counter(row["lost"] for row in rows if row["lost"]).items()))
    facts = meta["dataset"], split_name(meta), record, scores, refused, lost, where
    return EvalSummary(*facts, translations_label([meta]))
