"""Charts of the HTML report as inline SVG: no script, no network, colours from the page's CSS variables.

Every text that comes from a model or a target is escaped here (`markupsafe`), so a chart is safe to inline.
Coordinates are rounded to a tenth of a pixel, which keeps pages small and byte-identical.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tetrasim.units import si

WIDTH, HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar with an optional range; all in the same unit."""

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A roofline point: `series` picks the colour, `area` grows with its share of the time."""

    x: float
    y: float
    series: int
    share: float
    title: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A roof: `slope` in y per x (bytes/s) or, when 0, a level (op/s)."""

    name: str
    slope: float
    level: float


def bars(rows: Sequence[Bar], label: str) -> Markup:
    """Horizontal bars from zero on one linear scale, whiskers for ranges."""
    row_height, left, right = 34, 150, 120
    width = 860
    span = max([r.high or r.value for r in rows] + [r.value for r in rows]) or 1.0
    scale = (width - left - right) / span
    height = row_height * len(rows) + 8
    out = [_open(width, height, label)]
    for i, row in enumerate(rows):
        y = 4 + i * row_height
        length = max(row.value * scale, 1.0)
        out.append(f'<text x="{left - 10}" y="{y + 20}" class="end strong">{escape(row.label)}</text>')
        out.append(
            f'<rect x="{left}" y="{y + 6}" width="{length:.1f}" height="20" rx="3" class="c0">'
            f"<title>{escape(row.label)}: {escape(row.text)}</title></rect>"
        )
        end = length
        if row.low is not None and row.high is not None:
            a, b = left + row.low * scale, left + row.high * scale
            out.append(
                f'<path class="whisker" d="M{a:.1f} {y + 16}H{b:.1f}M{a:.1f} {y + 11}v10M{b:.1f} {y + 11}v10"/>'
            )
            end = max(length, row.high * scale)
        out.append(f'<text x="{left + end + 8:.1f}" y="{y + 20}" class="value">{escape(row.text)}</text>')
    return Markup("".join(out) + "</svg>")


def roofline(points: Sequence[Point], ceilings: Sequence[Ceiling], label: str) -> Markup:
    """Log-log: operations per byte against operations per second, with the roofs."""
    xs = [p.x for p in points if p.x > 0] or [1.0]
    ys = [p.y for p in points if p.y > 0] or [1.0]
    roofs = [c.level for c in ceilings if c.level] or [max(ys)]
    ridges = [max(roofs) / c.slope for c in ceilings if c.slope]
    x_axis = _Log(min(xs) / 1.6, max([*xs, *ridges]) * 4, _LEFT, WIDTH - _RIGHT)
    y_axis = _Log(min(ys) / 2, max([*ys, *roofs]) * 2.5, HEIGHT - _BOTTOM, _TOP)
    out = [_open(WIDTH, HEIGHT, label), _log_grid(x_axis, y_axis)]
    for ceiling in ceilings:
        out.append(_roof(ceiling, x_axis, y_axis, max(roofs)))
    # Dots with a small share are drawn last, so that large ones do not hide them.
    for p in sorted((p for p in points if p.x > 0 and p.y > 0), key=lambda p: -p.share):
        radius = 3 + 11 * math.sqrt(min(p.share, 1.0))
        out.append(
            f'<circle cx="{x_axis.at(p.x):.1f}" cy="{y_axis.at(p.y):.1f}" r="{radius:.1f}" class="dot c{p.series}">'
            f"<title>{escape(p.title)}</title></circle>"
        )
    out.append(_axis_titles("operations per byte", "operations per second"))
    return Markup("".join(out) + "</svg>")


