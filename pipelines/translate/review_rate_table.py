"""The edit rate as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.translate.review_rate import Rate, Share


def show_rate(rate: Rate, console: Console) -> None:
    """What people did with the lines, and how often each check was right."""
    table = Table("of reviewed lines", "accepted", "edited", "rejected")
    table.add_row("all", *map(_told, rate.statuses.values()))
    for name, statuses in rate.reviewers.items():
        table.add_row(f"by {escape(name)}", *map(_told, statuses.values()))
    console.print(table)
    table = Table("check", "edited or rejected, of reviewed lines with its flag")
    for check, share in rate.checks.items():
        table.add_row(check, _told(share))
    table.add_row("any flag", _told(rate.flagged))
    others = "no sample was drawn: of all" if rate.drawn is None else "of the sample"
    table.add_row(f"no flag, {others}", _told(rate.unflagged))
    console.print(table)


def _told(share: Share) -> str:
    if not share.of:
        return "none"
    told = f"{share.count:,} of {share.of:,}: {100 * share.count / share.of:.1f} %"
    if share.low is None or share.high is None:
        return told
    return f"{told} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
