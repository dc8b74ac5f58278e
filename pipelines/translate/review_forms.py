"""Lines out to reviewers and their decisions back: JSONL, CSV for spreadsheets, Label Studio.

================ ================================================================================
suffix           file
================ ================================================================================
`.jsonl`         A row a line: what is shown, and `status`, `reviewer`, `reviewed` to fill in. The
                 decisions of the review page are rows of the same kind.
`.csv`           The same columns, UTF-8 with the mark by which Excel knows it.
`.json`          Label Studio's tasks out, its export with annotations back.
================ ================================================================================

A row without a status is no decision in a table, for spreadsheets change cells by themselves (`2-3`
becomes a day); in JSONL it is an edit if its target was changed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.durable import replace_file, replace_json
from features.errors import RedVillmError
from features.recipes import did_you_mean
from pipelines.translate.checks import Flag
from pipelines.translate.decisions import DECIDED, VERDICTS, Decision, machine_text, timestamp
from pipelines.translate.lines import Line

COLUMNS = (
    *("id", "field", "source", "context", "target"),
    *("flags", "status", "reviewer", "reviewed", "machine"),
)
LABELLING = """\
<View>
  <Header value="Context"/>
  <Text name="context" value="$context"/>
  <Header value="Source"/>
  <Text name="source" value="$source"/>
  <Header value="Flags"/>
  <Text name="flags" value="$flags"/>
  <Header value="Translation"/>
  <TextArea name="target" toName="source" editable="true" maxSubmissions="1" rows="4"/>
  <Choices name="verdict" toName="source" choice="single" required="false">
    <Choice value="rejected"/>
  </Choices>
</View>
"""
"""Label Studio's labelling configuration: an annotation that is submitted accepts the text as it
stands then, or rejects it where that is ticked; a task that is skipped is no decision."""
_FORMULA = re.compile("'*[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")

_SHOWN = ("field", "source", "context", "target", "flags", "machine")
"""What of a row becomes a task of Label Studio."""

Flags = Mapping[str, Sequence[Flag]]


def export_lines(path: Path, lines: Sequence[Line], flags: Flags) -> None:
    """Write lines for review in the form of the file's suffix.

    Raises:
        RedVillmError: no such form, or cannot write there.
    """
    _form(path, _WRITERS)(path, lines, flags)


def read_decisions(path: Path, lines: Sequence[Line], reviewer: str = "") -> list[Decision]:
    """Decisions of a file in the form of its suffix, in its order.

    Args:
        path: the file.
        lines: those that were exported.
        reviewer: whose word the rows are that name nobody.

    Raises:
        RedVillmError: no such form, unreadable, or a row is not one of it.
    """
    known = {line.id: line for line in lines}
    return list(_form(path, _READERS)(path, known, reviewer))


def _form(path: Path, forms: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if path.suffix not in forms:
        do = did_you_mean(path.suffix, forms)
        raise RedVillmError(
            "a form is told by its suffix", where=path, wanted=" ".join(forms), do=do
        )
    return forms[path.suffix]


def _row(line: Line, flags: Flags) -> dict[str, Any]:
    return {
        **{"id": line.id, "field": line.field, "source": line.source, "context": line.context},
        "target": line.target or "",
        "flags": [f"{flag.check}: {flag.reason}" for flag in flags.get(line.id, ())],
        "status": line.status if line.status in DECIDED else "",
        **{"reviewer": line.reviewer, "reviewed": line.reviewed},
        "machine": machine_text(line) or "",
    }


def _write_jsonl(path: Path, lines: Sequence[Line], flags: Flags) -> None:
    text = "".join(json.dumps(_row(line, flags), ensure_ascii=False) + "\n" for line in lines)
    replace_file(path, text.encode(errors="backslashreplace"), "review")


def _write_csv(path: Path, lines: Sequence[Line], flags: Flags) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for line in lines:
        row = _row(line, flags)
        row["flags"] = "\n".join(row["flags"])
        writer.writerow({name: _cell(value) for name, value in row.items()})
    replace_file(path, text.getvalue().encode("utf-8-sig"), "review")


def _write_tasks(path: Path, lines: Sequence[Line], flags: Flags) -> None:
    tasks = []
    area: dict[str, Any] = {"from_name": "target", "to_name": "source", "type": "textarea"}
    for line in lines:
        row = _row(line, flags)
        row["flags"] = "\n".join(row["flags"])
        data = {name: row[name] for name in _SHOWN}
        result = [area | {"value": {"text": [line.target]}}] if line.target else []
        predictions = [{"model_version": line.engine, "result": result}]
        tasks.append({"data": data | {"line": line.id}, "predictions": predictions})
    replace_json(path, tasks, "review")


def _read_jsonl(path: Path, known: Mapping[str, Line], reviewer: str) -> Iterator[Decision]:
    rows = _text(path).split("\n")
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(row)
        except ValueError as error:
            if number == len(rows) and path.name.endswith("decisions.jsonl"):
                continue  # the page's, torn by a kill: it was never there
            raise RedVillmError("not valid JSON", where=where, got=error) from error
        yield from _decision(record, path, where, known, reviewer)


def _read_csv(path: Path, known: Mapping[str, Line], reviewer: str) -> Iterator[Decision]:
    text = _text(path)
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in header else ",")
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            line = known.get(row.get("id") or "")
            ours = [line.source, line.target, machine_text(line)] if line else []
            # A cell that is as we wrote it is our text, whatever its line ends and half characters
            cells = {_cell(text): text for text in ours if text is not None}
            plain = {name: cells.get(text, _uncell(text)) for name, text in row.items() if name}
            if not (plain.get("status") or "").strip():
                continue
            yield from _decision(plain, path, where, known, reviewer)
    except (csv.Error, AttributeError) as error:
        where = f"{path}, line {reader.line_num}"
        raise RedVillmError("not a row of this table", where=where, got=error) from error


def _read_tasks(path: Path, known: Mapping[str, Line], reviewer: str) -> Iterator[Decision]:
    try:
        tasks = json.loads(_text(path))
        for at, task in enumerate(tasks):
            where = f"{path}, task {task.get('id', at)}"
            if "annotations" not in task and "data" not in task:
                do = "export as JSON, not as JSON-MIN"
                raise RedVillmError("not Label Studio's tasks", where=where, do=do)
            for annotation in task.get("annotations") or ():
                if annotation.get("was_cancelled") or not annotation["result"]:
                    continue  # skipped, or submitted with everything taken out
                person = annotation.get("completed_by")
                if isinstance(person, dict):
                    person = person.get("email") or person.get("id")
                row = {
                    **{"id": task["data"]["line"], "source": task["data"]["source"]},
                    **_annotated(annotation["result"]),
                    "reviewer": "" if person is None else str(person),
                    "machine": task["data"].get("machine"),
                    "reviewed": annotation.get("updated_at") or annotation.get("created_at"),
                }
                line = known.get(row["id"])
                if not row["status"]:
                    machine = machine_text(line) if line is not None else None
                    same = row["target"] == (row["machine"] or machine)
                    row["status"] = "accepted" if same else "edited"
                yield from _decision(row, path, where, known, reviewer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RedVillmError):
            raise
        wanted = "tasks that `review export` wrote, exported as JSON"
        raise RedVillmError(
            "not Label Studio's", where=path, got=repr(error), wanted=wanted
        ) from error


def _annotated(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Text and verdict of one annotation."""
    values = {result["from_name"]: result["value"] for result in results}
    text = values.get("target", {}).get("text", "")
    rejected = "rejected" in values.get("verdict", {}).get("choices", ())
    joined = text if isinstance(text, str) else "\n".join(text)
    return {"target": joined, "status": "rejected" if rejected else ""}


