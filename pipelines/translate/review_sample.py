"""Which lines people review: those with flags, and a sample of the others.

Every line has a random number for good, a hash of the seed and its id; the sample is the lines
without a flag whose numbers are the smallest (permanent random numbers: Ohlsson 1995, "Coordination
of samples using permanent random numbers"). So it stays the same while people review, whose word
changes no flag, and it is a random sample of the lines that have no flag now even where the file
was translated again or a glossary gives other flags: only lines that came, went, got a flag or lost
one change it. Of one seed the smaller sample is a part of the larger.

`<file>.sample.json` remembers size, seed and ids: without options the next command draws by the
same size and seed. Another size or seed takes the place of what is recorded; what was reviewed by
then stays reviewed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from heapq import nsmallest
from itertools import groupby
from pathlib import Path

from features.durable import replace_json
from features.errors import ConfigError, RedVillmError
from features.spec import SCHEMA_VERSION
from pipelines.translate.lines import Line, beside

SIZE = 200
"""Of a sample when nobody says otherwise."""


@dataclass(frozen=True)
class Sample:
    """Lines that were drawn."""

    size: int
    """How many were asked for."""
    seed: int
    ids: list[str]
    """Of the lines in the order in which they were drawn; fewer where there are not so many."""


def sample_path(lines: Path) -> Path:
    """Where the sample is recorded: beside the lines."""
    return beside(lines, "sample.json")


def read_sample(lines: Path) -> Sample | None:
    """What was drawn last, if anything was.

    Raises:
        RedVillmError: not a file of lines, or the record is damaged.
    """
    path = sample_path(lines)
    try:
        record = json.loads(path.read_bytes())
        found = Sample(int(record["size"]), int(record["seed"]), list(map(str, record["ids"])))
        if record["schema"] != SCHEMA_VERSION:
            raise ValueError(f"schema {record['schema']}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "remove it: the same size and seed draw the same lines again"
        what = "cannot read which lines were drawn"
        raise RedVillmError(what, where=path, got=repr(error), do=do) from error
    return found


def draw_sample(
    lines: Sequence[Line],
    flags: Collection[str],
    before: Sample | None = None,
    size: int | None = None,
    seed: int | None = None,
) -> Sample:
    """Draw lines without a flag.

    Args:
        lines: all of the file.
        flags: ids of the lines with flags of what the machine said.
        before: what is recorded.
        size: how many; None: as recorded, else 200.
        seed: which ones; None: as recorded, else 0.

    Raises:
        ConfigError: a negative size.
    """
    size = size if size is not None else before.size if before else SIZE
    seed = seed if seed is not None else before.seed if before else 0
    if size < 0:
        raise ConfigError("not the size of a sample", got=size, wanted="0 (none) or more lines")
    others = [line.id for line in lines if line.id not in flags]
    return Sample(size, seed, nsmallest(size, others, key=lambda name: _number(seed, name)))


def record_sample(path: Path, sample: Sample) -> None:
    """Write which of the file's lines were drawn, if that is new; a size of 0 changes nothing."""
    if sample.size and sample != read_sample(path):
        replace_json(sample_path(path), {"schema": SCHEMA_VERSION, **asdict(sample)}, "sample")


def _number(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).digest()


def take_part(lines: Sequence[Line], part: str) -> list[Line]:
    """The lines of one of several reviewers; together the parts are all lines, each once.

    The lines of a row (a question and its answer) stay together: each row goes to the part that has
    the fewest lines so far, so that the sizes differ by one row's lines at most.

    Args:
        lines: all that are to be reviewed, in the order of the file.
        part: `k/n`, the k-th of n parts, k from 1.

    Raises:
        ConfigError: not such a part.
    """
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", part)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        wanted = "k/n with k from 1 to n, such as 2/3"
        raise ConfigError("not a part of the lines", where="--part", got=part, wanted=wanted)
    parts: dict[int, list[Line]] = {at: [] for at in range(min(count, len(lines)) or 1)}
    for _, row in groupby(lines, key=lambda line: line.row):
        min(parts.values(), key=len).extend(row)
    return parts.get(number - 1, [])
