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
_MAX_VERTICES = 400


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
    """A roofline point: `series` picks the colour; the dot's area grows with its share of the time."""

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
    row_height, right, width = 34, 150, 1180
    left = min(max(int(8.4 * max(len(r.label) for r in rows)) + 16, 120), 460)  # 8.4 px a letter
    span = max(max(r.value, r.high or 0.0) for r in rows) or 1.0
    scale = (width - left - right) / span
    out = [_open(width, row_height * len(rows) + 8, label)]
    for i, row in enumerate(rows):
        middle = 20 + i * row_height
        length = max(row.value * scale, 1.0)
        out.append(_text(left - 10, middle + 4, "end strong", row.label))
        out.append(
            f'<rect x="{left}" y="{middle - 10}" width="{length:.1f}" height="20" rx="3" class="c0">'
            f"<title>{escape(row.label)}: {escape(row.text)}</title></rect>"
        )
        if row.low is not None and row.high is not None:
            a, b = left + row.low * scale, left + row.high * scale
            ends = f"M{a:.1f} {middle - 5}v10M{b:.1f} {middle - 5}v10"
            out.append(_path("whisker", f"M{a:.1f} {middle}H{b:.1f}{ends}"))
            length = max(length, row.high * scale)
        out.append(_text(left + length + 8, middle + 4, "value", row.text))
    return Markup("".join(out) + "</svg>")


def roofline(points: Sequence[Point], ceilings: Sequence[Ceiling], label: str) -> Markup:
    """Log-log: operations per byte against operations per second, with the roofs."""
    shown = [p for p in points if p.x > 0 and p.y > 0]
    xs = [p.x for p in shown] or [1.0]
    ys = [p.y for p in shown] or [1.0]
    roofs = [c.level for c in ceilings if c.level] or [max(ys)]
    ridges = [max(roofs) / c.slope for c in ceilings if c.slope]
    x_axis = _Log(
        min([x / 1.6 for x in xs] + [r / 6 for r in ridges]), max([*xs, *ridges]) * 4, _LEFT, WIDTH - _RIGHT
    )
    y_axis = _Log(min(ys) / 2, max([*ys, *roofs]) * 2.5, HEIGHT - _BOTTOM, _TOP)
    out = [_open(WIDTH, HEIGHT, label), _log_grid(x_axis, y_axis)]
    out += [_roof(ceiling, x_axis, y_axis, max(roofs)) for ceiling in ceilings]
    # Dots with a small share are drawn last, so that large ones do not hide them.
    for p in sorted(shown, key=lambda p: -p.share):
        radius = 3 + 11 * math.sqrt(min(p.share, 1.0))
        place = f'cx="{x_axis.at(p.x):.1f}" cy="{y_axis.at(p.y):.1f}" r="{radius:.1f}"'
        out.append(f'<circle {place} class="dot c{p.series}"><title>{escape(p.title)}</title></circle>')
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    turn = f"translate(12 {middle}) rotate(-90)"
    out.append(f'<text transform="{turn}" class="axis middle">operations per second</text>')
    out.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "axis middle", "operations per byte"))
    return Markup("".join(out) + "</svg>")


def curve(
    xs: Sequence[float], ys: Sequence[float], x_title: str, y_title: str, unit: str, color: int, label: str
) -> Markup:
    """A line over a y axis that starts at zero; long ones are thinned evenly, ends kept."""
    count, height = len(xs), 220
    picks = min(count, _MAX_VERTICES)
    keep = sorted({round(i * (count - 1) / max(picks - 1, 1)) for i in range(picks)})
    x0, x1 = xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1
    top = max(ys) * 1.12 or 1.0

    def px(x: float) -> float:
        return _LEFT + (x - x0) / (x1 - x0) * (WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return height - _BOTTOM - y / top * (height - _TOP - _BOTTOM)

    out = [_open(WIDTH, height, label)]
    for tick in nice_ticks(0, top):
        out.append(_path("grid", f"M{_LEFT} {py(tick):.1f}H{WIDTH - _RIGHT}"))
        out.append(_text(_LEFT - 6, py(tick) + 4, "tick end", micro(si(tick, unit))))
    below = height - _BOTTOM + 16
    out += [_text(px(tick), below, "tick middle", f"{tick:g}") for tick in nice_ticks(x0, x1)]
    vertices = "L".join(f"{px(xs[i]):.1f} {py(ys[i]):.1f}" for i in keep)
    out.append(_path(f"line s{color}", f"M{vertices}"))
    out.append(_text((_LEFT + WIDTH - _RIGHT) / 2, height - 6, "axis middle", x_title))
    out.append(_text(_LEFT, _TOP - 3, "axis", y_title))
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
        return list(whole)[:: max(1, math.ceil(len(whole) / 8))]


def _open(width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _text(x: float, y: float, style: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}</text>'


def _path(style: str, data: str) -> str:
    return f'<path class="{style}" d="{data}"/>'


def _log_grid(x: _Log, y: _Log) -> str:
    out = []
    for power in x.decades():
        at = x.at(10.0**power)
        out.append(_path("grid", f"M{at:.1f} {_TOP}V{HEIGHT - _BOTTOM}"))
        name = f"{10.0**power:g}" if -3 <= power <= 4 else f"1e{power}"
        out.append(_text(at, HEIGHT - _BOTTOM + 16, "tick middle", name))
    for power in y.decades():
        at = y.at(10.0**power)
        out.append(_path("grid", f"M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"))
        out.append(_text(_LEFT - 6, at + 4, "tick end", si(10.0**power, "", 1).strip()))
    return "".join(out)


def _roof(ceiling: Ceiling, x: _Log, y: _Log, highest: float) -> str:
    """A level, or a slope up to the highest level, with its name along it."""
    if ceiling.level:
        at = y.at(ceiling.level)
        line = _path("roof", f"M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}")
        return line + _text(WIDTH - _RIGHT, at - 5, "tick end", ceiling.name)
    start = max(10.0**x.low, 10.0**y.low / ceiling.slope)
    stop = min(10.0**x.high, highest / ceiling.slope)
    if start >= stop:
        return ""
    x0, y0, x1, y1 = x.at(start), y.at(start * ceiling.slope), x.at(stop), y.at(stop * ceiling.slope)
    along = 0.42
    turn = f"rotate({math.degrees(math.atan2(y1 - y0, x1 - x0)):.1f})"
    place = f"translate({x0 + along * (x1 - x0):.1f} {y0 + along * (y1 - y0):.1f})"
    name = f'<text transform="{place} {turn}" y="-5" class="tick middle">{escape(ceiling.name)}</text>'
    return _path("roof", f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}") + name
