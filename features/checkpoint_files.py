"""Reading a published checkpoint's files without loading more than is asked for.

extract/ needs a base's vision tower and train/ its aligner and LLM; both read the same folder
through these functions, so that nobody else has to know about shards and indices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from features.errors import CheckpointError

_UNREADABLE = (OSError, SafetensorError, RuntimeError, UnpicklingError, EOFError, TypeError)
PROJECT = Path(__file__).resolve().parent.parent


def local_folder(name: str) -> Path | None:
    """Folder of a checkpoint given by path: absolute, or below the working or project folder."""
    folders = (Path(name), PROJECT / name)
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def resolve_checkpoint(name: str) -> Path:
    """Folder of a checkpoint: a path (absolute, or below the working or project folder) or hub id.

    A hub id is looked up in (and, unless HF_HUB_OFFLINE is set, fetched into) the local hub cache.

    Raises:
        CheckpointError: neither a folder nor a hub id that can be had.
    """
    if folder := local_folder(name):
        return folder
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CheckpointError(
            "no checkpoint there", where=name, wanted="a folder with config.json, or a hub id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        weights, tokenizers = ("*.safetensors", "*.bin"), ("*.model", "*.spm", "*.tiktoken")
        patterns = ["*.json", "*.jinja", *weights, *tokenizers]
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


class CheckpointFiles(Mapping[str, Tensor]):
    """Tensors of a checkpoint by name. Headers are read at once, a tensor when it is asked for.

    What comes out is a view of the mapped file, so nothing is copied before it is converted or
    moved; memory holds one tensor at a time more than what is kept.
    """

    def __init__(self, where: Path) -> None:
        """Opens every weight file of a folder, or the one file.

        Raises:
            CheckpointError: a file is missing, damaged or truncated, or a tensor is in two files.
        """
        self._readers: dict[str, Any] = {}
        self.paths = [where] if where.is_file() else weight_files(where)
        for path in self.paths:
            try:
                file: Any
                if path.suffix == ".safetensors":
                    file = safe_open(path, framework="pt")
                else:
                    file = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                    _check_table(file)
                names = list(file.keys())
            except _UNREADABLE as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                do = "download the file again"
                raise CheckpointError(
                    "cannot read weights", where=path, got=reason, do=do
                ) from error
            twice = sorted(set(names) & set(self._readers))
            if twice:
                raise CheckpointError("a tensor in two files", where=path, got=twice[:5])
            self._readers |= dict.fromkeys(names, file)

    def __getitem__(self, name: str) -> Tensor:
        reader = self._readers[name]
        tensor: Tensor = reader[name] if isinstance(reader, dict) else reader.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        reader = self._readers[name]
        if isinstance(reader, dict):
            return tuple(reader[name].shape)
        return tuple(reader.get_slice(name).get_shape())


def _check_table(found: object) -> None:
    if not isinstance(found, dict):
        raise TypeError(f"a {type(found).__name__}, no table of tensors")
    strange = [k for k, v in found.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if strange:
        raise TypeError(f"{strange[0]!r} is no tensor")


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
