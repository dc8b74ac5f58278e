"""A study: tables of rows that differ in one thing each, and what is claimed about them.

One file serves every base: what differs between a miniature and a 7B (frames) is given by family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from features.errors import ConfigError, few
from features.recipes import did_you_mean, load_recipe
from pipelines.demo_data import DemoDataConfig

Measure = Literal["temporal", "content", "all", "correctness", "detail", "context", "consistency"]
"""What is compared. Of questions with right and wrong answers, percent of them right: those of type
`temporal` (or `temporal relation`), all others, all. Of the five aspects, a mean score: temporal;
the mean of correctness, detail and context; the mean of all five; or another aspect alone."""


@dataclass(frozen=True)
class RowConfig:
    """One row: what differs from RED-VILLM as the base's recipes have it."""

    name: str
    """Unique in its table; rows of equal settings are trained once, whatever they are called."""
    switches: dict[str, Any] = field(default_factory=dict)
    """Of train/projectors.py, onto `{features: both, temporal_module: copy}`."""
    frames: dict[str, int] = field(default_factory=dict)
    """T by family, or under `default`; the base's own where neither is there."""
    lr: float = 1.0
    """Times the budget's learning rate."""
    data: float = 1.0
    """Share of the training videos; epochs grow by as much, so that the steps stay the same."""
    untrained: bool = False
    """Nothing is trained."""


@dataclass(frozen=True)
class ClaimConfig:
    """One claim: the row `more` is better than the row `less`, or as good."""

    name: str
    says: str
    """What is claimed, in a sentence, with where the paper says it."""
    more: str
    less: str
    measure: Measure = "temporal"
    kind: Literal["more", "close"] = "more"
    """`more`: better by anything; `close`: no further apart than `margin`."""
    beyond: Measure | None = None
    """`more` only: the difference in `measure` is larger than the one in this measure."""
    margin: float = 5.0
    """`close` only: points (of five aspects: hundredths of a score)."""
    paper: bool = True
    """Whether the paper makes it; ours otherwise."""


@dataclass(frozen=True)
class TableConfig:
    """Rows that are compared, and how often each is trained."""

    table: str
    """The paper's number, or a name where the paper has none."""
    title: str
    factor: str
    """What differs, as the head of the first column."""
    rows: tuple[RowConfig, ...]
    claims: tuple[ClaimConfig, ...] = ()
    seeds: int = 3
    bases: int = 1
    """How many of the family's independently pretrained bases."""
    budgets: tuple[str, ...] = ("long", "default")
    """Training budgets, the one that verdicts are headed by first; what a base has not is left
    out, and `default` taken where nothing is left."""
    split: Literal["test", "val"] = "test"
    """`val`: a table that choices may be made on."""
    readings: bool = False
    """Whether bases with a resampler run every row in readings A and B of it."""
    curve: bool = False
    """Whether the rows are steps of a quantity, to be drawn."""


@dataclass(frozen=True)
class StudyConfig:
    """A whole study."""

    name: str
    base: str
    """Base that is meant unless another is named."""
    dataset: str
    """Dataset that is trained on, and evaluated on unless `benchmarks` say otherwise."""
    tables: tuple[TableConfig, ...]
    benchmarks: str = ""
    """What is scored once, as `make reeval` names it: `vcgbench`, `msvd-qa:test`, ...; the
    dataset's `test` unless given."""
    validation: str = ""
    """What quick runs and choices are scored on; the dataset's `val` unless given."""
    render: DemoDataConfig | None = None
    """The world that `dataset` is rendered from; its test videos come from a seed of their own."""
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Bases pretrained independently of one another, by the name of the first."""


def load_study(name: str) -> StudyConfig:
    """A study by the name of its recipe or the path of a YAML file.

    Raises:
        ConfigError: unknown recipe, unknown key, a value of the wrong type, a name twice, or a
            claim about a row that is not there.
    """
    study = load_recipe("studies", name, StudyConfig)
    _check_names([table.table for table in study.tables], f"study {study.name}")
    for table in study.tables:
        where, rows = f"table {table.table}", [row.name for row in table.rows]
        _check_names(rows, where)
        _check_names([claim.name for claim in table.claims], where)
        for claim in table.claims:
            for row in (claim.more, claim.less):
                if row not in rows:
                    do = did_you_mean(row, rows)
                    raise ConfigError("a claim about no row", where=where, got=row, do=do)
    return study


def _check_names(names: Sequence[str], where: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError("a name twice", where=where, got=few(twice))
