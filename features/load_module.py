"""Puts a checkpoint's tensors into a module that was built without memory (on the meta device).

One tensor at a time goes to its final dtype and device, so a sharded checkpoint never needs more
host memory than its size in that dtype; on a CPU in the published dtype it stays mapped from disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from features.errors import CheckpointError, few


def fill(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    where: object,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tied: Mapping[str, str] | None = None,
) -> None:
    """Give a module on the meta device its weights and freeze it.

    Args:
        module: all of its parameters and saved buffers are replaced.
        tensors: (name in the module, tensor).
        where: for the error message.
        device: where they go.
        dtype: what they become.
        tied: names that may be absent -> the name that they share.

    Raises:
        CheckpointError: tensors missing, superfluous or of another shape, by name.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    loaded: dict[str, Tensor] = {}
    extra, misshapen = [], []
    for name, tensor in tensors:
        if name not in shapes:
            extra.append(name)
        elif tuple(tensor.shape) != shapes[name]:
            misshapen.append(f"{name} {tuple(tensor.shape)}, wanted {shapes[name]}")
        else:
            loaded[name] = tensor.to(device, dtype)
    for name, source in (tied or {}).items():
        if source in loaded:
            loaded.setdefault(name, loaded[source])
    missing = sorted(set(shapes) - set(loaded) - {text.split()[0] for text in misshapen})
    problems = {"missing": missing, "superfluous": extra, "of another shape": misshapen}
    for problem, names in problems.items():
        if names:
            raise CheckpointError(f"tensors {problem}", where=where, got=few(names))
    module.load_state_dict(loaded, assign=True)
    module.requires_grad_(False)


def restore_buffers(model: Any, device: torch.device) -> None:
    """Compute the tables (positions, rotary frequencies, scales) that no checkpoint holds.

    They were made on the meta device with the rest; transformers' own initialisation makes them
    again, and leaves alone the weights that are marked as loaded.
    """
    for module in model.modules():
        absent = {k: b for k, b in module._buffers.items() if b is not None and b.is_meta}
        if not absent:
            continue
        for name, buffer in absent.items():
            module._buffers[name] = torch.empty_like(buffer, device=device)
        for parameter in module.parameters():
            parameter._is_hf_initialized = True
        with torch.no_grad():
            model._init_weights(module)
