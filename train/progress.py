"""What a person sees of a training: a live bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from train.meter import StepMeter

_RECENT = 20
"""Steps that the figures are means of."""
_QUIET_S, _LINE_EVERY_S, _DRAW_EVERY_S = 5.0, 30.0, 0.25


class ShowProgress(L.Callback):
    """Shows the module's `history` as it grows, and one line of facts at the end.

    A log file gets a line every tenth of the steps or 30 s, and none in the first 5 seconds.
    """

    def __init__(self, console: Console, meter: StepMeter) -> None:
        """Prints to `console`; the last line is the meter's report."""
        self._console, self._meter = console, meter
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
        )
        self._text = Text()  # a line of its own: in one row with the bar it would push that out
        live = console.is_terminal and not console.quiet
        self._live = Live(Group(self._bar, self._text), console=console) if live else None
        self._task = self._bar.add_task("train")
        self._started = self._shown_at = 0.0
        self._first = self._shown = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A resumed run's bar begins where that stopped."""
        module: Any = pl_module
        self._first = self._shown = len(module.history)
        self._started = self._shown_at = time.monotonic()
        self._bar.reset(self._task, total=module.num_steps, completed=self._first)
        if self._live is not None:
            self._live.start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """One step more."""
        module: Any = pl_module
        done, total, now = len(module.history), module.num_steps, time.monotonic()
        since = now - self._shown_at
        if self._live is not None:
            if since >= _DRAW_EVERY_S or done == total:
                self._shown_at = now
                self._bar.update(self._task, completed=done)
                self._text.plain = _facts(module.history)
            return
        tenth = 10 * done // total > 10 * self._shown // total
        if (since >= _LINE_EVERY_S or tenth) and now - self._started >= _QUIET_S and done < total:
            self._shown_at, self._shown = now, done
            left = (now - self._started) / (done - self._first) * (total - done)
            facts = _facts(module.history)
            self._console.print(f"train: {done:,}/{total:,} steps, {facts}, {left:,.0f} s left")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The bar stays; the report of the steps made here follows."""
        self._stop()
        self._console.print(f"train: {self._meter.report()}")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()


def _facts(history: Sequence[dict[str, float]]) -> str:
    recent = history[-_RECENT:]
    loss, speed, floor = (
        sum(row[name] for row in recent) / len(recent)
        for name in ("loss", "tokens_per_s", "floor_share")
    )
    return f"loss {loss:.4g}, {speed:,.0f} tokens/s, floor share {floor:.0%}"
