"""How to train: the options of `make train`, and the budget they amount to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from features.config import BaseConfig, Budget
from features.errors import ConfigError
from features.recipes import did_you_mean
from train.projectors import ProjectorSwitches


@dataclass(frozen=True)
class TrainConfig:
    """An experiment: what is trained, how long, and where it goes."""

    experiment: str = "red-villm"
    """Name of the experiment, used in folder names."""
    runs: Path = Path("runs")
    """Root of all run folders."""
    seed: int = 0
    """Seed of fresh weights and of the order of questions."""
    switches: ProjectorSwitches = field(default_factory=ProjectorSwitches)
    """What the model sees and what is trained."""
    budget: str = "default"
    """Which of the base's training budgets."""
    data: float = 1.0
    """Share of the training videos whose questions are asked; a smaller one is part of a larger."""
    lr: float | None = None
    """Peak learning rate instead of the budget's."""
    epochs: int | None = None
    """Passes over the questions instead of the budget's; 0 saves the untuned projectors."""
    batch_size: int | None = None
    """Questions an optimizer step instead of the budget's."""
    max_steps: int | None = None
    """Optimizer steps after which training ends early, for smoke tests; all unless given."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 clips nothing."""
    micro_batch: int = 32
    """Most questions that pass through the LLM at once."""
    micro_tokens: int = 4096
    """Most tokens, padding included, that pass through the LLM at once."""
    max_length: int = 2048
    """Longest sequence in tokens; a longer answer loses its end, which is counted."""
    num_workers: int = 0
    """Processes that read features; the result does not depend on it."""
    cache_bytes: int = 1 << 30
    """Features that each process may keep in memory."""
    device: str = "auto"
    """auto (cuda, mps, cpu) or a torch device."""
    llm_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """dtype of the frozen LLM: bfloat16 on a GPU, float32 on the CPU."""
    num_threads: int = 0
    """CPU threads; 0: torch's own choice, but one for an LLM below 20 million parameters."""
    questions_per_row: int = 1
    """Most questions about one video that share a row: its prefix and video pass through the LLM
    once, the questions do not see one another. 1 is the paper's."""
    video_order: Literal["first", "alternating"] = "first"
    """Where the video is: before the question, or (Video-ChatGPT's) behind it in every second
    sample, which needs `questions_per_row` 1."""
    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Keep one activation a layer and compute the rest again; auto: above a billion parameters."""
    quantise: Literal["none", "8bit", "4bit"] = "none"
    """The frozen LLM's linear layers, for small cards (`pip install -e '.[quant]'`)."""
    devices: int = 1
    """Devices (or CPU processes) that share each step's questions."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """ddp: the frozen LLM on every device; fsdp: its layers divided over them."""
    save_minutes: float = 10.0
    """How often the state to resume from is written."""
    save_steps: int | None = None
    """How often in optimizer steps, instead of minutes."""
    val_every: int = 0
    """Steps between validations on the dataset's `val` split; 0: none. The best projectors win."""
    val_questions: int = 500
    """Most questions of a validation."""
    patience: int = 0
    """Validations without a better loss after which training ends; 0: it never ends early."""
    wandb: str | None = None
    """Project to log to at Weights & Biases, beside TensorBoard and CSV."""
    resume: bool = True
    """Reuse a finished run of the same config and store; off: train it again."""


NO_INFLUENCE = {
    *("runs", "num_workers", "cache_bytes", "resume", "budget", "device", "llm_dtype"),
    *("save_minutes", "save_steps", "wandb"),
}
"""Settings that do not decide the result, or do so through another entry of the record."""
LAST_BITS = (
    *("devices", "strategy", "micro_batch", "micro_tokens", "num_threads"),
    "activation_checkpointing",
)
"""Settings that decide no more than the order of sums: recorded, and a run goes on with others."""


def check_options(config: TrainConfig) -> None:
    """Refuse numbers that make no sense, alone or together.

    Raises:
        ConfigError: naming the option.
    """
    least = dict.fromkeys(("questions_per_row", "micro_batch", "micro_tokens", "devices"), 1)
    least |= {"val_every": 0, "val_questions": 1, "patience": 0, "seed": 0, "num_workers": 0}
    optional = {"save_steps": 1, "batch_size": 1, "max_steps": 1, "epochs": 0}
    least |= {name: low for name, low in optional.items() if getattr(config, name) is not None}
    for name, low in least.items():
        if getattr(config, name) < low:
            got = getattr(config, name)
            raise ConfigError("too small", where=name, got=got, wanted=f">= {low}")
    if not 0 < config.data <= 1:
        wanted = "a share of the training videos: above 0, at most 1"
        raise ConfigError("no such share", where="data", got=config.data, wanted=wanted)
    if config.video_order == "alternating" and config.questions_per_row > 1:
        raise ConfigError(
            "questions can only share a row where the video comes first",
            got=f"video_order alternating, questions_per_row {config.questions_per_row}",
            do="set questions_per_row 1",
        )
    if config.strategy == "fsdp" and config.devices == 1:
        do = "set devices, or strategy ddp"
        raise ConfigError("one device has nobody to divide the LLM with", got="fsdp", do=do)
    if config.quantise != "none" and config.strategy == "fsdp":
        got = f"quantise {config.quantise}, strategy fsdp"
        raise ConfigError("a quantised LLM is not divided", got=got, do="set strategy ddp")
    if config.patience and not config.val_every:
        raise ConfigError("patience without validation", where="patience", do="set val_every")


def pick_budget(config: TrainConfig, base: BaseConfig) -> Budget:
    """The base's budget of that name with the experiment's overrides.

    Raises:
        ConfigError: the base has no such budget.
    """
    if config.budget not in base.budgets:
        raise ConfigError(
            "the base has no such training budget",
            where=f"base {base.name}",
            got=config.budget,
            do=did_you_mean(config.budget, base.budgets),
        )
    overrides: dict[str, Any] = {k: getattr(config, k) for k in ("lr", "epochs", "batch_size")}
    return replace(
        base.budgets[config.budget], **{k: v for k, v in overrides.items() if v is not None}
    )
