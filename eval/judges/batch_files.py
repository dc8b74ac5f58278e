"""Files of requests in the Batch API's form, and what became of each.

requests-0001.jsonl         a request a line; custom_id is its key
requests-0001.state.json    written before and after each step that costs
requests-0001.output.jsonl  what vLLM's `run_batch` made of it, if that was how it was answered
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from features.durable import replace_json
from features.errors import RedVillmError
from features.spec import SCHEMA_VERSION, check_schema

BATCHES = "batches"
"""Their folder, beside the ledger."""


@dataclass(frozen=True)
class BatchState:
    """What became of a file."""

    schema: int = SCHEMA_VERSION
    answered: dict[str, int] = field(default_factory=dict)
    """Replies to its keys in the ledger when it was written, where there were any."""
    token: str | None = None
    """Set before anything is sent; in the batch's metadata."""
    file_id: str | None = None
    batch_id: str | None = None
    collected: bool = False

    @property
    def under_way(self) -> bool:
        """It may have been handed in, and what came back is not in the ledger."""
        return self.token is not None and not self.collected


def batch_files(folder: Path) -> list[Path]:
    """Files of requests in a folder, the oldest first."""
    return sorted(folder.glob(f"requests-{'[0-9]' * 4}.jsonl"))


def batch_lines(file: Path) -> Iterator[tuple[str, bytes]]:
    """(key, line) of the requests in a file."""
    with file.open("rb") as lines:
        for line in lines:
            yield json.loads(line)["custom_id"], line


def open_keys(folder: Path) -> set[str]:
    """Keys of all requests in files that are not collected yet, handed in or not.

    Raises:
        RedVillmError: a state cannot be read.
    """
    files = [file for file in batch_files(folder) if not read_state(file).collected]
    return {key for file in files for key, _ in batch_lines(file)}


def check_not_under_way(folder: Path, due: Collection[str]) -> None:
    """Before a judge is asked live.

    Raises:
        RedVillmError: some of the keys are in files that were handed in, and would be paid for
            twice; or a state cannot be read.
    """
    wanted = set(due)
    for file in batch_files(folder):
        shared = wanted & dict(batch_lines(file)).keys() if read_state(file).under_way else ()
        if shared:
            got, do = f"{len(shared):,} of {len(due):,} requests", "collect it first"
            raise RedVillmError("this is under way in a batch", where=file, got=got, do=do)


def local_output(file: Path) -> Path:
    """Where the answers lie when no server was asked."""
    return file.with_suffix(".output.jsonl")


def state_path(file: Path) -> Path:
    """Where the state of a file lies."""
    return file.with_suffix(".state.json")


def read_state(file: Path) -> BatchState:
    """The state of a file.

    Raises:
        RedVillmError: missing or damaged.
    """
    path = state_path(file)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        check_schema(record, path)
        return BatchState(**record)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, RedVillmError):
            raise
        raise RedVillmError("cannot read the state of a batch", where=path, got=error) from error


def write_state(file: Path, state: BatchState) -> BatchState:
    """Record and return it."""
    replace_json(state_path(file), asdict(state), "batch-state")
    return state
