"""`python -m pipelines review <verb>`: translations checked, reviewed by people, and finished."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import track
from rich.table import Column, Table

from features.errors import RedVillmError
from features.translation import Translation, read_translation
from pipelines.review_options import (
    CheckOptions,
    ExportOptions,
    FinishOptions,
    ImportOptions,
    RateOptions,
    ServeOptions,
)
from pipelines.stages import Stage, console, say
from pipelines.translate.lines import beside
from pipelines.translate.review_sample import Sample


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
        table.add_row(check, f"{len(by_check[check]):,}", escape("\n".join(shown)))
    console.print(table)
    say(f"{out}: {len(every):,} flags on {len(flags):,} of {len(lines):,} lines")


def run_export(options: ExportOptions) -> None:
    """`export`."""
    from pipelines.translate.review_forms import LABELLING, export_lines
    from pipelines.translate.review_sample import record_sample, take_part

    lines = _read(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    sample = _draw(options.lines, lines, flags, options.sample, options.seed)
    wanted = {*flags, *sample.ids}
    taken = [line for line in lines if line.id in wanted]
    if options.part:
        taken = take_part(taken, options.part)
    record_sample(options.lines, sample)
    export_lines(options.target, taken, flags)
    flagged = sum(line.id in flags for line in taken)
    say(f"{options.target}: {flagged:,} flagged lines and {len(taken) - flagged:,} others")
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
    from pipelines.translate.review_rate_table import show_rate
    from pipelines.translate.review_sample import record_sample, sample_path

    lines = _read(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    drawn = None
    if sample_path(options.lines).exists():
        sample = _draw(options.lines, lines, flags)
        record_sample(options.lines, sample)
        drawn = sample.ids
    with console.status("rating"):
        rate = edit_rate(lines, flags, _record(options.lines).direction, drawn)
    out = beside(options.lines, "rate.json")
    replace_json(out, {"schema": SCHEMA_VERSION, **asdict(rate)}, "rate")
    show_rate(rate, console)
    if rate.drawn is not None:
        say(
            f"{rate.unflagged.of:,} of the {rate.drawn:,} lines of the sample reviewed; "
            f"{rate.beside:,} more lines without a flag tell nothing about the others"
        )
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
    from pipelines.translate.review_log import log_path, tell_set_aside
    from pipelines.translate.review_page import ReviewServer
    from pipelines.translate.review_sample import record_sample
    from pipelines.translate.review_session import Session

    lines = read_lines(options.lines)
    flags = _machine_flags(options.lines, lines, options.glossary)
    log = log_path(options.lines)
    sample = _draw(options.lines, lines, flags, options.sample, options.seed)
    session = Session(lines, flags, log, options.reviewer)
    session.review_beside(sample.ids)
    tell_set_aside(log, session.set_aside)
    name, direction = beside(options.lines, "").name, _record(options.lines).direction
    with closing(session), ReviewServer(session, name, direction, options.port) as server:
        record_sample(options.lines, sample)
        say(f"{server.address}\nCtrl-C ends the review; decisions are kept in {log}")
        server.serve_forever()


def _read(path: Path) -> list[Any]:
    """Lines with what people decided on the page, imported or not."""
    from pipelines.translate.review_log import log_path, read_reviewed, tell_set_aside

    found = read_reviewed(path)
    tell_set_aside(log_path(path), found.set_aside)
    return found.lines


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


def _draw(
    path: Path,
    lines: Sequence[Any],
    flags: Mapping[str, Any],
    size: int | None = None,
    seed: int | None = None,
) -> Sample:
    """The sample, and a word where lines or flags that changed have changed it."""
    from pipelines.translate.review_sample import draw_sample, read_sample

    before = read_sample(path)
    sample = draw_sample(lines, flags, before, size, seed)
    if before and before != sample and (before.size, before.seed) == (sample.size, sample.seed):
        new = len({*sample.ids} - {*before.ids})
        say(f"the sample has {new:,} other lines: lines or their flags are not what they were")
    return sample


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
