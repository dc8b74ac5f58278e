"""`python -m pipelines data`: what is there of a dataset, in one table, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from features.config import DatasetConfig
from features.errors import few
from features.recipes import RECIPES, find_split, load_recipe
from pipelines.data_check import DataCheck, SplitCheck, check_data
from pipelines.selection import Selection

WIDTH = 100
GOOD, BAD = "[green]✓[/]", "[red]✗[/]"


@dataclass(frozen=True)
class DataConfig:
    """Which dataset is looked at, and how closely. Nothing is downloaded."""

    dataset: str = ""
    """Dataset recipe; all of pipelines/recipes/datasets unless given."""
    split: str = ""
    """Look at this split only."""
    videos: Path | None = None
    """Your own folder of videos, instead of a dataset recipe."""
    annotations: Path | None = None
    """Your own questions about `videos`: JSONL, see features/annotations.py."""
    checksums: bool = False
    """Hash every video that the dataset's `checksums` lists."""
    missing: Path | None = None
    """Write the ids of all missing videos here, one a line."""


def show_data(config: DataConfig, console: Console) -> bool:
    """Print what is there; True when everything is.

    Raises:
        ConfigError: no such dataset, split or folder.
    """
    console = Console(file=console.file, width=min(WIDTH, console.width))
    if not config.dataset and config.videos is None:
        names = sorted(path.stem for path in (RECIPES / "datasets").glob("*.yaml"))
        checks = [check_data(load_recipe("datasets", name, DatasetConfig)) for name in names]
        console.print(overview_table(checks))
        console.print("more about one: python -m pipelines data --dataset NAME")
        return not any(check.to_do() for check in checks)
    chosen = Selection(dataset=config.dataset, videos=config.videos, annotations=config.annotations)
    dataset = chosen.load_dataset()
    if config.split:
        find_split(dataset, config.split)
    check = check_data(dataset, config.split, config.checksums)
    console.print(data_table(check))
    todo = check.to_do()
    console.print("\n".join(f"{BAD} {escape(line)}" for line in todo) or f"{GOOD} all there")
    if check.unasked:
        console.print(f"nobody asks about {escape(few(check.unasked, 3))}")
    if check.listed and not config.checksums:
        console.print("--checksums hashes every video that is listed")
    if todo and dataset.source:
        console.print(f"to be had: {escape(dataset.source)}")
    if config.missing:
        config.missing.write_text("".join(f"{name}\n" for name in check.missing), encoding="utf-8")
    return not todo


def overview_table(checks: Sequence[DataCheck]) -> Table:
    """A row for every dataset."""
    names = ("dataset", "annotation files", "questions", "videos asked about", "missing", "in full")
    table = Table(*names, title="datasets", box=SIMPLE_HEAD)
    for check in checks:
        files = [path for split in check.splits for path in split.paths]
        there = len(files) - sum(len(split.absent) for split in check.splits)
        published = [split.config.num_questions for split in check.splits]
        wanted = sum(filter(None, published)) if None not in published else None
        found = [split.questions for split in check.splits if split.questions is not None]
        table.add_row(
            check.dataset.name,
            f"{there} of {len(files)}",
            _count(sum(found) if found else None, wanted),
            *(f"{len(ids):,}" if found else "-" for ids in (check.asked, check.missing)),
            BAD if check.to_do() else GOOD,
        )
    return table


def data_table(check: DataCheck) -> Table:
    """A row for every split, one for the videos and one for their checksums."""
    table = Table(title=check.dataset.name, caption=f"{GOOD} number: as published", box=SIMPLE_HEAD)
    table.add_column("split")
    table.add_column("annotation files", overflow="fold")
    for name in ("questions", "videos asked", "video files"):
        table.add_column(name)
    for split in check.splits:
        table.add_row(*_split_row(split))
    table.add_section()
    folder, facts = check.dataset.videos, [f"{len(check.files):,} there"]
    facts += [f"{len(check.unasked):,} not asked"] if check.unasked else []
    facts += [f"[red]{len(check.twice):,} twice[/]"] if check.twice else []
    table.add_row("videos", _path(folder, folder.is_dir()), "", "", "\n".join(facts))
    if check.dataset.checksums:
        table.add_row("sha256", *_checksum_row(check, check.dataset.checksums))
    return table


def _split_row(split: SplitCheck) -> list[str]:
    paths = [_path(path, path not in split.absent and not split.error) for path in split.paths]
    there = len(split.asked) - len(split.missing)
    files = f"{there:,} there" if split.questions is not None else "-"
    if split.missing:
        files += f"\n[red]{len(split.missing):,} missing[/]"
    asked = len(split.asked) if split.questions is not None else None
    questions = _count(split.questions, split.config.num_questions)
    return [split.name, "\n".join(paths), questions, _count(asked, split.config.videos), files]


def _checksum_row(check: DataCheck, manifest: Path) -> list[str]:
    if check.listed is None:
        return [_path(manifest, False), "", "", "-"]
    known = len(check.listed.keys() & check.files.keys())
    facts = [f"{known:,} listed"]
    if check.wrong is None:
        facts.append("not hashed")
    else:
        facts.append(f"{known - len(check.wrong):,} as listed")
        facts += [f"[red]{len(check.wrong):,} not[/]"] if check.wrong else []
    return [_path(manifest, True), "", "", "\n".join(facts)]


def _count(found: int | None, published: int | None) -> str:
    shown = "-" if found is None else f"{found:,}"
    if published is None:
        return shown
    both = f"{shown} of {published:,}"
    return f"{GOOD} {shown}" if found == published else both if found is None else f"[red]{both}[/]"


def _path(path: Path, good: bool) -> str:
    return f"{GOOD if good else BAD} {escape(str(path))}"
