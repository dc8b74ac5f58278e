"""Annotation and prediction files as texts to translate, and the very same form written back.

Forms are those of features/annotations.py, and `predictions`: our predictions.jsonl, of which only
the answers are translated, because its questions and references are there in the other language.
Ids, types, video names, all other fields, their order and `<video>` with its line break stay.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from eval.folders import read_rows as read_prediction_rows
from features.annotations import NO_QUESTIONS, QASample, Row, load_annotations, read_rows
from features.config import AnnotationFormat, SplitConfig
from features.durable import replace_file
from features.errors import AnnotationError, few
from pipelines.translate.writers import WRITERS, json_text

Form = Literal[AnnotationFormat, "predictions"]

_FIELDS: dict[str, dict[str, str]] = {
    "videoinstruct": {"question": "q", "answer": "a"},
    "vcgbench": {"question": "Q", "answer": "A"},
    "consistency": {"question": "Q1", "question2": "Q2", "answer": "A"},
    "qa-pairs": {"question": "question", "answer": "answer"},
    "tgif": {"question": "question", "answer": "answer"},
    "msvd": {"question": "question", "answer": "answer"},
    "jsonl": {"question": "question", "answer": "answer"},
    "predictions": {"pred": "pred", "pred2": "pred2"},
}
"""Our names of what is translated, and the file's."""
_MARKS: tuple[tuple[frozenset[str], Form], ...] = (
    (frozenset({"conversations"}), "videoinstruct"),
    (frozenset({"q", "a", "video_id"}), "videoinstruct"),
    (frozenset({"Q1", "Q2", "A"}), "consistency"),
    (frozenset({"Q", "A", "video_name"}), "vcgbench"),
    (frozenset({"question_id", "question", "video_name"}), "qa-pairs"),
    (frozenset({"question", "answer", "video_id"}), "msvd"),
)
"""Keys of a JSON list's first row that tell its form."""
_EDGES = re.compile(r"(?s)(\s*)(.*?)(\s*)\Z")
_EDGES_WITH_VIDEO = re.compile(r"(?s)(\s*(?:<video>)?\s*)(.*?)(\s*(?:<video>)?\s*)\Z")


@dataclass(frozen=True)
class Text:
    """One text to translate."""

    id: str
    """`<row>/<field>`."""
    row: int
    """As the file's errors count: from 0, the lines of `jsonl` from 1."""
    field: str
    """`question`, `question2`, `answer`, `pred` or `pred2`."""
    source: str
    """Without blanks at its ends and without `<video>` at either end."""
    context: str
    """The question of an answer or prediction; empty for a question."""


@dataclass(frozen=True)
class _Place:
    """Where a text stands: which of the files, which row of it, which keys; and what is around."""

    file: int
    position: int
    keys: tuple[str | int, ...]
    before: str
    after: str


