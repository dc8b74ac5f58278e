"""`python -m pipelines review <verb>`: translations checked, reviewed by people, and finished."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.progress import track
from rich.table import Column, Table

from features.errors import RedVillmError
from features.translation import Translation, read_translation
from pipelines.stages import Stage, console, say
from pipelines.translate.files import Form
from pipelines.translate.lines import beside


@dataclass(frozen=True)
class CheckOptions:
    """Look for what is suspicious in every line; <file>.flags.jsonl has all flags."""

    lines: Path
    """<file>.lines.jsonl, which the translation left beside <file>."""
    glossary: Path | None = None
    """Terms that must be used: lines of source<TAB>target."""


@dataclass(frozen=True)
class ExportOptions:
    """Flagged lines and a sample of the others as a file for reviewers."""

    lines: Path
    """<file>.lines.jsonl."""
    target: Path
    """File to write; its suffix says which form: .jsonl, .csv (for spreadsheets) or .json (tasks
    for Label Studio)."""
    sample: int = 200
    """Lines without flags to add."""
    seed: int = 0
    """Which ones."""
    glossary: Path | None = None
    """As for `check`."""


@dataclass(frozen=True)
class ImportOptions:
    """Decisions of people back into the lines: all of a file, or nothing."""

    lines: Path
    """<file>.lines.jsonl."""
    decisions: Path
    """What came back: .jsonl, .csv, or Label Studio's export .json. The page's decisions are known
    to every verb without it."""
    reviewer: str = ""
    """Whose word the rows are that name nobody."""


@dataclass(frozen=True)
class RateOptions:
    """How much people changed, and how often each check was right."""

    lines: Path
    """<file>.lines.jsonl."""
    glossary: Path | None = None
    """As for `check`."""


@dataclass(frozen=True)
class FinishOptions:
    """The final file in its own form, with what people made of it."""

    lines: Path
    """<file>.lines.jsonl; <file> is written again."""
    source: Path
    """The file that was translated."""
    form: Form | None = None
    """Its form; found by looking at it unless given."""
    answers: Path | None = None
    """Of qa-pairs the source with the answers."""
    target_answers: Path | None = None
    """Of qa-pairs the file to write the answers to."""
    failed: Literal["drop", "refuse"] = "drop"
    """Rows with a line that failed or was rejected: leave them out (and count them), or stop."""


@dataclass(frozen=True)
class ServeOptions:
    """Review lines in the browser; every decision is kept in <file>.decisions.jsonl at once."""

    lines: Path
    """<file>.lines.jsonl."""
    reviewer: str = ""
    """Who reviews; the page asks unless given."""
    port: int = 0
    """Of this machine; 0: any free one."""
    glossary: Path | None = None
    """As for `check`."""


def run_check(options: CheckOptions) -> None:
    """`check`."""
    from features.durable import replace_file
    from pipelines.translate.checks import CHECKS

    lines = _read(options.lines)
    flags = _flags(options.lines, lines, options.glossary)
    every = [flag for found in flags.values() for flag in found]
    text = "".join(json.dumps(asdict(flag), ensure_ascii=False) + "\n" for flag in every)
    out = beside(options.lines, "flags.jsonl")
    replace_file(out, text.encode(errors="backslashreplace"), "flags")
    by_check = defaultdict(list)
    for flag in every:
        by_check[flag.check].append(flag)
    table = Table("check", Column("lines", justify="right"), Column("for example", overflow="fold"))
    for check in CHECKS:
        shown = [f"{flag.id}: {flag.reason}" for flag in by_check[check][:3]]
        table.add_row(check, f"{len(by_check[check]):,}", _plain("\n".join(shown)))
    console.print(table)
    say(f"{out}: {len(every):,} flags on {len(flags):,} of {len(lines):,} lines")


def run_export(options: ExportOptions) -> None:
    """`export`."""
    from pipelines.translate.review_forms import LABELLING, export_lines

    lines = _read(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    others = [line.id for line in lines if line.id not in flags]
    drawn = random.Random(options.seed).sample(others, min(options.sample, len(others)))
    wanted = {*flags, *drawn}
    export_lines(options.target, [line for line in lines if line.id in wanted], flags)
    say(f"{options.target}: {len(flags):,} flagged lines and {len(drawn):,} others")
    if options.target.suffix == ".json":
        say(f"The labelling configuration that fits:\n{LABELLING}")


def run_import(options: ImportOptions) -> None:
    """`import`."""
    from pipelines.translate.decisions import merge
    from pipelines.translate.lines import read_lines, write_lines
    from pipelines.translate.review_forms import read_decisions
    from pipelines.translate.review_log import alone

    with alone(options.lines):
        before, lines = read_lines(options.lines), _read(options.lines)
        merged = merge(lines, read_decisions(options.decisions, lines, options.reviewer))
        write_lines(options.lines, merged.lines)
    changed = sum(new != old for new, old in zip(merged.lines, before, strict=True))
    say(f"{options.lines}: decisions about {merged.decided:,} lines; {changed:,} lines changed")


def run_rate(options: RateOptions) -> None:
    """`rate`: a table, and <file>.rate.json."""
    from features.durable import replace_json
    from features.spec import SCHEMA_VERSION
    from pipelines.translate.review_rate import edit_rate

    lines = _read(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    with console.status("rating"):
        rate = edit_rate(lines, flags, _record(options.lines).direction)
    out = beside(options.lines, "rate.json")
    replace_json(out, {"schema": SCHEMA_VERSION, **asdict(rate)}, "rate")
    table = Table("of reviewed lines", "accepted", "edited", "rejected")
    table.add_row("all", *map(_share, rate.statuses.values()))
    for name, statuses in rate.reviewers.items():
        table.add_row(f"by {_plain(name)}", *map(_share, statuses.values()))
    console.print(table)
    table = Table("check", "edited or rejected, of reviewed lines with its flag")
    for check, share in rate.checks.items():
        table.add_row(check, _share(share))
    table.add_row("any flag", _share(rate.flagged))
    table.add_row("no flag at all", _share(rate.unflagged))
    console.print(table)
    if rate.changed is not None:
        missed = "none" if rate.missed is None else f"{100 * rate.missed:.1f} %"
        of_file = f"{100 * rate.changed:.1f} % of the whole file"
        say(f"people would change {of_file}; of these {missed} have no flag")
    scores = [f"{x:.1f}" if x is not None else "none" for x in (rate.chrf, rate.ter)]
    say(f"{rate.reviewed:,} of {rate.lines:,} lines reviewed; chrF {scores[0]}, TER {scores[1]} %")
    say(f"{out}: the same; signatures {', '.join(rate.signatures)}")


def run_finish(options: FinishOptions) -> None:
    """`finish`."""
    from pipelines.translate.files import read_document
    from pipelines.translate.lines import write_lines
    from pipelines.translate.review_finish import finish
    from pipelines.translate.review_log import alone

    document = read_document(options.source, options.form, options.answers)
    out = beside(options.lines, "")
    with alone(options.lines):
        lines = _read(options.lines)
        done = finish(document, lines, out, options.target_answers, options.failed)
        write_lines(options.lines, lines)  # translated again, the file keeps what people said
    left = f"{done.left_out:,} left out with lines that failed or were rejected"
    say(f"{out}: {done.rows - done.left_out:,} of {done.rows:,} rows, {left}")
    say(done.record.label)


def run_serve(options: ServeOptions) -> None:
    """`serve`: until Ctrl-C."""
    from pipelines.translate.lines import read_lines
    from pipelines.translate.review_log import log_path
    from pipelines.translate.review_page import ReviewServer
    from pipelines.translate.review_session import Session

    lines = read_lines(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    log = log_path(options.lines)
    session = Session(lines, flags, log, options.reviewer)
    _tell_set_aside(options.lines, session.set_aside)
    name, direction = beside(options.lines, "").name, _record(options.lines).direction
    with closing(session), ReviewServer(session, name, direction, options.port) as server:
        say(f"{server.address}\nCtrl-C ends the review; decisions are kept in {log}")
        server.serve_forever()


def _read(path: Path) -> list[Any]:
    """Lines with what people decided on the page, imported or not."""
    from pipelines.translate.review_log import read_reviewed

    found = read_reviewed(path)
    _tell_set_aside(path, found.set_aside)
    return found.lines


def _tell_set_aside(path: Path, count: int) -> None:
    from pipelines.translate.review_log import log_path

    if count:
        say(f"{log_path(path)}: {count:,} decisions about texts of an earlier translation left")


def _record(lines: Path) -> Translation:
    record = read_translation(beside(lines, ""))
    if record is None:
        do = "translate the file; --failed keep where texts stay without a translation"
        raise RedVillmError("no record of a translation", where=lines, do=do)
    return record


def _flags(path: Path, lines: Sequence[Any], glossary: Path | None) -> Mapping[str, Sequence[Any]]:
    from pipelines.translate.checks import check_lines
    from pipelines.translate.options import read_glossary
    from pipelines.translate.terms import Terms

    terms = Terms(read_glossary(glossary) if glossary else {})
    shown: Callable[..., Iterable[Any]] = partial(
        track, description="checking", console=console, transient=True
    )
    return check_lines(lines, _record(path).direction, terms, shown)


def _machine_flags(
    path: Path, lines: Sequence[Any], glossary: Path | None
) -> Mapping[str, Sequence[Any]]:
    """Flags of what the machine said, so that they stay what they were while people review."""
    from pipelines.translate.decisions import undecided

    return _flags(path, [undecided(line) for line in lines], glossary)


def _share(share: Any) -> str:
    if not share.of:
        return "none"
    told = f"{share.count:,} of {share.of:,}: {100 * share.count / share.of:.1f} %"
    if share.low is None:
        return told
    return f"{told} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _plain(text: str) -> str:
    """Brackets in what others wrote are no markup."""
    from rich.markup import escape

    return escape(text)


def _verb(options: type[Any], run: Callable[..., int | None], *positionals: str) -> Stage:
    return Stage(lambda: (options,), run, positionals)


VERBS = {
    "check": _verb(CheckOptions, run_check, "lines"),
    "export": _verb(ExportOptions, run_export, "lines", "target"),
    "import": _verb(ImportOptions, run_import, "lines", "decisions"),
    "rate": _verb(RateOptions, run_rate, "lines"),
    "finish": _verb(FinishOptions, run_finish, "lines", "source"),
    "serve": _verb(ServeOptions, run_serve, "lines"),
}
