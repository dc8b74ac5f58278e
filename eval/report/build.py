"""The report: tables as JSON, Markdown and CSV, and a page with every question and answer.

    <out>/report.json     all numbers
    <out>/report.md       the same to read, report.csv to compute with
    <out>/report/         the page (index.html) and its data; or, as one file, report.html

Everything is built beside its place and put there when it is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich import progress
from rich.console import Console
from rich.markup import escape

from eval.report.csv_file import report_csv
from eval.report.curves import learning_curves
from eval.report.facts import cost_rows
from eval.report.five import make_five
from eval.report.gather import PartResults, gather, name_judges
from eval.report.markdown import report_markdown
from eval.report.published import published
from eval.report.runs import NamedRun, Part
from eval.report.settings import decoding_warnings, fingerprints
from eval.report.shards import count_calls, page_calls, write_call
from eval.report.tables import make_agreement, make_table
from eval.report.terminal import terminal_table
from features.durable import disk_errors, replace_file, replace_json
from features.errors import RedVillmError, few
from features.spec import SCHEMA_VERSION
from features.store import FeatureStore

__all__ = ["SINGLE_FILE_ROWS", "NamedRun", "Part", "build_report", "terminal_table"]

SINGLE_FILE_ROWS = 5_000
"""Most samples of a page in one file: a browser must read all of it before it shows anything."""
SINGLE_FILE_BYTES = 64 * 1024 * 1024
"""Most data of it: frame strips can be large where samples are few."""
_STAGED = ".report.new"
_Item = TypeVar("_Item")


def build_report(
    runs: Sequence[NamedRun],
    parts: Sequence[Part],
    out: Path,
    *,
    judges: Sequence[str] | None = None,
    stores: Mapping[str, FeatureStore] | None = None,
    compare: Sequence[tuple[str, str]] = (),
    seconds: Mapping[str, float] | None = None,
    title: str,
    min_coverage: float,
    single_file: bool = False,
) -> dict[str, Any]:
    """Write the report into `out`, and return what report.json holds.

    A run that was not evaluated on a part, or not by a judge, has no row there. A row is made of
    the seeds that were, and says how many of all they are. What is damaged, or does not answer the
    first run's questions, is left out, which stands in `warnings`.

    Args:
        runs: the rows, in the order in which they are shown.
        parts: what they were asked.
        out: folder of the report.
        judges: slugs of the judges that are reported, in this order; all that are found unless
            given.
        stores: by dataset, where frame strips and paths of videos come from.
        compare: pairs of run names (a, b) whose paired difference a - b is reported.
        seconds: wall clock by stage.
        title: the question that the report answers.
        min_coverage: share of a row's questions that must have been judged for its numbers.
        single_file: the page as one file, report.html.

    Raises:
        RedVillmError: names that repeat, nothing that was evaluated, or too many samples for one
            file.
    """
    _check_names(runs, compare)
    with _staging(out) as staged:
        found, left_out = _gather_all(runs, parts, staged, judges)
        if single_file:
            _require_few(found)
        report = _report(runs, found, left_out, compare, min_coverage, title, seconds or {})
        folder, file = out / "report", out / "report.html"
        if single_file:
            _write_single(file, staged, page_calls(report, found, stores or {}, out))
        else:
            calls = page_calls(report, found, stores or {}, folder)
            _write_folder(folder, staged, calls, count_calls(found, stores or {}))
        stale = folder if single_file else file
        if stale.exists():  # it would show other numbers than the rest of the report
            stale.rename(staged / "stale")
    for name, text in (("report.md", report_markdown(report)), ("report.csv", report_csv(report))):
        replace_file(out / name, text.encode(errors="backslashreplace"), "report")
    replace_json(out / "report.json", report, "report")
    return report


def _check_names(runs: Sequence[NamedRun], compare: Sequence[tuple[str, str]]) -> None:
    names = [run.name for run in runs]
    if not runs or not all(run.seeds for run in runs) or len(set(names)) != len(names):
        raise RedVillmError("a report needs runs with distinct names and a seed each", got=names)
    unknown = sorted({name for pair in compare for name in pair} - set(names))
    if unknown:
        raise RedVillmError("no such run to compare", got=few(unknown), wanted=few(names, 20))


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside the report for what is not whole yet; what a crash left there goes first."""
    staged = out / _STAGED
    with disk_errors("cannot write the report", out):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _gather_all(
    runs: Sequence[NamedRun], parts: Sequence[Part], staged: Path, judges: Sequence[str] | None
) -> tuple[list[PartResults], list[str]]:
    """What there is of each part, and what could not be used.

    Raises:
        RedVillmError: nothing at all.
    """
    found: list[PartResults] = []
    left_out: list[str] = []
    for number, part in enumerate(parts):
        track = partial(_track, what=f"reading {part.dataset}, {part.split}")
        one = gather(runs, part, f"p{number}", staged, judges, track, left_out)
        found += [one] if one is not None else []
    name_judges(found)
    if not found:
        raise RedVillmError(
            "nothing was evaluated",
            where=few([str(seed) for run in runs for seed in run.seeds]),
            got="no finished judgement"
            + (f" by {few(list(judges))}" if judges else "")
            + "".join(f"; {line}" for line in left_out[:3]),
            wanted=few([f"{part.dataset}, {part.split}" for part in parts]),
            do="run the evaluation first",
        )
    return found, left_out


