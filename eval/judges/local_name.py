"""Which model on this machine judges, told without loading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from features.checkpoint_files import resolve_checkpoint, weight_files

_PIECES, _PIECE = 64, 1 << 16


def local_name(model: str) -> str:
    """`<folder>@<digest>`: other weights in the same folder are another judge.

    Raises:
        CheckpointError: no such checkpoint.
    """
    return f"{Path(model).name}@{checkpoint_digest(resolve_checkpoint(model))[:8]}"


def checkpoint_digest(folder: Path) -> str:
    """sha256 over the small files, and over sizes and spaced-out pieces of the weights."""
    found = hashlib.sha256()
    small = {path for kind in ("*.json", "*.jinja", "*.model") for path in folder.glob(kind)}
    for path in sorted(small):
        found.update(
            json.dumps([path.name, hashlib.sha256(path.read_bytes()).hexdigest()]).encode()
        )
    for path in weight_files(folder):
        size = path.stat().st_size
        found.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            for piece in range(_PIECES):
                file.seek(piece * size // _PIECES)
                found.update(file.read(_PIECE))
    return found.hexdigest()