@dataclass(frozen=True)
class Document:
    """A file (of `qa-pairs` two) and the texts in it."""

    form: Form
    paths: tuple[Path, ...]
    """The file; of `qa-pairs` those of the questions and of the answers."""
    texts: tuple[Text, ...]
    """In the order of the file, a row's question before its answer."""
    _files: tuple[list[Row], ...]
    _places: tuple[_Place, ...]
    _known: tuple[tuple[int, str, str, str], ...]
    """(row, id, video, type) of each row: what a translation must not change."""

    def render(
        self,
        targets: Mapping[str, str],
        without: Collection[int] = (),
        provenance: Mapping[int, object] | None = None,
    ) -> tuple[bytes, ...]:
        """The same file (of `qa-pairs` both) with other texts.

        Args:
            targets: new texts by the ids of `texts`; what is not there stays as it is.
            without: rows to leave out.
            provenance: by row, what becomes its `provenance`.

        Raises:
            AnnotationError: an unknown id, or a text that is blank.
        """
        if unknown := sorted(set(targets) - {text.id for text in self.texts}):
            what = "a translation of a text that is not in the file"
            raise AnnotationError(what, where=self.paths[0], got=few(unknown))
        if blank := [name for name, target in targets.items() if not target.strip()]:
            what, do = "a translation that is blank", "give it words, or leave its row out"
            raise AnnotationError(what, where=self.paths[0], got=few(blank), do=do)
        records = tuple([copy.deepcopy(dict(row.fields)) for row in rows] for rows in self._files)
        gone: set[tuple[int, int]] = set()
        for text, place in zip(self.texts, self._places, strict=True):
            if text.row in without:
                gone.add((place.file, place.position))
            target = targets.get(text.id, text.source)
            if target == text.source:
                continue  # so that a number stays a number
            if self.form == "tgif":
                target = " ".join(target.split())  # its rows are lines, its columns tabs
            holder: Any = records[place.file][place.position]
            for key in place.keys[:-1]:
                holder = holder[key]
            holder[place.keys[-1]] = place.before + target.strip() + place.after
        for row, record in zip(self._files[0], records[0], strict=True):
            if provenance and row.number in provenance:
                record["provenance"] = provenance[row.number]
        return tuple(
            WRITERS.get(self.form, json_text)(
                {
                    row.number: record
                    for position, (row, record) in enumerate(zip(rows, changed, strict=True))
                    if (file, position) not in gone
                }
            ).encode(errors="backslashreplace")
            for file, (rows, changed) in enumerate(zip(self._files, records, strict=True))
        )

    def write(
        self,
        targets: Mapping[str, str],
        out: Path,
        out_answers: Path | None = None,
        without: Collection[int] = (),
        provenance: Mapping[int, object] | None = None,
    ) -> None:
        """`render` into files, once it is sure that they read as the old ones did.

        Raises:
            AnnotationError: as `render`; or `qa-pairs` without `out_answers`; or the new file would
                not be read, or with other ids, videos or types.
            StoreError: cannot write there.
        """
        if (out_answers is None) == (self.form == "qa-pairs"):
            do = "say --target_answers with `qa-pairs`, and only with it"
            raise AnnotationError("a file for each of its two", where=out, do=do)
        rendered = self.render(targets, without, provenance)
        with TemporaryDirectory() as folder:
            copies = [Path(folder) / f"{k}{path.suffix}" for k, path in enumerate(self.paths)]
            for path, data in zip(copies, rendered, strict=True):
                path.write_bytes(data)
            known = list(_known(self.form, copies))
        wanted = [facts for facts in self._known if facts[0] not in without]
        if [facts[1:] for facts in known] != [facts[1:] for facts in wanted]:
            what = "the translated file would have other ids, videos or types"
            raise AnnotationError(what, where=out)
        for target, data in zip(filter(None, (out, out_answers)), rendered, strict=True):
            replace_file(target, data, "translated")


def read_document(path: Path, form: Form | None = None, answers: Path | None = None) -> Document:
    """A file, checked as strictly as everywhere, and its texts.

    Args:
        path: the file; of `qa-pairs` the one with the questions.
        form: its form; None: found by looking at it.
        answers: of `qa-pairs` the file with the answers.

    Raises:
        AnnotationError: a file is missing or malformed, or of no known form.
        RedVillmError: damaged predictions.
    """
    form = form or find_form(path)
    paths = (path,) if answers is None else (path, answers)
    if (answers is not None) != (form == "qa-pairs"):
        what = "no file with the answers" if answers is None else "answers are in the file itself"
        do = "say --answers" if answers is None else "leave --answers out"
        raise AnnotationError(what, where=path, got=f"form {form}", do=do)
    known = tuple(_known(form, paths))
    if not known:
        raise AnnotationError(NO_QUESTIONS, where=path)
    files = tuple(_rows(one, form) for one in paths)
    found = list(_texts(form, files))
    texts, places = tuple(text for text, _ in found), tuple(place for _, place in found)
    return Document(form, paths, texts, files, places, known)


