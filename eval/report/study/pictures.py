"""Which numbers of a study's record go into which picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from eval.report.published import printed_tables
from eval.report.study.svg import (
    Point,
    bar_picture,
    curve_picture,
    nice_ticks,
    rows_picture,
    strip_picture,
)
from eval.report.study.view import (
    Group,
    Json,
    Numbers,
    as_float,
    compared,
    groups,
    headlines,
    rows_of,
)


@dataclass(frozen=True)
class Pictures:
    """All pictures of one record."""

    record: Mapping[str, Any]
    numbers: Numbers

    def rows(self, table: Json, measure: str) -> Markup:
        """A table's rows as points with intervals, the headline's group first."""
        names = dict.fromkeys(row["row"] for row in table["rows"])
        points: dict[str, list[Point]] = {name: [] for name in names}
        for series, group in enumerate(groups(table)):
            for row in rows_of(table, group):
                points[row["row"]] += self._points(row, group, measure, series)
        title = f"{table['title']}: {measure}, {self.numbers.unit}"
        return rows_picture(title, [(name, found) for name, found in points.items() if found])

    def curve(self, table: Json, measure: str) -> Markup:
        """A table's rows over their quantity, a curve a group."""
        curves = [
            [
                point
                for row in rows_of(table, group)
                if row["x"] is not None
                for point in self._points(row, group, measure, series)
            ]
            for series, group in enumerate(groups(table))
        ]
        title = f"{measure}, {self.numbers.unit}, over {table['factor']}"
        return curve_picture(title, _axis(table), [curve for curve in curves if curve])

    def printed_curve(self, table: Json) -> Markup:
        """The paper's Temporal over what it varies, in an axis of its own; of Table 6 alone."""
        rows = printed_tables()[table["table"]] if table["table"] == "6" else []
        points = [
            Point(row["temporal"], x=float(row["setting"]), label=f"{row['temporal']:.2f}")
            for row in rows
        ]
        title = "Temporal as printed in the paper's Table 6"
        return curve_picture(title, _axis(table), [points] if points else [])

    def strip(self, claim: Json) -> Markup:
        """A claim's differences, a line a base."""
        bases = dict.fromkeys(pair["base"] for pair in claim["pairs"])
        strips = [
            (
                base,
                [
                    Point(float(pair["difference"]), label=self._pair(pair), series=1)
                    for pair in claim["pairs"]
                    if pair["base"] == base and pair["difference"] is not None
                ],
            )
            for base in bases
        ]
        mean = self._mean(claim)
        margin = self.numbers.margin(claim) if claim["kind"] == "close" else None
        return strip_picture(f"Differences: {compared(claim)}", strips, mean, margin)

    def bar(self, claim: Json) -> Markup:
        """A headline's difference on the axis that all headlines share."""
        points = [mean for other in headlines(self.record) if (mean := self._mean(other))]
        mean = self._mean(claim)
        if mean is None:
            return Markup("")
        ends = [end for p in points for end in (p.value, p.low, p.high) if end is not None]
        ticks = nice_ticks(min(0.0, *ends), max(0.0, *ends))
        return bar_picture(self.numbers.difference(claim), mean, ticks[0], ticks[-1])

    def _points(self, row: Json, group: Group, measure: str, series: int) -> Sequence[Point]:
        score = row["scores"][measure]
        if score["mean"] is None:
            return ()
        label = f"{row['row']}, {group.name}: {self.numbers.score(score)}"
        x = 0.0 if row["x"] is None else float(row["x"])
        return (_point(score["mean"], score, label, x, series),)

    def _mean(self, claim: Json) -> Point | None:
        if claim["difference"] is None:
            return None
        return _point(claim["difference"], claim, self.numbers.difference(claim))

    def _pair(self, pair: Json) -> str:
        return f"{pair['base']}, seed {pair['seed']}: {self.numbers.signed(pair['difference'])}"


def _point(value: Any, ends: Json, label: str, x: float = 0.0, series: int = 0) -> Point:
    low, high = as_float(ends["low"]), as_float(ends["high"])
    return Point(float(value), low, high, label, x, series)


def _axis(table: Json) -> str:
    return f"{table['factor']} (log\N{SUBSCRIPT TWO})"
