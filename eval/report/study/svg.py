"""Small pictures as inline SVG: points with intervals, curves with bands, strips of differences.

Colours come from the page's style sheet by class, so that one picture serves light, dark and paper.
All text is escaped by `Markup.format`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup
from rich.cells import cell_len, set_cell_size

_SVG = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>')
_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>')
_LINE = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')
_DOT = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{}"><title>{}</title></circle>')
_RECT = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>')
_PATH = Markup('<path d="{}" class="{}"/>')
_WIDTH, _CURVE_WIDTH, _EDGE, _NAMES = 340.0, 290.0, 12.0, 88.0


@dataclass(frozen=True)
class Point:
    """A number, its interval where there is one, and what it is called when pointed at."""

    value: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    x: float = 0.0
    """Of curves."""
    series: int = 0
    """Colour and shape; 0 is the headline."""


@dataclass(frozen=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    """Base 2; all values are positive."""

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        low, high, at = (math.log2(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) that enclose low..high."""
    if high - low < 1e-6:  # one value: an axis around it
        low, high = low - 1, high + 1
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * count >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def rows_picture(title: str, rows: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """A line of its own for every row's name, and below it a point with its interval a series."""
    points = [point for _, found in rows for point in found]
    if not points:
        return Markup("")
    ticks = nice_ticks(*_extent(points))
    x = Scale(ticks[0], ticks[-1], _EDGE, _WIDTH - _EDGE)
    parts, y = [], 4.0
    for name, found in rows:
        y += 13
        parts.append(_TEXT.format(0, y, "start", "name", _short(name, 44)))
        for point in found:
            y += 12
            parts.append(_whisker(x, y, point))
            parts.append(_marker(x(point.value), y, point))
        y += 9
    grid = [_LINE.format(x(tick), 4, x(tick), y, "grid") for tick in ticks]
    names = [_TEXT.format(x(tick), y + 14, "middle", "tick", f"{tick:g}") for tick in ticks]
    return _SVG.format(_WIDTH, math.ceil(y + 20), title, Markup("").join([*grid, *parts, *names]))


def curve_picture(title: str, x_title: str, curves: Sequence[Sequence[Point]]) -> Markup:
    """Points over a quantity on a log2 axis, with a band between the ends of their intervals."""
    points = [point for curve in curves for point in curve]
    if not points:
        return Markup("")
    xs = sorted({point.x for point in points})
    ticks = nice_ticks(*_extent(points))
    wide = max(len(f"{tick:g}") for tick in ticks) * 7.0 + 8
    span = (xs[0], xs[-1]) if len(xs) > 1 else (xs[0] / 2, xs[0] * 2)
    x = Scale(*span, wide + 10, _CURVE_WIDTH - 16, log=True)
    y = Scale(ticks[0], ticks[-1], 196.0, 10.0)
    parts = [_LINE.format(wide, y(tick), _CURVE_WIDTH, y(tick), "grid") for tick in ticks]
    parts += [_TEXT.format(wide - 5, y(tick) + 4, "end", "tick", f"{tick:g}") for tick in ticks]
    parts += [_TEXT.format(x(at), 214, "middle", "tick", fraction(at)) for at in xs]
    parts.append(_TEXT.format((wide + _CURVE_WIDTH) / 2, 232, "middle", "tick", x_title))
    for curve in curves:
        series = f"s{curve[0].series}"
        ends = [(p.x, p.low, p.high) for p in curve if p.low is not None and p.high is not None]
        if len(ends) > 1:
            there = [f"{x(at):.1f},{y(low):.1f}" for at, low, _ in ends]
            back = [f"{x(at):.1f},{y(high):.1f}" for at, _, high in reversed(ends)]
            parts.append(_PATH.format(f"M{' L'.join(there + back)}Z", f"band {series}"))
        line = " L".join(f"{x(p.x):.1f},{y(p.value):.1f}" for p in curve)
        parts.append(_PATH.format(f"M{line}", f"curve {series}"))
        parts += [_marker(x(p.x), y(p.value), p) for p in curve]
    return _SVG.format(_CURVE_WIDTH, 238, title, Markup("").join(parts))


def strip_picture(
    title: str,
    strips: Sequence[tuple[str, Sequence[Point]]],
    mean: Point | None,
    margin: float | None = None,
) -> Markup:
    """Differences as points, a line a name; below them their mean; shaded what counts as close."""
    points = [point for _, found in strips for point in found] + ([mean] if mean else [])
    if not points:
        return Markup("")
    low, high = _extent(points)
    reach = margin or 0.0
    low, high = min(low, -reach, 0.0), max(high, reach, 0.0)
    ticks = nice_ticks(low - 0.05 * (high - low), high + 0.05 * (high - low))
    x = Scale(ticks[0], ticks[-1], _NAMES, _WIDTH - 16)
    lines = [*strips, ("mean", [mean])] if mean else list(strips)
    bottom = 22.0 * len(lines) + 6
    parts = [_LINE.format(x(tick), 4, x(tick), bottom, "grid") for tick in ticks]
    if margin:
        parts.append(_RECT.format(x(-margin), 4, x(margin) - x(-margin), bottom - 4, "margin"))
    parts.append(_LINE.format(x(0.0), 4, x(0.0), bottom, "zero"))
    for number, (name, found) in enumerate(lines):
        y = 16.0 + 22 * number
        parts.append(_TEXT.format(0, y + 4, "start", "name", _short(name, 13)))
        for point, shift in zip(found, _shifts([x(point.value) for point in found]), strict=True):
            parts += [_whisker(x, y, point), _marker(x(point.value), y + shift, point)]
    parts += [_TEXT.format(x(t), bottom + 14, "middle", "tick", _signed(t)) for t in ticks]
    return _SVG.format(_WIDTH, math.ceil(bottom + 20), title, Markup("").join(parts))


def bar_picture(title: str, point: Point, low: float, high: float) -> Markup:
    """One difference with its interval, on an axis that a whole column of a table shares."""
    x = Scale(low, high, 6.0, 154.0)
    zero = _LINE.format(x(0.0), 0, x(0.0), 20, "zero")
    parts = [zero, _whisker(x, 10.0, point), _marker(x(point.value), 10.0, point)]
    return _SVG.format(160, 20, title, Markup("").join(parts))


def fraction(value: float) -> str:
    """Shares as fractions: 1/16 reads better than 0.0625."""
    return f"1/{1 / value:g}" if value < 1 and (1 / value).is_integer() else f"{value:g}"


def _extent(points: Sequence[Point]) -> tuple[float, float]:
    ends = [end for p in points for end in (p.value, p.low, p.high) if end is not None]
    return min(ends), max(ends)


def _shifts(xs: Sequence[float]) -> list[float]:
    """How far markers are moved down or up, so that none hides another of nearly the same value."""
    shifts = [0.0] * len(xs)
    order = sorted(range(len(xs)), key=xs.__getitem__)
    for before, at in pairwise(order):
        if xs[at] - xs[before] < 4:
            shifts[before] = shifts[before] or -3.0
            shifts[at] = -shifts[before]
    return shifts


def _whisker(x: Scale, y: float, point: Point) -> Markup:
    if point.low is None or point.high is None:
        return Markup("")
    series = f"interval s{point.series}"
    ends = Markup("").join(
        _LINE.format(x(end), y - 3, x(end), y + 3, series) for end in (point.low, point.high)
    )
    return _LINE.format(x(point.low), y, x(point.high), y, series) + ends


def _marker(x: float, y: float, point: Point) -> Markup:
    """A disc for the headline; a ring for every other series."""
    radius, shape = (4, "dot") if point.series == 0 else (3.5, "ring")
    return _DOT.format(x, y, radius, f"{shape} s{point.series}", point.label)


def _short(name: str, most: int) -> str:
    """A name in so many letters; a Chinese character is as wide as two, and is never halved."""
    short = set_cell_size(name, most - 1).rstrip()
    return name if cell_len(name) <= most else f"{short}\N{HORIZONTAL ELLIPSIS}"


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"