def curve(
    xs: Sequence[float], ys: Sequence[float], x_title: str, y_title: str, unit: str, color: int, label: str
) -> Markup:
    """A line from a zero-based y axis; at most 400 vertices are drawn (evenly picked, ends kept)."""
    count = len(xs)
    keep = sorted({round(i * (count - 1) / min(count - 1, 399)) for i in range(min(count, 400))}) if count > 1 else [0]
    x0, x1 = xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1
    top = max(ys) * 1.12 or 1.0
    height = 220

    def px(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * (WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return height - _BOTTOM - y / top * (height - _TOP - _BOTTOM)

    out = [_open(WIDTH, height, label)]
    for tick in nice_ticks(0, top):
        out.append(f'<path class="grid" d="M{_LEFT} {py(tick):.1f}H{WIDTH - _RIGHT}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{py(tick) + 4:.1f}" class="tick end">{escape(micro(si(tick, unit)))}</text>')
    for tick in nice_ticks(x0, x1):
        out.append(f'<text x="{px(tick):.1f}" y="{height - _BOTTOM + 16}" class="tick middle">{tick:g}</text>')
    path = "L".join(f"{px(xs[i]):.1f} {py(ys[i]):.1f}" for i in keep)
    out.append(f'<path class="line s{color}" d="M{path}"/>')
    out.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{height - 6}" class="axis middle">{escape(x_title)}</text>')
    out.append(f'<text x="{_LEFT}" y="{_TOP - 3}" class="axis">{escape(y_title)}</text>')
    return Markup("".join(out) + "</svg>")


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between the ends: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / wanted
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def micro(text: str) -> str:
    """`12 us` -> `12 µs`."""
    return text.replace(" u", " µ")


class _Log:
    """A logarithmic axis from `low` to `high` onto pixels `a` to `b`."""

    def __init__(self, low: float, high: float, a: float, b: float) -> None:
        self.low, self.high = math.log10(low), math.log10(high)
        self.a, self.b = a, b

    def at(self, value: float) -> float:
        return self.a + (math.log10(value) - self.low) / (self.high - self.low) * (self.b - self.a)

    def decades(self) -> list[int]:
        whole = range(math.ceil(self.low), math.floor(self.high) + 1)
        stride = max(1, math.ceil(len(whole) / 8))
        return list(whole)[::stride]


def _open(width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _log_grid(x: _Log, y: _Log) -> str:
    out = []
    for power in x.decades():
        at = x.at(10.0**power)
        out.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        text = f"{10.0**power:g}" if -3 <= power <= 4 else f"1e{power}"
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" class="tick middle">{text}</text>')
    for power in y.decades():
        at = y.at(10.0**power)
        out.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="tick end">{si(10.0**power, "", 1).strip()}</text>')
    return "".join(out)


def _roof(ceiling: Ceiling, x: _Log, y: _Log, highest: float) -> str:
    right, name = 10.0**x.high, escape(ceiling.name)
    if ceiling.level:
        at = y.at(ceiling.level)
        return (
            f'<path class="roof" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>'
            f'<text x="{WIDTH - _RIGHT}" y="{at - 5:.1f}" class="tick end">{name}</text>'
        )
    start = max(10.0**x.low, 10.0**y.low / ceiling.slope)
    stop = min(right, highest / ceiling.slope)
    if start >= stop:
        return ""
    x0, y0, x1, y1 = x.at(start), y.at(start * ceiling.slope), x.at(stop), y.at(stop * ceiling.slope)
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    mid = 0.42
    tx, ty = x0 + mid * (x1 - x0), y0 + mid * (y1 - y0)
    return (
        f'<path class="roof" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'
        f'<text transform="translate({tx:.1f} {ty:.1f}) rotate({angle:.1f})" y="-5" class="tick middle">{name}</text>'
    )


def _axis_titles(x_title: str, y_title: str) -> str:
    return (
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 6}" class="axis middle">{escape(x_title)}</text>'
        f'<text transform="translate(12 {(_TOP + HEIGHT - _BOTTOM) / 2}) rotate(-90)" class="axis middle">'
        f"{escape(y_title)}</text>"
    )
