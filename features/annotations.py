"""Questions about videos, read from every published form into one: `QASample`.

Every benchmark ships its questions in a form of its own, and joining them wrongly by a row has
spoiled published numbers. All forms are therefore read here, strictly, and nowhere else:

=============== ==================================================================================
format          file
=============== ==================================================================================
`videoinstruct` VideoInstruct-100K, JSON list. Before conversion `{q, a, video_id}`; after it
                `{id, video: "<id>.pkl", conversations: [{from: "human", value}, {from: "gpt",
                value}]}`; `<video>` and the line break beside it are taken out of the question.
                Rows of several turns are refused: a later turn cannot stand without the earlier.
`vcgbench`      `generic_qa.json` and `temporal_qa.json`: `{Q, A, video_name}`.
`consistency`   `consistency_qa.json`: `{Q1, Q2, A, video_name}`; Q2 becomes `question2`.
`qa-pairs`      `test_q.json` `{video_name, question_id, question}` and `test_a.json` `{answer,
                type, question_id}`, joined by question_id and never by position.
`tgif`          `Test_frameqa_question.csv`, which is tab-separated: gif_name, question, answer,
                type, vid_id, key, description.
`msvd`          MSVD-QA and MSRVTT-QA, raw: `{question, answer, video_id}` and maybe `id`. Where an
                id is a number, `id_prefix` makes it a name: MSRVTT's files are `video<N>`, MSVD's
                `vid<N>` by its name table. Ids that are names already (`<youtube
                id>_<start>_<end>`) are taken as given.
`jsonl`         Your own: one object a line, `{"video", "question", "answer"}` and, if you like,
                `"id"` (unique), `"type"` (accuracy is reported by type) and `"split"` (train if
                absent). `video` is the file's path below the videos folder, with or without suffix.
=============== ==================================================================================

A sample's id is the file's own where there is one (`question_id`, `id`), else `<video id>:<row>`,
rows counted from 0 (the lines of `jsonl` from 1). Where a translation left rows out, the others say
as `source_row` which they were, and that counts: ids stay. `id_prefix` is put before every video
name, with `msvd` before numbers only. Types stay the strings of the file; the recipe's `type_names`
say what its numbers mean.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from features.config import AnnotationFormat, SplitConfig
from features.errors import AnnotationError, few
from features.plan import VIDEO_SUFFIXES
from features.spec import record_digest

TGIF_COLUMNS = ("gif_name", "question", "answer", "type", "vid_id", "key", "description")
NO_QUESTIONS = "no questions in the file"
SOURCE_ROW = "source_row"
"""Field of the row's number in the file that it was translated from, where rows were left out."""
OWN_FIELDS = frozenset({"video", "question", "answer", "id", "type", "split"})


@dataclass(frozen=True)
class QASample:
    """One question about one video."""

    sample_id: str
    """Unique within its split."""
    video_id: str
    """As in the feature store."""
    question: str
    """The instruction, without any placeholder."""
    answer: str
    """The reference answer."""
    type: str = ""
    """The file's question type; empty when it has none."""
    question2: str | None = None
    """The second wording, for VCGBench's consistency aspect."""


@dataclass(frozen=True)
class Row:
    """One raw row of a file; it knows where it came from, so that every error can say it."""

    path: Path
    number: int
    fields: Mapping[str, Any]

    def error(self, what: str, field: str, got: object = None) -> AnnotationError:
        """An error about a field of this row, to raise."""
        named = ("question_id", "id", "key", "video_id", "video_name", "video", "gif_name")
        name = next((f", {key} {self.fields[key]!r}" for key in named if self.fields.get(key)), "")
        where = f"{self.path}, row {self.number}{name}, field {field!r}"
        return AnnotationError(what, where=where, got=got)

    def text(self, field: str) -> str:
        """A field that must hold text (or a whole number, which some files use for ids)."""
        value = self.fields.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise self.error("missing or empty field in an annotation", field, repr(value))
        if not isinstance(value, str):
            raise self.error("not a text in an annotation", field, repr(value)[:80])
        return value.strip()

    def optional(self, field: str) -> str:
        """As `text`, but empty when the field is absent, null or empty."""
        return "" if self.fields.get(field) in (None, "") else self.text(field)


