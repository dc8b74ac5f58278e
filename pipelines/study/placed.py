"""Which cells of a study stand where, in the order in which everything is listed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from features.errors import RedVillmError, few
from pipelines.study.cells import Done, Use
from pipelines.study.recipe import StudyConfig, TableConfig
from pipelines.study.values import CellValues


class Place(NamedTuple):
    """A row under one reading and budget; its cells differ in base and seed alone."""

    table: str
    row: str
    reading: str
    budget: str


Run = tuple[str, int]
"""Base and seed."""


@dataclass(frozen=True)
class Placed:
    """Every row's cells, bases and seeds in order, and what was planned of it."""

    study: StudyConfig
    rows: Mapping[Place, Mapping[Run, Done]]
    plan: Mapping[Place, frozenset[Run]]
    """Those of `rows` and what is still missing."""
    values: Mapping[str, CellValues]
    """By fingerprint."""
    budgets: frozenset[str]
    """That the base has, as far as is known."""

    @classmethod
    def of(
        cls,
        study: StudyConfig,
        uses: Mapping[Use, Done],
        values: Mapping[str, CellValues],
        bases: list[str],
        budgets: frozenset[str],
        planned: Collection[Use] = (),
    ) -> Placed:
        """Cells by where they stand.

        Args:
            study: what is compared.
            uses: the cells that were run.
            values: what they scored, by fingerprint.
            bases: names in order.
            budgets: that the base has; those of the cells are among them.
            planned: what is to be run, done or not; the cells are among them.

        Raises:
            RedVillmError: a cell stands where the study has no row.
        """
        rows: dict[Place, dict[Run, Done]] = {}
        for use in sorted(uses, key=lambda use: (_place_in(bases, use.base), use.base, use.seed)):
            place = Place(use.table, use.row, use.reading, use.budget)
            rows.setdefault(place, {})[use.base, use.seed] = uses[use]
        plan: dict[Place, set[Run]] = defaultdict(set)
        for use in (*uses, *planned):
            plan[Place(use.table, use.row, use.reading, use.budget)].add((use.base, use.seed))
        fixed = {place: frozenset(runs) for place, runs in plan.items()}
        placed = cls(study, rows, fixed, values, budgets | {place.budget for place in plan})
        known = {
            place
            for table in study.tables
            for row in table.rows
            for place in placed.places(table, row.name)
        }
        if strange := [str(tuple(place)) for place in plan if place not in known]:
            raise RedVillmError(
                "cells where the study has no row",
                where=f"study {study.name}",
                got=few(strange),
                wanted="tables, rows and budgets of the recipe",
                do="give the recipe that these cells were run for",
            )
        return placed

    def cells(self, place: Place) -> dict[Run, CellValues]:
        """What a row's cells scored."""
        return {run: self.values[done.fingerprint] for run, done in self.row(place).items()}

    def row(self, place: Place) -> Mapping[Run, Done]:
        """A row's cells; none of one that was not run yet."""
        return self.rows.get(place, {})

    def planned(self, *places: Place) -> int:
        """How many bases and seeds are planned for all of these places."""
        return len(frozenset.intersection(*(self.plan.get(p, frozenset()) for p in places)))

    def places(self, table: TableConfig, row: str) -> list[Place]:
        """A row under each reading and budget."""
        return [
            Place(table.table, row, reading, budget)
            for reading in self.readings_of(table)
            for budget in self.budgets_of(table)
        ]

    def budgets_of(self, table: TableConfig) -> list[str]:
        """Those of the recipe that the base has; `default` where it has none of them."""
        return [budget for budget in table.budgets if budget in self.budgets] or ["default"]

    def readings_of(self, table: TableConfig) -> list[str]:
        """The table's own; of one that has not begun, those of others that have readings."""
        own = {place.reading for place in self.plan if place.table == table.table}
        others = {place.reading for place in self.plan if place.reading and table.readings}
        return sorted(own or others) or [""]


def _place_in(names: list[str], name: str) -> int:
    """Names that are not listed come last."""
    return names.index(name) if name in names else len(names)
