"""What `python -m pipelines review <verb>` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.translate.files import Form


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
    sample: int | None = None
    """Lines without flags to add (0: none). As drawn before, by `serve` as well, else 200; another
    number takes the place of what was drawn, and of the same seed the larger sample contains the
    smaller. <file>.sample.json says which lines they are."""
    seed: int | None = None
    """Which ones. As drawn before, else 0; another seed draws others in their place."""
    part: str = ""
    """k/n: only the k-th of n equal parts, for n reviewers; a question and its answer stay
    together."""
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
    """How much people changed, and how often each check was right.

    What the checks miss is told by the sample that `export` or `serve` drew; where none was drawn,
    by all reviewed lines without a flag, as if they had been.
    """

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
    sample: int | None = None
    """Lines without flags to review beside the flagged ones, as for `export`."""
    seed: int | None = None
    """Which ones, as for `export`."""
    port: int = 0
    """Of this machine; 0: any free one."""
    glossary: Path | None = None
    """As for `check`."""