def load_annotations(split: SplitConfig) -> list[QASample]:
    """All questions of a split, in the order of the file with the questions.

    Raises:
        AnnotationError: a file is missing or malformed, a field is missing or empty, ids repeat, or
            question and answer files do not name the same question_ids.
    """
    rows = read_rows(split.questions, split.format)
    if split.part:
        rows = [row for row in rows if (row.optional("split") or "train") == split.part]
    if split.format == "qa-pairs":
        samples = list(_qa_pairs(rows, split))
    else:
        samples = [_PARSERS[split.format](row, split.id_prefix) for row in rows]
    if not samples:
        wanted = f"rows with split {split.part!r}" if split.part else "at least one row"
        raise AnnotationError(NO_QUESTIONS, where=split.questions, wanted=wanted)
    repeated = _repeated([sample.sample_id for sample in samples])
    if repeated:
        raise AnnotationError(
            "sample ids repeat", where=split.questions, got=few([repr(name) for name in repeated])
        )
    return samples


def read_rows(path: Path, form: AnnotationFormat) -> list[Row]:
    """The raw rows of one file, for whoever writes the same form back; nothing is checked yet.

    Raises:
        AnnotationError: the file is missing, or not rows of this kind of file.
    """
    return _READ_ROWS.get(form, _json_rows)(path)


def annotations_digest(samples: Sequence[QASample]) -> str:
    """sha256 over all samples sorted by id: what was asked, whatever the file's form or order."""
    rows = sorted(astuple(sample) for sample in samples)
    return record_digest(rows)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError("cannot read annotations", where=path, got=error) from error


def _json_rows(path: Path) -> list[Row]:
    try:
        records = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError("not valid JSON", where=path, got=error) from error
    if not isinstance(records, list):
        got = type(records).__name__
        raise AnnotationError("not an annotation file", where=path, got=got, wanted="a JSON list")
    return _as_numbered([_as_row(path, number, record) for number, record in enumerate(records)])


def _jsonl_rows(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_as_row(path, number, json.loads(line)))
        except json.JSONDecodeError as error:
            where = f"{path}, line {number}"
            raise AnnotationError("not valid JSON", where=where, got=error) from error
    return rows


def _tsv_rows(path: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(_read_text(path)), delimiter="\t")
    needed = TGIF_COLUMNS[:4]
    if not set(needed) <= set(reader.fieldnames or ()):
        raise AnnotationError(
            "not TGIF's question file",
            where=path,
            got=list(reader.fieldnames or ()),
            wanted=f"tab-separated columns {', '.join(TGIF_COLUMNS)}",
        )
    try:
        rows = [_as_row(path, number, record) for number, record in enumerate(reader)]
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise AnnotationError("not tab-separated text", where=where, got=error) from error
    for row in rows:  # a stray quote or tab would shift columns or swallow rows
        if None in row.fields or any("\n" in str(row.fields[name]) for name in needed):
            raise row.error("a row with the wrong number of columns", "question")
    return _as_numbered(rows)


def _as_numbered(rows: list[Row]) -> list[Row]:
    """Rows with the numbers that they say, if any."""
    if not any(SOURCE_ROW in row.fields for row in rows):
        return rows
    numbered = []
    for row in rows:
        said = str(row.fields.get(SOURCE_ROW))
        if not (said.isascii() and said.isdecimal()):
            raise row.error("not the number of a row, which some others have", SOURCE_ROW, said)
        numbered.append(replace(row, number=int(said)))
    repeated = _repeated([str(row.number) for row in numbered])
    if repeated:
        raise AnnotationError("row numbers repeat", where=rows[0].path, got=few(repeated))
    return numbered


def _as_row(path: Path, number: int, record: object) -> Row:
    if not isinstance(record, dict):
        got = type(record).__name__
        raise AnnotationError("not a JSON object", where=f"{path}, row {number}", got=got)
    return Row(path, number, record)


def _videoinstruct(row: Row, prefix: str) -> QASample:
    if "conversations" not in row.fields:
        video = prefix + row.text("video_id")
        return QASample(f"{video}:{row.number}", video, row.text("q"), row.text("a"))
    video = prefix + row.text("video").removesuffix(".pkl")
    turns = row.fields["conversations"]
    speakers = [t.get("from") if isinstance(t, dict) else t for t in turns or ()]
    if speakers != ["human", "gpt"]:
        raise row.error("not one question and one answer", "conversations", speakers)
    question, answer = (Row(row.path, row.number, {**row.fields, **t}).text("value") for t in turns)
    bare = question.removeprefix("<video>").removesuffix("<video>").strip()
    if not bare or "<video>" in bare:
        raise row.error("wanted one <video> at either end of a question", "value", question[:80])
    return QASample(f"{video}:{row.number}", video, bare, answer)


def _vcgbench(row: Row, prefix: str) -> QASample:
    video = prefix + row.text("video_name")
    return QASample(f"{video}:{row.number}", video, row.text("Q"), row.text("A"))


