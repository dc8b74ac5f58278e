"""A real Lightning loop around a module that does nothing but keep rows."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import lightning as L
import pytest
import torch
from rich.console import Console
from test_train_loggers import csv_rows
from torch.utils.data import DataLoader

from train import progress as progress_module
from train.aligners import LinearAligner
from train.flops import FlopsModel, StepWork
from train.loggers import WriteRows
from train.meter import LoaderClock, Speed, StepMeter
from train.progress import ShowProgress
from train.projectors import ProjectorSwitches, VideoProjector
from train.trainer import quiet_lightning


class Rows(L.LightningModule):
    def __init__(self, num_steps: int, meter: StepMeter, seconds: float = 0.0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.num_steps, self.meter, self.seconds = num_steps, meter, seconds
        self.history: list[dict[str, float]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for parameter in self.meter._modules["alignment"]:
            parameter.grad = torch.ones_like(parameter)
        time.sleep(self.seconds)
        self.meter.gradients()
        loss, work = float(len(self.history)), StepWork(1000, 10, 50_000, 4)
        self.history.append(self.meter.row(len(self.history) + 1, loss, 0.1, work))


def fit(console: Console, num_steps: int, callbacks: list[L.Callback], **options: Any) -> Rows:
    clock = LoaderClock()
    projector = VideoProjector(LinearAligner(6, 4), 4, ProjectorSwitches())
    meter = StepMeter(projector, FlopsModel(1000, 800, 70, 8, 2), Speed(1e9), clock)
    made = options.pop("made", 0)
    module = Rows(num_steps, meter, **options)
    module.history = [{"loss": 9.0, "tokens_per_s": 1.0, "floor_share": 0.0}] * made
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        profiler=clock,
        callbacks=[ShowProgress(console, meter), *callbacks],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    with quiet_lightning():
        trainer.fit(module, DataLoader(range(num_steps - made), batch_size=1))
    return module


def console_of(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, soft_wrap=True)


def said(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_a_terminal_sees_a_bar_that_fits_and_a_last_line() -> None:
    console = console_of(terminal=True)
    fit(console, 30, [])
    lines = said(console)
    assert all(len(line) <= 100 for line in lines)
    assert any(re.match(r"train ━+ 30/30 steps 0:00:00", line) for line in lines)
    # the mean of steps 10 to 29
    assert any(re.match(r"loss 19\.5, [\d,]+ tokens/s, floor share \d+%", line) for line in lines)
    assert re.match(
        r"train: 30 steps in \d+\.\d s, [\d,]+ tokens/s, floor share \d+%, "
        r"data share [\d.]+%, peak [\d.]+ GB$",
        lines[-1],
    )


def test_a_log_file_gets_a_line_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_QUIET_S", 0.0)
    console = console_of(terminal=False)
    fit(console, 40, [], made=20)
    lines = said(console)
    counts = [int(m[1]) for line in lines if (m := re.match(r"train: (\d+)/40 steps, loss ", line))]
    assert counts == [24, 28, 32, 36]  # what was made before is not told again
    assert all(line.endswith(" s left") for line in lines[:-1])
    assert lines[-1].startswith("train: 20 steps in ")
    assert len(lines) == 5


def test_a_short_training_says_one_line_and_a_slow_one_by_the_clock(monkeypatch) -> None:
    console = console_of(terminal=False)
    fit(console, 20, [])
    assert len(said(console)) == 1
    monkeypatch.setattr(progress_module, "_QUIET_S", 0.0)
    monkeypatch.setattr(progress_module, "_LINE_EVERY_S", 0.1)
    console = console_of(terminal=False)
    fit(console, 5, [], seconds=0.11)
    assert len(said(console)) == 5


def test_a_failure_gives_the_terminal_back() -> None:
    console = console_of(terminal=True)
    with pytest.raises(ValueError, match="sleep length"):
        fit(console, 5, [], seconds=-1.0)
    assert not console._live_stack


def test_other_ranks_are_silent() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, quiet=True)
    fit(console, 5, [])
    assert said(console) == []


def test_rows_are_written_as_they_come_and_behind_earlier_ones(tmp_path) -> None:
    module = fit(console_of(terminal=False), 12, [WriteRows(tmp_path)], made=5)
    rows = csv_rows(tmp_path)
    assert [step for step, _ in rows] == list(range(1, 13))
    for (_, row), wanted in zip(rows, module.history, strict=True):
        assert row == pytest.approx(wanted)
    assert {"data_share", "grad_norm/alignment"} <= set(rows[5][1])
    assert 0 < rows[6][1]["data_share"] < 1  # Lightning told the clock
