"""Reading a published checkpoint's files without loading more than is asked for.

extract/ needs a base's vision tower and train/ its aligner and LLM; both read the same folder
through these functions, so that nobody else has to know about shards and indices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from features.errors import CheckpointError

PROJECT = Path(__file__).resolve().parent.parent


def resolve_checkpoint(name: str) -> Path:
    """Folder of a checkpoint: a path (absolute, or below the working or project folder) or hub id.

    A hub id is looked up in (and, unless HF_HUB_OFFLINE is set, fetched into) the local hub cache.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    for folder in (Path(name), PROJECT / name):
        if (folder / "config.json").is_file():
            return folder
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CheckpointError(
            "no checkpoint there", where=name, wanted="a folder with config.json, or a hub id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.bin", "*.model", "*.tiktoken"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            "cannot get the checkpoint from the hub",
            where=name,
            got=type(error).__name__,
            do="download it on a machine with network, and give its folder as `checkpoint`",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a checkpoint's folder.

    Raises:
        CheckpointError: missing, or not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError("cannot read the file", where=path, got=error) from error
    if not isinstance(record, dict):
        raise CheckpointError("not a JSON object", where=path, got=type(record).__name__)
    return record


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint: safetensors when there are any, else .bin shards.

    Raises:
        CheckpointError: an index names a file that is not there, or there are no weights.
    """
    for kind in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{kind}.index.json"
        if index.is_file():
            names = sorted(set(read_json(index)["weight_map"].values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise CheckpointError("weight files missing", where=folder, got=missing)
            return [folder / name for name in names]
        if (folder / kind).is_file():
            return [folder / kind]
    raise CheckpointError(
        "no weights", where=folder, wanted="model.safetensors or pytorch_model.bin (or an index)"
    )


def iter_tensors(folder: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for every tensor whose name starts with one of `prefixes`, file by file."""
    for path in weight_files(folder):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    if key.startswith(prefixes):
                        yield key, file.get_tensor(key)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            yield from ((k, v) for k, v in loaded.items() if k.startswith(prefixes))


def read_tensors(folder: Path, *prefixes: str) -> dict[str, Tensor]:
    """Tensors under `prefixes`, by name without the prefix that matched.

    Alternative prefixes are for layouts that moved (`vision_tower.` and `model.vision_tower.`).

    Raises:
        CheckpointError: there is none.
    """
    found = {
        name.removeprefix(next(p for p in prefixes if name.startswith(p))): tensor
        for name, tensor in iter_tensors(folder, prefixes)
    }
    if not found:
        raise CheckpointError("no such tensors", where=folder, wanted=f"names in {prefixes}")
    return found


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