def _decision(
    row: object, path: Path, where: str, known: Mapping[str, Line], reviewer: str
) -> Iterator[Decision]:
    """A row's decision, if it is one."""
    needed = ("id", "source", "target")
    texts: dict[str, Any] = {}
    if isinstance(row, dict):
        texts = {name: row[name] for name in needed if isinstance(row.get(name), str)}
    if not isinstance(row, dict) or len(texts) < len(needed):
        raise RedVillmError("not a row of ours", where=where, wanted=f"texts {', '.join(needed)}")
    status = str(row.get("status") or "").strip().lower()
    line = known.get(row["id"])
    ours = [row.get("machine"), *((line.target or "", machine_text(line)) if line else ())]
    plain = texts["target"].strip()
    same = next((text for text in ours if text is not None and text.strip() == plain), None)
    if not status:
        if same is not None:
            return  # as it was exported
        status = "edited"
    texts["target"] = texts["target"] if same is None else same
    verdict = next((known for known in VERDICTS if known == status), None)
    if verdict is None:
        do = did_you_mean(status, VERDICTS)
        raise RedVillmError("no such status", where=where, got=status, do=do)
    yield Decision(
        **texts,
        status=verdict,
        reviewer=str(row.get("reviewer") or reviewer).strip(),
        reviewed=_time(row.get("reviewed"), path, where),
        where=where,
        replaces=str(row.get("replaces") or ""),
        machine=None if row.get("machine") is None else str(row["machine"]),
    )


def _time(text: str | None, path: Path, where: str) -> str:
    """As we write it; where a row has none, when its file was written, so that an old one is."""
    if not text:
        return timestamp(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    try:
        when = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise RedVillmError("not a time", where=where, got=text, wanted="ISO 8601") from error
    return timestamp(when if when.tzinfo else when.replace(tzinfo=UTC))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        do = "save it as CSV UTF-8"
        raise RedVillmError("not UTF-8", where=path, got=error, do=do) from error
    except OSError as error:
        raise RedVillmError("cannot read decisions", where=path, got=error) from error


def _cell(text: str) -> str:
    """A text for a cell: no spreadsheet takes it for a formula. One to one, but for line ends."""
    plain = text.encode(errors="backslashreplace").decode()
    plain = plain.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{plain}" if _FORMULA.match(plain) else plain


def _uncell(text: str | None) -> str:
    text = text or ""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".json": _write_tasks}
_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".json": _read_tasks}
