"""What a person sees of a run: a live bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from extract.meter import RunReport, Usage, run_report

_LINE_EVERY_S = 10.0


class RunProgress:
    """Counts videos, images, failures and where the time goes, and shows them.

    Args:
        total: videos to be done.
        console: where to write; standard error unless given.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.failed: Counter[str] = Counter()
        self._total = total
        self._console = console or Console(stderr=True)
        self._seen: set[str] = set()
        self._usage = Usage()
        self._towers = self._decoders = 1
        self._same_cores = True
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("extract"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("videos"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("extract", total=total)
        self._text = Text()  # a line of its own: in one row with the bar it would push that out
        self._live = Live(Group(self._bar, self._text), console=self._console)

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def workers(self, towers: int, decoders: int, same_cores: bool) -> None:
        """Who works; `same_cores`: towers and decoders share the cores."""
        self._towers, self._decoders, self._same_cores = towers, decoders, same_cores

    def used(self, usage: Usage) -> None:
        """Count what some work has used."""
        self._usage += usage

    def video(self, video_id: str, failure: str, usage: Usage) -> None:
        """Count one video, once: the code of its failure, or "", and what was used since."""
        self.used(usage)
        if video_id in self._seen:  # its shard is being done again
            return
        self._seen.add(video_id)
        if failure:
            self.failed[failure] += 1
        facts = self._facts()
        self._bar.update(self._task, advance=1)
        self._text.plain = facts
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            left = (now - self._start) / len(self._seen) * (self._total - len(self._seen))
            self._console.print(
                f"extract: {len(self._seen)}/{self._total} videos, {facts}, {left:.0f} s left"
            )

    def report(self) -> RunReport:
        """What the run took, against what it could have taken."""
        seconds = time.monotonic() - self._start
        return run_report(self._usage, seconds, self._towers, self._decoders, self._same_cores)

    def _facts(self) -> str:
        used, wall = self._usage, max(time.monotonic() - self._start, 1e-9)
        worst = ", ".join(f"{code} {count}" for code, count in self.failed.most_common(4))
        return (
            f"{used.images / wall:.0f} frames/s, ViT {used.encode_s / wall / self._towers:.0%}, "
            f"decoders {used.decode_cpu_s / wall / self._decoders:.0%}, "
            f"{self.failed.total()} failed{f' ({worst})' if worst else ''}"
        )
