"""What a training step was worth: norms, distances, speed, and its share of the floor.

The device is read once for all figures of a step, behind the reading of its loss.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightning.pytorch.profilers import Profiler
from torch import Tensor, nn

from train.flops import FlopsModel, StepWork

_EVERY = 20
"""Steps from one look at the distances to the next."""


@dataclass(frozen=True)
class Speed:
    """What the devices can do, together."""

    rate: float
    """FLOP/s of the LLM's matrix products here (features.device.measured_rate), times devices."""
    peak: float | None = None
    """Peak FLOP/s by the data sheet (features.device.device_peak), times devices, if known."""


class LoaderClock(Profiler):
    """Measures the time that Lightning's loop waits for the loader. Give it to the Trainer."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: float | None = None
        self._waited = 0.0

    def start(self, action_name: str) -> None:
        """Lightning begins something."""
        if action_name.endswith(".train_dataloader_next"):
            self._asked = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Lightning has done something."""
        if self._asked is not None and action_name.endswith(".train_dataloader_next"):
            self._waited = time.perf_counter() - self._asked

    def take(self) -> tuple[float | None, float]:
        """(when the last batch was asked for, seconds waited for it); (None, 0) if none was."""
        taken = self._asked, self._waited
        self._asked, self._waited = None, 0.0
        return taken


class StepMeter:
    """Turns each optimizer step into a flat row of floats.

    A step's time runs from the moment its data is asked for until its loss is known; saves,
    validation and logs lie between steps and count in `report` alone.

    Make it before a checkpoint is loaded, so that distances are from the true start. On several
    devices each has a meter; loss and work are summed over them by the caller.
    """

    def __init__(
        self,
        projector: nn.Module,
        flops: FlopsModel,
        speed: Speed,
        clock: LoaderClock,
        checkpointing: bool = False,
    ) -> None:
        """Keeps a copy of everything that is trained.

        Args:
            projector: each of its direct submodules with trained parameters is measured.
            flops: of the LLM before it was quantised or divided.
            speed: of all devices that share a step.
            clock: the Trainer's.
            checkpointing: whether the LLM's layers are computed twice: `floor_share` compares
                with the floor at this setting, `mfu` with the work that is needed.
        """
        self._modules = dict(_trained(projector))
        self._starts = {
            name: [p.detach().clone() for p in parameters]
            for name, parameters in self._modules.items()
        }
        self._start_norms = {name: _norm(start) for name, start in self._starts.items()}
        self._flops, self._speed, self._clock = flops, speed, clock
        self.checkpointing = checkpointing
        self._norms: dict[str, Tensor] = {}
        self._end = self._begin = time.perf_counter()
        self._totals = Report()

    def gradients(self) -> Float[Tensor, ""]:
        """Norm of all gradients; call it behind the backward pass and before they are clipped."""
        self._norms, every = {}, []
        for name, parameters in self._modules.items():
            grads = [p.grad for p in parameters if p.grad is not None]
            if grads:
                norms = torch.stack(torch._foreach_norm(grads))
                self._norms[f"grad_norm/{name}"] = torch.linalg.vector_norm(norms)
                every.append(norms)
        self._norms["grad_norm"] = torch.linalg.vector_norm(torch.cat(every))
        return self._norms["grad_norm"]

    def distances(self) -> dict[str, Float[Tensor, ""]]:
        """By trained module: |w - w0| / |w0|, with w0 the parameters when this meter was made."""
        found = {}
        for name, parameters in self._modules.items():
            moved = torch._foreach_sub([p.detach() for p in parameters], self._starts[name])
            found[f"distance/{name}"] = _norm(moved) / self._start_norms[name]
        return found

    def row(self, step: int, loss: float, lr: float, work: StepWork) -> dict[str, float]:
        """The figures of a step that has just been made.

        Args:
            step: its number, from 1, whoever made those before.
            loss: mean over the step's answer tokens.
            lr: the learning rate that the step was made with.
            work: of the whole step.
        """
        read = dict(self._norms)
        if step % _EVERY == 1:
            read |= self.distances()
        values = torch.stack(list(read.values())).tolist()
        now = time.perf_counter()
        asked, waited = self._clock.take()
        began = self._end if asked is None else asked
        if not self._totals.steps:
            self._begin = began
        seconds, self._end = now - began, now
        floor = self._flops.flops(work, self.checkpointing) / self._speed.rate
        self._totals = Report(
            self._totals.steps + 1,
            now - self._begin,
            self._totals.tokens + work.tokens,
            self._totals.floor_s + floor,
            self._totals.waited_s + waited,
        )
        row = {"loss": loss, "lr": lr, **dict(zip(read, values, strict=True))} | {
            "tokens_per_s": work.tokens / seconds,
            "questions_per_s": work.questions / seconds,
            "data_share": waited / seconds,
            "floor_share": floor / seconds,
        }
        if self._speed.peak is not None:
            needed = self._flops.flops(work)
            row["mfu"] = needed / (seconds * self._speed.peak)
        return row

    def report(self) -> Report:
        """All steps of this process so far, with everything between them."""
        return self._totals


@dataclass(frozen=True)
class Report:
    """A training in numbers: the steps made by this process, the time between them included."""

    steps: int = 0
    seconds: float = 0.0
    """Wall clock from asking for the first batch to the end of the last step."""
    tokens: float = 0.0
    """Real tokens through the LLM."""
    floor_s: float = 0.0
    """Seconds that the LLM's arithmetic takes at the measured rate."""
    waited_s: float = 0.0
    """Seconds waited for the loader."""

    def __str__(self) -> str:
        wall = max(self.seconds, 1e-9)
        return (
            f"{self.steps:,} steps in {self.seconds:,.1f} s, {self.tokens / wall:,.0f} tokens/s, "
            f"floor share {self.floor_s / wall:.0%}, data share {self.waited_s / wall:.1%}, "
            f"peak {peak_memory() / 1e9:.2f} GB"
        )


def peak_memory() -> int:
    """Most bytes that were held: by torch on a CUDA device, or by this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _trained(projector: nn.Module) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Direct submodules with what is trained in them; a shared one is named once."""
    for name, module in projector.named_children():
        parameters = [p for p in module.parameters() if p.requires_grad]
        if parameters:
            yield name, parameters


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Float[Tensor, ""]:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm
