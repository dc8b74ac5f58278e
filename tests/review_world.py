"""A translated file as the translator leaves it: source, file, lines and record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pseudo_translation import hard_lines, pseudo

from features.translation import Translation, write_translation
from pipelines.__main__ import main
from pipelines.translate.files import read_document
from pipelines.translate.lines import Line, lines_path, read_lines, write_lines

WHEN = "2026-05-01T10:00:00.000000+00:00"
EVIL = "<img src=x onerror=alert(1)>{name}"


@dataclass(frozen=True)
class World:
    source: Path
    out: Path
    lines: Path


def faultless(source: str) -> str:
    """The pseudo-translator knows no numerals, and a faultless translator does."""
    return pseudo(source.replace("two", "2"))


def make_world(folder: Path, rows: int = 10, spoilt: dict[str, str | None] | None = None) -> World:
    """VideoInstruct with so many rows; `spoilt` are other targets by line, None: it failed."""
    texts = hard_lines(2 * rows, seed=5)
    source, out = folder / "source.json", folder / "out.json"
    pairs = zip(texts[::2], texts[1::2], strict=True)
    plain = [(q.replace("<video>", "{name}"), a) for q, a in pairs]
    records = [{"q": q, "a": a, "video_id": f"v{n}"} for n, (q, a) in enumerate(plain)]
    source.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    document = read_document(source)
    lines = []
    for text in document.texts:
        target = {text.id: faultless(text.source), **(spoilt or {})}[text.id]
        place = (text.id, text.row, text.field, text.source, text.context)
        error = "" if target is not None else "quota"
        status = "machine" if target is not None else "failed"
        lines.append(Line(*place, target, status, engine="pseudo", key=f"k{text.id}", error=error))
    document.write({line.id: line.target for line in lines if line.target}, out)
    write_lines(lines_path(out), lines)
    failed = sum(line.status == "failed" for line in lines)
    record = Translation("annotations", "en-zh", "pseudo", "d" * 64, len(lines), failed=failed)
    write_translation(out, record)
    return World(source, out, lines_path(out))


def review(*args: object) -> int:
    return main(["review", *map(str, args)])


def decide(world: World, **statuses: str) -> None:
    """Decisions by `row_field=status`, or `edited:text`, as rows of JSONL."""
    lines = {line.id: line for line in read_lines(world.lines)}
    rows = []
    for name, told in statuses.items():
        line = lines[name[1:].replace("_", "/")]
        status, _, text = told.partition(":")
        row = {"id": line.id, "source": line.source, "target": text or line.target or ""}
        rows.append(row | {"status": status, "reviewer": "Ann", "reviewed": WHEN})
    path = world.lines.with_name("back.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert review("import", world.lines, path) == 0
