"""Translated answers as an evaluation of their own: judged in the other language's references."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.answer_files import to_line
from eval.folders import (
    META,
    PREDICTIONS,
    eval_folder,
    prediction_row,
    read_meta,
    read_predictions,
    read_rows,
)
from eval.translations import route_of, translated_split
from features.annotations import QASample, annotations_digest
from features.config import DatasetConfig
from features.durable import file_sha256, replace_file, replace_json
from features.errors import RedVillmError, few
from features.translation import Translation, read_translation

FAILED = "translation failed"
"""Code of an answer that has no translation; a rejected one is not in the file at all."""
NOT_ASKED = "not asked"
"""Code of a question whose translation was left out, so that nobody could answer it."""
_TRANSLATED = ("pred", "pred2", "lost")
_DECODED = ("finish_reason", "finish_reason2", "num_tokens", "num_tokens2")
_Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TranslatedSummary:
    """What became of the answers."""

    folder: Path
    translated: int
    failed: int
    """Lost here, with the code `translation failed`."""
    not_asked: int
    """Lost here, with the code `not asked`."""


def add_translated(
    folder: Path, file: Path, samples: Sequence[QASample], dataset: DatasetConfig, split: str
) -> TranslatedSummary:
    """Make `<run>/eval/<dataset>/<split>.zh-en` of answers and their translations.

    Joined by sample id alone, which translating annotations leaves as it is. The folder can be
    judged and reported like any other. A question that was left out of the other language, and so
    was never asked, is lost. Made again, as after a review, it takes the new texts, and
    what was said of the old ones counts no more.

    Args:
        folder: `<run>/eval/<other dataset>/<split>` with the answers as they were given.
        file: its predictions.jsonl, translated, its record beside it (features/translation.py).
        samples: all questions of the split in the language of the translations.
        dataset: the dataset they are of.
        split: its split.

    Raises:
        RedVillmError: the file has no record of a translation, or is of other answers, or has
            answers in it that were not translated; or questions were asked that are not of these,
            or these very ones, in whose language the answers are no more, or not all are answered.
    """
    record, meta = _record_of(file), read_meta(folder)
    if route := route_of(meta):
        raise RedVillmError("these answers were translated already", where=folder, got=route)
    if (annotations := annotations_digest(samples)) == meta["annotations"]:
        what, do = "these are the questions that were asked", "name the dataset translated from"
        raise RedVillmError(what, where=folder, got=f"{dataset.name}, {split}", do=do)
    rows = {row["sample_id"]: row for row in read_predictions(folder)}
    texts = {row["sample_id"]: row for row in read_rows(file)}
    _check_same_questions(rows, samples, folder, dataset.name)
    _check_same_answers(rows, texts, file, folder)
    if len(rows) < meta.get("questions", 0):
        got = f"{len(rows):,} answers to {meta['questions']:,} questions"
        raise RedVillmError("not all questions are answered", where=folder, got=got)
    joined = [_joined(s, rows.get(s.sample_id), texts.get(s.sample_id)) for s in samples]
    lost = [rows[row["sample_id"]] for row in joined if row["lost"] == FAILED]
    missing = sum(bool(row[name]) for row in lost for name in ("pred", "pred2"))
    if missing < record.failed:
        got = f"{missing} texts are missing, {record.failed} have no translation"
        do = "translate what failed, or leave it out: as it is it would be judged wrong"
        raise RedVillmError("the source stands for a translation", where=file, got=got, do=do)
    run = Path(os.path.normpath(folder / "../../.."))  # the folder may be `.`
    target = eval_folder(run, dataset.name, translated_split(split, record.direction))
    facts = {
        "dataset": dataset.name,
        "split": split,
        "annotations": annotations,
        "questions": len(samples),
        "aspects": list(dataset.splits[split].aspects),
        "type_names": list(dataset.type_names),
        "translations": [*meta.get("translations", ()), asdict(record)],
        "translated_from": {name: meta[name] for name in ("dataset", "split", "annotations")}
        | {"predictions": file_sha256(folder / PREDICTIONS)},
    }
    replace_json(target / META, meta | facts, "predictions-meta")
    lines = "".join(to_line(row) for row in joined)
    replace_file(target / PREDICTIONS, lines.encode(errors="backslashreplace"), "predictions")
    counts = Counter(row["lost"] for row in joined)
    return TranslatedSummary(target, counts[None], counts[FAILED], counts[NOT_ASKED])


def _record_of(file: Path) -> Translation:
    record = read_translation(file)
    if record is None or record.what != "predictions":
        got = "no record beside it" if record is None else record.label
        do = "translate predictions.jsonl with `python -m pipelines translate`"
        raise RedVillmError("not translated predictions", where=file, got=got, do=do)
    return record


def _check_same_questions(
    rows: _Rows, samples: Sequence[QASample], folder: Path, name: str
) -> None:
    asked = {sample.sample_id: sample for sample in samples}
    other = {
        key
        for key in set(rows) & set(asked)
        if rows[key]["video_id"] != asked[key].video_id
        or (rows[key]["question2"] is None) != (asked[key].question2 is None)
    }
    unknown = set(rows) - set(asked)
    if unknown or other:
        alone = {f"answered, and not in {name}": unknown}
        alone |= {f"in {name}, and not answered": set(asked) - set(rows)}  # alone no fault
        alone |= {"about another video": other}
        raise RedVillmError(
            "the answers are to other questions",
            where=folder,
            got="; ".join(f"{what}: {few(sorted(ids))}" for what, ids in alone.items() if ids),
            do="name the dataset and split whose annotations were translated",
        )


def _check_same_answers(rows: _Rows, texts: _Rows, file: Path, folder: Path) -> None:
    """All but the texts is as it was; translations may be missing, none is of another answer."""
    other = [
        key
        for key, row in texts.items()
        if key not in rows or _untranslated(row) != _untranslated(rows[key])
    ]
    if other:
        do = f"translate {folder / PREDICTIONS} (again)"
        raise RedVillmError("translations of other answers", where=file, got=few(other), do=do)


def _untranslated(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _TRANSLATED}


def _joined(
    sample: QASample, ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The question and reference of one language with the translated answer to the other's."""
    if ours is None:
        return prediction_row(sample, None, None, NOT_ASKED)
    said = ours["pred"], ours["pred2"]
    texts = (theirs["pred"], theirs["pred2"]) if theirs else (None, None)
    lost = ours["lost"]
    if lost is None and (theirs is None or any(map(_is_missing, said, texts))):
        lost = FAILED
    pred, pred2 = texts if lost is None else (None, None)
    row = prediction_row(sample, pred, pred2, lost)
    return row | {name: ours.get(name) for name in _DECODED}


def _is_missing(said: str | None, text: str | None) -> bool:
    """Whether something was said that has no translation; who said nothing needs none."""
    return bool((said or "").strip()) and not (text or "").strip()
