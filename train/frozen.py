"""How the frozen LLM is kept while projectors in front of it are trained.

Three things go wrong without a word: dropout that stays on, activation checkpointing that was
asked for and does not happen, and weights that collect gradients. Each is settled here, and the
second is proved in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

CHECKPOINT_ABOVE = 1_000_000_000
"""Parameters above which `auto` checkpoints activations."""


def decoder_layers(llm: PreTrainedModel) -> nn.ModuleList:
    """The LLM's decoder layers, first to last."""
    model: Any = llm  # transformers does not type the parts of its models
    layers: nn.ModuleList = model.model.layers
    return layers


def keep_frozen(llm: PreTrainedModel) -> None:
    """No gradients for weights, and train mode that computes exactly what eval mode computes.

    Train mode is needed because transformers checkpoints activations only `if self.training`: an
    LLM in eval mode silently gets none. So every source of chance that train mode would switch on
    is set to 0: dropout layers, and the probabilities that attention functions read from their
    module (`attention_dropout` and its like).
    """
    llm.requires_grad_(False)
    llm.train()
    for module in llm.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def checkpoint_activations(llm: PreTrainedModel, choice: Literal["auto", "on", "off"]) -> bool:
    """Let the decoder layers keep their inputs alone and compute the rest again in backward.

    It costs most of a second forward pass: 5.5 instead of 4 FLOPs a parameter and token in a Llama,
    whose last product of each layer is not needed again. While it is on, an LLM in train mode
    ignores the cache of keys and values: decode in eval mode.

    Args:
        llm: in train mode; see `keep_frozen`.
        choice: auto is on above CHECKPOINT_ABOVE parameters.

    Returns:
        Whether it is on.
    """
    on = choice == "on"
    if choice == "auto":
        on = sum(p.numel() for p in llm.parameters()) > CHECKPOINT_ABOVE
    # transformers renamed the switch within release 5.
    model: Any = llm
    verb = "enable" if on else "disable"
    name = f"activation_checkpointing_{verb}"
    switch = getattr(model, name, None) or getattr(model, f"gradient_checkpointing_{verb}")
    switch(*[{"use_reentrant": False}] * on)
    return on


@dataclass
class Recomputation:
    """What `require_recomputed` has counted."""

    forwards: int = 0
    """Calls of the LLM's body."""
    passes: int = 0
    """Passes through the inside of its first decoder layer, those in backward included."""


@contextmanager
def require_recomputed(llm: PreTrainedModel, wanted: bool) -> Iterator[Recomputation]:
    """Prove that checkpointing happens, or does not, over the backward passes made inside.

    It costs two hooks. The inner one is on a part of the first layer, because hooks on the layer
    itself are not run again when the layer is.

    Args:
        llm: each of its forward passes inside is followed by its backward pass, inside as well.
        wanted: whether every forward pass must have been computed again.

    Raises:
        RuntimeError: at the end, when it was otherwise.
    """
    seen, inside = Recomputation(), next(decoder_layers(llm)[0].children())
    model: Any = llm

    def count_forward(*_: object) -> None:
        seen.forwards += 1

    def count_pass(*_: object) -> None:
        seen.passes += 1

    hooks = [
        model.model.register_forward_pre_hook(count_forward),
        inside.register_forward_pre_hook(count_pass),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
    again = seen.passes - seen.forwards
    if not seen.forwards or again != (seen.forwards if wanted else 0):
        asked = "asked for" if wanted else "not asked for"
        raise RuntimeError(
            f"activation checkpointing was {asked}, but of {seen.forwards} forward passes"
            f" {again} were computed again"
        )
