"""What a person sees of a run: a live bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


class RunProgress:
    """Counts videos, frames and failures and shows them.

    Args:
        total: videos to be done.
        console: where to write; standard error unless given.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.failed: Counter[str] = Counter()
        self._total = total
        self._console = console or Console(stderr=True)
        self._seen: set[str] = set()
        self._frames = 0
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("extract"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("videos"),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("extract", total=total, facts="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def video(self, video_id: str, frames: int, failure: str = "") -> None:
        """Count one video, once: its frames, or the code of its failure."""
        if video_id in self._seen:  # its shard is being done again
            return
        self._seen.add(video_id)
        self._frames += frames
        if failure:
            self.failed[failure] += 1
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        facts = f"{self._frames / seconds:.0f} frames/s, {self.failed.total()} failed"
        self._bar.update(self._task, advance=1, facts=facts)
        if not self._console.is_terminal and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            left = seconds / len(self._seen) * (self._total - len(self._seen))
            self._console.print(
                f"extract: {len(self._seen)}/{self._total} videos, {facts}, {left:.0f} s left"
            )