def _report(
    runs: Sequence[NamedRun],
    parts: Sequence[PartResults],
    left_out: Sequence[str],
    compare: Sequence[tuple[str, str]],
    min_coverage: float,
    title: str,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    names = [run.name for run in runs]
    keys = [(part, key) for part in parts for key in part.keys]
    tables = [
        make_table(part, key, compare, min_coverage) for part, key in _track(keys, "intervals")
    ]
    return {
        "schema": SCHEMA_VERSION,
        "title": title,
        "run_order": names,
        **{key: tables[0][key] for key in ("split", "judge", "rows", "differences")},
        "tables": tables,
        "five": make_five(parts, tables, names, compare),
        "published": published(),
        "agreement": [row for part in parts for row in make_agreement(part)],
        "curves": learning_curves(runs),
        "cost": [row for part in parts for row in cost_rows(part)],
        "fingerprints": fingerprints(parts),
        "warnings": [*left_out, *(text for part in parts for text in decoding_warnings(part))],
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
    }


def _write_folder(page: Path, staged: Path, calls: Iterable[tuple[str, str]], count: int) -> None:
    """Build the folder and put it in the old one's place."""
    from eval.report.page import write_page

    new, old = staged / page.name, staged / "old"
    (new / "data").mkdir(parents=True)
    for call in _track(calls, "writing the page", count):
        write_call(new / "data", call)
    write_page(new)
    if page.exists():
        page.rename(old)
    new.rename(page)


def _write_single(page: Path, staged: Path, calls: Iterable[tuple[str, str]]) -> None:
    """All in one file, and what the page begins with first.

    Raises:
        RedVillmError: more than `SINGLE_FILE_BYTES`.
    """
    from eval.report.page import single_page

    kept: list[tuple[str, str]] = []
    size = 0
    for name, value in calls:
        size += len(value.encode(errors="backslashreplace"))
        if size > SINGLE_FILE_BYTES:
            raise _too_many("bytes", f"more than {SINGLE_FILE_BYTES:,}", f"{SINGLE_FILE_BYTES:,}")
        kept.append((name, value))
    *others, report = kept
    new = staged / page.name
    with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(single_page([report, *others]))
    new.replace(page)


def _track(items: Iterable[_Item], what: str, total: int | None = None) -> Iterable[_Item]:
    """A progress bar where somebody can see it move."""
    seen = Console().is_terminal
    return progress.track(items, escape(what), total, transient=True, disable=not seen)


def _require_few(parts: Sequence[PartResults]) -> None:
    count = sum(len(part.questions) for part in parts)
    if count > SINGLE_FILE_ROWS:
        raise _too_many("samples", f"{count:,}", f"{SINGLE_FILE_ROWS:,}")


def _too_many(what: str, got: str, most: str) -> RedVillmError:
    return RedVillmError(
        f"too many {what} for a page in one file",
        got=got,
        wanted=f"at most {most}",
        do="build the folder (its index.html opens from the disk, too), or report fewer splits",
    )
