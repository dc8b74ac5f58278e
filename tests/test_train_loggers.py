from __future__ import annotations

import csv
import sys
import time
import warnings
from pathlib import Path

import pytest
from lightning.pytorch.loggers import Logger

from features.errors import ConfigError
from train import loggers as loggers_module
from train.loggers import FOLDERS, Row, make_loggers

Numbered = tuple[int, Row]

KEY = "0123456789abcdef0123456789abcdef01234567"


def row_of(step: int, more: float = 0.0) -> Numbered:
    row = {"loss": 1 / (step + 1) + more, "grad_norm/temporal": 0.5 * step}
    if step % 2 == 0:  # some figures come now and then
        row["distance/temporal"] = 0.25 * step
    return step, row


def log(loggers: list[Logger], rows: list[Numbered]) -> None:
    for step, row in rows:
        for logger in loggers:
            logger.log_metrics(row, step)


def close(loggers: list[Logger]) -> None:
    for logger in loggers:
        logger.finalize("success")


def csv_rows(run: Path) -> list[Numbered]:
    lines = csv.DictReader((run / "logs" / "metrics.csv").read_text().splitlines())
    return [
        (int(line.pop("step")), {k: float(v) for k, v in line.items() if v != ""}) for line in lines
    ]


def board_rows(run: Path) -> list[Numbered]:
    """What TensorBoard itself makes of the event files; every step once or the test ends here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    board = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    board.Reload()
    rows: dict[int, dict[str, float]] = {}
    for name in board.Tags()["scalars"]:
        for event in board.Scalars(name):
            assert name not in rows.setdefault(event.step, {})
            rows[event.step][name] = event.value
    return sorted(rows.items())


def same(got: list[Numbered], wanted: list[Numbered]) -> None:
    assert [step for step, _ in got] == [step for step, _ in wanted]
    for (_, row), (_, other) in zip(got, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-6)


def test_csv_and_tensorboard_hold_every_row(tmp_path: Path) -> None:
    rows = [row_of(step) for step in range(1, 8)]
    loggers = make_loggers(tmp_path)
    log(loggers, rows)
    close(loggers)
    same(csv_rows(tmp_path), rows)
    same(board_rows(tmp_path), rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FOLDERS[:2])


@pytest.mark.parametrize("step", [0, 4])
def test_a_resumed_run_has_every_step_once(tmp_path: Path, step: int) -> None:
    """The first process wrote 7 steps and was killed; its state was that behind `step`."""
    killed = make_loggers(tmp_path)
    log(killed, [row_of(number, 9 if number > step else 0) for number in range(1, 8)])
    killed[0].save()
    killed[1].experiment.flush()  # and never closed
    assert len(csv_rows(tmp_path)) == len(board_rows(tmp_path)) == 7
    time.sleep(1)  # event files are read in the order of their seconds
    earlier = [row_of(number) for number in range(1, step + 1)]
    loggers = make_loggers(tmp_path, None, [row for _, row in earlier])
    later = [row_of(number) for number in range(step + 1, 7)]  # one fewer than before
    log(loggers, later)
    close(loggers)
    same(csv_rows(tmp_path), earlier + later)
    same(board_rows(tmp_path), earlier + later)


def test_rows_of_slow_steps_are_in_the_csv_soon(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loggers_module, "_SECONDS", 0.05)
    loggers = make_loggers(tmp_path)
    log(loggers, [row_of(0)])
    time.sleep(0.1)
    log(loggers, [row_of(1)])
    assert [step for step, _ in csv_rows(tmp_path)] == [0, 1]
    close(loggers)


def test_weights_and_biases_that_are_not_installed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if: importing it raises ImportError
    with pytest.raises(ConfigError, match=r"not installed.*pip install -e '\.\[wandb\]'"):
        make_loggers(tmp_path, "project")


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + KEY)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "demo" / "red-villm" / "seed-0"
    run.mkdir(parents=True)
    ids = []
    for step in (0, 3):
        loggers = make_loggers(run, "videos", [row_of(number)[1] for number in range(1, step + 1)])
        begun = loggers[2].experiment
        ids.append(begun.id)
        assert begun.project == "videos"
        assert begun.name == "demo/red-villm/seed-0"
        log(loggers, [row_of(number) for number in range(step + 1, step + 4)])
        assert begun.summary["loss"] == pytest.approx(1 / (step + 4))
        close(loggers)
        assert wandb.run is None
    assert ids[0] == ids[1]  # a resumed run goes on there, a new one is new
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    files = [p for p in run.rglob("*") if p.is_file()]
    assert len([p for p in files if p.suffix == ".wandb"]) == 2
    assert not any(KEY.encode() in p.read_bytes() for p in files)
    same(csv_rows(run), [row_of(number) for number in range(1, 7)])
    assert loggers_module._run_id(run / "wandb", resumed=False) != ids[0]


def test_weights_and_biases_that_refuse_are_an_error_at_the_start(
    tmp_path: Path, monkeypatch
) -> None:
    wandb = pytest.importorskip("wandb", exc_type=ImportError)

    def refuse(**options: object) -> None:
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError, match=r"api_key not configured.*WANDB_API_KEY"):
        make_loggers(tmp_path, "videos")
