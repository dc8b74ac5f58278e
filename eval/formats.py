"""Predictions in the published forms, so that official scripts score our answers and ours theirs.

============= ====================================================================================
form          a row of the JSON list
============= ====================================================================================
`qa`          `{id, question, answer, pred}`: the four zero-shot sets. The id is ours.
`activitynet` `{video_name, Q, A, pred}`: what Video-ChatGPT's scorer of ActivityNet-QA reads; the
              name is without the dataset's prefix, as the questions have it.
`vcgbench`    the benchmark's own row and `pred`, or of the consistency form
              `{video_name, Q1, Q2, A, pred1, pred2}`.
============= ====================================================================================

Those scripts number the questions of a video as they stand in the file, so rows are written in the
order of the annotations. JSONL, as later projects write these rows, is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.answer_files import to_line
from eval.folders import META, PREDICTIONS, prediction_row, read_meta, read_predictions
from eval.published_rows import join, read_published
from eval.translations import annotation_translations
from features.annotations import QASample, annotations_digest, load_annotations
from features.config import DatasetConfig, SplitConfig
from features.durable import file_sha256, replace_file, replace_json
from features.errors import RedVillmError, few
from features.spec import SCHEMA_VERSION, require_same

Form = Literal["qa", "activitynet", "vcgbench"]
NO_PREDICTION = "no-prediction"
"""Code of a question that an imported file does not answer."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import came to."""

    folder: Path
    answered: int
    missing: int
    """Questions that the file does not answer: lost, with the code `no-prediction`."""


def export_predictions(folder: Path, target: Path, form: Form, split: SplitConfig) -> int:
    """Write the answers of an evaluation as a published file.

    Args:
        folder: with predictions.jsonl.
        target: the file to write.
        form: see above.
        split: the annotations that were answered.

    Returns:
        How many lost questions were left out: the scripts would score them.

    Raises:
        RedVillmError: the annotations changed, questions are not answered yet, or the form has no
            place for second answers.
    """
    samples = load_annotations(split)
    asked, theirs = annotations_digest(samples), read_meta(folder)["annotations"]
    where = {"ours_is": str(split.questions), "theirs_is": str(folder)}
    require_same("annotations", asked, theirs, **where)
    rows = {row["sample_id"]: row for row in read_predictions(folder)}
    waiting = [sample.sample_id for sample in samples if sample.sample_id not in rows]
    if waiting:
        do = "run the evaluation to its end"
        raise RedVillmError("not all is answered", where=folder, got=few(waiting), do=do)
    if form != "vcgbench" and any(sample.question2 is not None for sample in samples):
        what = "the form has no place for second answers"
        raise RedVillmError(what, where=folder, got=form, wanted="vcgbench")
    kept = [row for sample in samples if (row := rows[sample.sample_id])["lost"] is None]
    # ASCII: the scripts open files in whatever encoding the machine has
    text = json.dumps([_published(row, form, split.id_prefix) for row in kept], indent=1) + "\n"
    replace_file(target, text.encode("ascii"), "export")
    return len(samples) - len(kept)


def import_predictions(
    file: Path, samples: Sequence[QASample], dataset: DatasetConfig, split: str, folder: Path
) -> ImportSummary:
    """Make an evaluation folder of somebody's published answers, so that they can be judged.

    Answers are joined by id where the ids are ours, else by video, question and reference where
    that says which question is meant; never by position.

    Args:
        file: JSON list or JSONL of one of the forms.
        samples: all questions of the split.
        dataset: the dataset they are of.
        split: its split.
        folder: to write predictions.jsonl and its meta file into.

    Raises:
        RedVillmError: the file is malformed, answers something that was not asked, or leaves open
            what it answers; or the folder holds other answers.
    """
    prefix = dataset.splits[split].id_prefix
    found = join(read_published(file), samples, prefix)
    meta = {
        "schema": SCHEMA_VERSION,
        "dataset": dataset.name,
        "split": split,
        "annotations": annotations_digest(samples),
        "translations": annotation_translations(dataset.splits[split]),
        "questions": len(samples),
        "aspects": list(dataset.splits[split].aspects),
        "type_names": list(dataset.type_names),
        "source": file.name,
        "source_sha256": file_sha256(file),
    }
    if (folder / PREDICTIONS).exists():
        there = read_meta(folder).get("source_sha256")
        if there != meta["source_sha256"]:
            do = "import into another run"
            raise RedVillmError("there are other answers already", where=folder, do=do)
    rows = []
    for sample in samples:
        answer = found.get(sample.sample_id)
        said = (answer.pred, answer.pred2, None) if answer else (None, None, NO_PREDICTION)
        rows.append(prediction_row(sample, *said))
    lines = "".join(to_line(row) for row in rows)
    replace_json(folder / META, meta, "predictions-meta")
    replace_file(folder / PREDICTIONS, lines.encode(errors="backslashreplace"), "predictions")
    return ImportSummary(folder, len(found), len(samples) - len(found))


def _published(row: Mapping[str, Any], form: Form, prefix: str) -> dict[str, str]:
    if form == "qa":
        keys = {"id": "sample_id", "question": "question", "answer": "answer", "pred": "pred"}
        return {theirs: row[ours] for theirs, ours in keys.items()}
    name = {"video_name": row["video_id"].removeprefix(prefix)}
    if row["question2"] is None:
        return {**name, "Q": row["question"], "A": row["answer"], "pred": row["pred"]}
    asked = {"Q1": row["question"], "Q2": row["question2"], "A": row["answer"]}
    return {**name, **asked, "pred1": row["pred"], "pred2": row["pred2"]}