def find_form(path: Path) -> Form:
    """The form of a file, by what its first row has.

    Raises:
        AnnotationError: unreadable, or of no known form.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
            empty = not head.strip() and not file.read(1)
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError("cannot read annotations", where=path, got=error) from error
    if empty:
        raise AnnotationError(NO_QUESTIONS, where=path)
    if "gif_name\t" in head:
        return "tgif"
    if head.lstrip().startswith("{"):
        return "predictions" if '"sample_id"' in head else "jsonl"
    row = next(iter(read_rows(path, "vcgbench")), None)
    if row is None:
        raise AnnotationError(NO_QUESTIONS, where=path)
    keys = frozenset(row.fields)
    for needed, form in _MARKS:
        if needed <= keys:
            return form
    do = f"say --form: {', '.join((*get_args(AnnotationFormat), 'predictions'))}"
    got = f"keys {', '.join(sorted(keys))}"
    raise AnnotationError("of no known form", where=path, got=got, do=do)


def _known(form: Form, paths: Collection[Path]) -> Iterator[tuple[int, str, str, str]]:
    """(row, id, video, type) of each row; reads the file as strictly as everywhere."""
    path, *others = paths
    answers = others[0] if others else None
    if form == "predictions":
        if not path.read_bytes().endswith(b"\n"):
            # what answers questions reads a row without its end as torn, and answers it again
            what, do = "the last row has no line end", f"add one (echo >> {path}) if it is whole"
            raise AnnotationError(what, where=path, do=do)
        for number, told in enumerate(read_prediction_rows(path)):
            yield number, told["sample_id"], str(told.get("video_id")), str(told.get("type"))
        return
    rows = read_rows(path, form)
    # `jsonl`: ids are unique within a split, and a file may hold several
    parts = [row.optional("split") or "train" if form == "jsonl" else "" for row in rows]
    samples: dict[str, Iterator[QASample]] = {
        part: iter(load_annotations(SplitConfig(form, path, answers, part=part)))
        for part in dict.fromkeys(parts or [""])
    }
    for row, part in zip(rows, parts, strict=True):
        sample = next(samples[part])
        yield row.number, sample.sample_id, sample.video_id, sample.type


def _rows(path: Path, form: Form) -> list[Row]:
    if form != "predictions":
        return read_rows(path, form)
    return [Row(path, number, row) for number, row in enumerate(read_prediction_rows(path))]


def _texts(form: Form, files: tuple[list[Row], ...]) -> Iterator[tuple[Text, _Place]]:
    joined = {}
    if form == "qa-pairs":
        joined = {row.text("question_id"): (n, row) for n, row in enumerate(files[1])}
    for position, row in enumerate(files[0]):
        asked = ""
        for field, key in _FIELDS[form].items():
            place = (0, position, row)
            if form == "qa-pairs" and field == "answer":
                place = (1, *joined[row.text("question_id")])
            text, where = _text(field, key, *place)
            if not text:
                continue  # a prediction that was lost, or a second one where there is none
            if form == "predictions":
                asked = row.optional(field.replace("pred", "question"))
            context = "" if field.startswith("question") else asked
            yield Text(f"{row.number}/{field}", row.number, field, text, context), where
            asked = asked or text


def _text(field: str, key: str, file: int, position: int, row: Row) -> tuple[str, _Place]:
    """A text and its place; an empty one where there is nothing to translate."""
    keys: tuple[str | int, ...] = (key,)
    value, edges = row.fields.get(key), _EDGES
    if "conversations" in row.fields and key in ("q", "a"):
        keys = ("conversations", ("q", "a").index(key), "value")
        value = row.fields["conversations"][keys[1]]["value"]
        edges = _EDGES_WITH_VIDEO if key == "q" else _EDGES
    found = edges.match("" if value is None else str(value))
    before, text, after = found.groups() if found else ("", "", "")
    return text, _Place(file, position, keys, before, after)
