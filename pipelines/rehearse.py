"""`make rehearse`: one training step and one answer at a published base's full size, on the CPU.

A checkpoint of made-up weights is written in the published layout and then goes the way that the
real one goes. It tells whether names, shapes, memory and dtypes hold at 7B before anyone downloads
14 GB; what the model says means nothing.
"""

from __future__ import annotations

import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from features.config import BaseConfig
from features.durable import replace_json
from features.errors import ConfigError
from pipelines.rehearse_checkpoint import Rehearsal, Scale, write_checkpoint

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class RehearseConfig:
    """What is rehearsed, and where the checkpoint lies meanwhile."""

    base: str = "llava-1.5-7b"
    """llava-1.5-7b (14 GB on disk) or qwen-vl (19 GB)."""
    scale: Scale = "full"
    """full, or tiny: the same way in seconds."""
    folder: Path = Path(tempfile.gettempdir())
    """Where the checkpoint is written, in a folder of its own."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """The LLM's dtype."""
    num_frames: int = 100
    """T of the made-up features."""
    max_new_tokens: int = 8
    """Length of the answer, in tokens."""
    keep: bool = False
    """Leave the checkpoint where it is."""
    out: Path | None = None
    """JSON of the figures; runs/rehearse/<base>.json unless given."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more", got=getattr(self, name))
        if not self.folder.is_dir():
            raise ConfigError("no such folder", where=self.folder, do="check --folder")


class Memory:
    """Samples this process's memory in a thread, in bytes.

    `held` (anonymous and shared) is what the machine must have; `mapped` (of files) the kernel can
    drop and read again. Where /proc is missing, `held` is the most there ever was of both.
    """

    def __init__(self, interval: float = 0.02) -> None:
        self.held = self.mapped = 0
        self._interval, self._stop = interval, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self.restart()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def restart(self) -> None:
        """Forget the peaks so far."""
        self.held, self.mapped = memory_now()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            held, mapped = memory_now()
            self.held, self.mapped = max(self.held, held), max(self.mapped, mapped)


def memory_now() -> tuple[int, int]:
    """(anonymous + shared, mapped from files) bytes of this process."""
    if not _STATUS.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024), 0
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    kilobytes = {
        k: int(v.split()[0]) for k, _, v in (x.partition(":") for x in lines) if "Rss" in k
    }
    return 1024 * (kilobytes["RssAnon"] + kilobytes["RssShmem"]), 1024 * kilobytes["RssFile"]


@dataclass
class Figures:
    """What came out, phase by phase."""

    console: Console
    memory: Memory
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time and memory of what happens inside, as a line and in `phases`."""
        self.memory.restart()
        start = time.perf_counter()
        with self.console.status(name):
            yield
        seconds = time.perf_counter() - start
        held, mapped = memory_now()
        held, mapped = max(held, self.memory.held), max(mapped, self.memory.mapped)
        record = {"seconds": seconds, "peak_held_bytes": held, "peak_mapped_bytes": mapped}
        self.phases[name] = record
        self.console.print(
            f"{name:10} {seconds:8.1f} s   peak {held / 1e9:6.2f} GB held"
            f" + {mapped / 1e9:6.2f} GB mapped"
        )


def rehearse(config: RehearseConfig, console: Console) -> Path:
    """Write, load, train a step, answer, clean up; returns the JSON with the figures.

    Raises:
        ConfigError: unknown base, or no room on the disk.
    """
    plan = Rehearsal.read(config.base, config.scale)
    out = config.out or Path("runs") / "rehearse" / f"{config.base}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"rehearse-{config.base}-", dir=config.folder))
    console.print(f"checkpoint of made-up weights: {plan.nbytes / 1e9:.2f} GB in {folder}")
    try:
        with _stopped_by_sigterm(), Memory() as memory:
            figures = Figures(console, memory)
            with figures.phase("write"), _progress(console) as progress:
                task = progress.add_task("write", total=plan.nbytes)
                nbytes = write_checkpoint(plan, folder, lambda n: progress.advance(task, n))
            found = _perform(config, plan, plan.base_at(folder), figures)
    finally:  # Ctrl-C comes through here too
        if config.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    record = {
        "base": config.base,
        "scale": config.scale,
        "dtype": config.dtype,
        "threads": torch.get_num_threads(),
        "checkpoint_bytes": nbytes,
        "peak_held_bytes": max(p["peak_held_bytes"] for p in figures.phases.values()),
        "peak_mapped_bytes": max(p["peak_mapped_bytes"] for p in figures.phases.values()),
        "phases": figures.phases,
        **found,
    }
    replace_json(out, record, "rehearsal")
    peak = record["peak_held_bytes"] / 1e9
    console.print(f"peak {peak:.2f} GB held; loss {found['loss']:.3f}; figures: {out}")
    return out


def _perform(
    config: RehearseConfig, plan: Rehearsal, base: BaseConfig, figures: Figures
) -> dict[str, Any]:
    from eval.answering import Asked, Decoding, TorchEngine
    from extract.tower import load_tower
    from train.batch import Item, collate
    from train.frozen import checkpoint_activations, keep_frozen, require_recomputed
    from train.image_llm import load_image_llm
    from train.projectors import ProjectorSwitches, VideoProjector
    from train.prompt import Prompter
    from train.video_llm import VideoLLM, count_parameters, trainable
    from train.videos import Video

    with figures.phase("tower"):
        tower = load_tower(base, config.dtype, "cpu")
        side = base.image_size
        picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        spatial = tower.encode(picture)[0].float().clone()
        width = tower.width
        del tower
    with figures.phase("load"):
        llm = load_image_llm(base, "cpu", getattr(torch, config.dtype))
        projector = VideoProjector(llm.aligner, llm.hidden_size, ProjectorSwitches())
        model = VideoLLM.of(projector, llm)
    temporal = torch.randn(config.num_frames, width, generator=torch.Generator().manual_seed(0))
    video, prompter = Video(temporal, spatial), Prompter.of(base, llm)
    tokens = projector.num_tokens(len(temporal), len(spatial))
    with figures.phase("train"):
        keep_frozen(llm.llm)
        checkpoint_activations(llm.llm, "on")
        optimizer = torch.optim.AdamW(trainable(model).values(), 2e-5)
        rendered = prompter.render("what happens", "nothing happens", tokens)
        batch = collate([Item(("rehearsal",), rendered, video)], llm.pad_token_id)
        with require_recomputed(llm.llm, True) as seen:
            total, count = model.loss(batch)
            loss: Any = total / count
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        checkpoint_activations(llm.llm, "off")
    with figures.phase("generate"):
        model.eval()
        question = Item(("rehearsal",), prompter.render("what happens", None, tokens), video)
        # Made-up weights may say the stop token at any time; no token has this id.
        endless = replace(llm, stop_ids=(-1,))
        engine = TorchEngine(model, endless, Decoding(config.max_new_tokens))
        reply = engine([Asked("rehearsal", 1, question)])[0]
    return {
        "num_frames": config.num_frames,
        "num_patches": plan.num_patches,
        "video_tokens": tokens,
        "sequence": len(rendered.input_ids),
        "parameters": count_parameters(model),
        "loss": loss.item(),
        "layer_forwards": seen.passes,
        "new_tokens": reply.num_tokens,
    }


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, so that a batch system's limit leaves no 14 GB behind."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(console: Console) -> Progress:
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn()
    return Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