def _consistency(row: Row, prefix: str) -> QASample:
    video = prefix + row.text("video_name")
    first, second = row.text("Q1"), row.text("Q2")
    return QASample(f"{video}:{row.number}", video, first, row.text("A"), question2=second)


def _tgif(row: Row, prefix: str) -> QASample:
    video, kind = prefix + row.text("gif_name"), row.text("type")
    if kind not in ("0", "1", "2", "3"):
        raise row.error("unknown TGIF question type", "type", kind)
    return QASample(f"{video}:{row.number}", video, row.text("question"), row.text("answer"), kind)


def _msvd(row: Row, prefix: str) -> QASample:
    name = row.text("video_id")
    video = prefix + name if name.isdecimal() else name
    sample_id = row.optional("id") or f"{video}:{row.number}"
    return QASample(sample_id, video, row.text("question"), row.text("answer"))


def _own(row: Row, prefix: str) -> QASample:
    unknown = sorted(set(row.fields) - OWN_FIELDS)
    if unknown:
        raise row.error(f"unknown field; known: {', '.join(sorted(OWN_FIELDS))}", unknown[0])
    name = PurePosixPath(row.text("video"))
    known_suffix = name.suffix.lower() in VIDEO_SUFFIXES
    video = prefix + (name.with_suffix("") if known_suffix else name).as_posix()
    sample_id = row.optional("id") or f"{video}:{row.number}"
    question, answer = row.text("question"), row.text("answer")
    return QASample(sample_id, video, question, answer, row.optional("type"))


def _qa_pairs(questions: list[Row], split: SplitConfig) -> Iterator[QASample]:
    """Join by question_id; every question needs exactly one answer and the other way round."""
    if split.answers is None:
        do = "set `answers` of the split"
        raise AnnotationError("no file with the answers", where=split.questions, do=do)
    answer_rows = _json_rows(split.answers)
    answers = {row.text("question_id"): row for row in answer_rows}
    asked = [row.text("question_id") for row in questions]
    faults = {
        "question_ids repeat among the answers": _repeated(
            [row.text("question_id") for row in answer_rows]
        ),
        "questions without an answer": [key for key in asked if key not in answers],
        "answers without a question": sorted(set(answers) - set(asked)),
    }
    for what, ids in faults.items():
        if ids:
            where = f"{split.questions} and {split.answers}"
            raise AnnotationError(
                what, where=where, got=f"question_id {few([repr(name) for name in ids])}"
            )
    for key, row in zip(asked, questions, strict=True):
        video, reply = split.id_prefix + row.text("video_name"), answers[key]
        yield QASample(
            key, video, row.text("question"), reply.text("answer"), reply.optional("type")
        )


def _repeated(ids: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(ids).items() if count > 1]


_READ_ROWS: dict[str, Callable[[Path], list[Row]]] = {"tgif": _tsv_rows, "jsonl": _jsonl_rows}
_PARSERS: dict[str, Callable[[Row, str], QASample]] = {
    "videoinstruct": _videoinstruct,
    "vcgbench": _vcgbench,
    "consistency": _consistency,
    "tgif": _tgif,
    "msvd": _msvd,
    "jsonl": _own,
}


def write_videoinstruct(path: Path, samples: Sequence[QASample]) -> None:
    """Write training questions in VideoInstruct-100K's own form, before conversion."""
    rows = [{"q": s.question, "a": s.answer, "video_id": s.video_id} for s in samples]
    _write_json(path, rows)


def write_qa_pairs(
    questions: Path, answers: Path, samples: Sequence[QASample], id_prefix: str = ""
) -> None:
    """Write a test set as the published `test_q.json` and `test_a.json`.

    `id_prefix` is taken off each video id again, as ActivityNet-QA drops `v_`.
    """
    asked = [
        {
            "video_name": s.video_id.removeprefix(id_prefix),
            "question_id": s.sample_id,
            "question": s.question,
        }
        for s in samples
    ]
    replies = [{"answer": s.answer, "type": s.type, "question_id": s.sample_id} for s in samples]
    _write_json(questions, asked)
    _write_json(answers, replies)


def write_vcgbench(path: Path, samples: Sequence[QASample]) -> None:
    """Write a file of the generative benchmark.

    It has the form of `consistency_qa.json` where questions have a second wording, else that of
    `generic_qa.json` and `temporal_qa.json`.
    """
    rows = []
    for s in samples:
        two = {"Q1": s.question, "Q2": s.question2 or ""}
        asked = {"Q": s.question} if s.question2 is None else two
        rows.append({**asked, "A": s.answer, "video_name": s.video_id})
    _write_json(path, rows)


def _write_json(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
