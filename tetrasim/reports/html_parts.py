"""The pieces of the HTML page as plain data: what the template shows, already in words and percentages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tetrasim.reports import charts, view
from tetrasim.sim.metric import Metric
from tetrasim.sim.result import PhaseResult, Result, Share
from tetrasim.units import si, si_bytes

COLORS = 10  # named colours of the style sheet; c10 is the grey of "everything else"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar: `width` is the CSS width in percent, unrounded."""

    name: str
    color: int
    percent: str
    width: float
    amount: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A bar that sums to 100 %."""

    label: str
    total: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A speed-of-light bar."""

    name: str
    percent: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything one target contributes to the page."""

    label: str
    result: Result
    latency: str
    latency_range: str
    energy: str
    bound_by: str
    notes: tuple[str, ...]
    rates: tuple[tuple[str, str], ...]
    time: tuple[Stack, ...]
    energy_stacks: tuple[Stack, ...]
    moved: tuple[tuple[str, str, str], ...]
    gauges: tuple[tuple[str, tuple[Gauge, ...]], ...]
    busy: tuple[tuple[str, tuple[Gauge, ...]], ...]
    memory: tuple[Stack, ...]
    resources: tuple[tuple[str, str, str, str], ...]
    roofline: Markup
    token_curve: Markup | None
    state_curve: Markup | None


class Palette:
    """One colour per part of a target, the largest parts of the whole run first."""

    def __init__(self, whole_run: Sequence[Share]) -> None:
        self._colors = {share.name: min(i, COLORS) for i, share in enumerate(view.by_size(whole_run))}

    def of(self, name: str) -> int:
        return self._colors.get(name, COLORS)


def stack(label: str, shares: Sequence[Share], palette: Palette, unit: str, to_unit: float) -> Stack:
    """Largest first; the printed percentages sum to exactly 100.0."""
    ordered = view.by_size(shares)
    shown = view.percents([s.fraction for s in ordered])
    total = sum(s.amount for s in ordered)
    segments = tuple(
        Segment(
            s.name,
            palette.of(s.name),
            percent,
            100 * s.amount / total,
            charts.micro(si(s.amount * to_unit, unit)),
        )
        for s, percent in zip(ordered, shown, strict=True)
    )
    return Stack(label, charts.micro(si(total * to_unit, unit)), segments)


def panel(result: Result, label: str) -> Panel:
    """The words and pictures of one result."""
    time_colors, energy_colors = Palette(view.time_shares(result)), Palette(view.energy_shares(result))
    several = len(result.phases) > 1
    whole_time = [("Whole run", view.time_shares(result))] if several else []
    whole_energy = [("Whole run", view.energy_shares(result))] if several else []
    return Panel(
        label=label,
        result=result,
        latency=view.time_text(result.latency),
        latency_range=_range_text(result.latency),
        energy=view.energy_text(result.energy),
        bound_by=view.bound_by(result),
        notes=view.headline_notes(result),
        rates=_rates(result),
        time=tuple(
            stack(name, shares, time_colors, "s", 1e-12)
            for name, shares in (*whole_time, *((phase_title(p), p.time_shares) for p in result.phases))
        ),
        energy_stacks=tuple(
            stack(name, shares, energy_colors, "J", 1e-12)
            for name, shares in (*whole_energy, *((phase_title(p), p.energy_shares) for p in result.phases))
        ),
        moved=tuple(
            (phase_title(p), share.name, si_bytes(share.amount))
            for p in result.phases
            for share in p.bytes_moved
        ),
        gauges=tuple((phase_title(p), _speed_of_light(result, p)) for p in result.phases),
        busy=tuple((phase_title(p), _busy(p)) for p in result.phases),
        memory=_memory(result),
        resources=_resources(result),
        roofline=_roofline(result, label),
        token_curve=_token_curve(result),
        state_curve=_state_curve(result),
    )


def phase_title(phase: PhaseResult) -> str:
    """`Decode (127 steps)`."""
    return phase.name.capitalize() + (f" ({phase.runs} steps)" if phase.runs > 1 else "")


def _range_text(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return "no range: this preset was not validated against measurements"
    low, high = (charts.micro(si(bound * 1e-9, "s")) for bound in (metric.low, metric.high))
    return f"{low} to {high} ({view.error_range(metric)}, {metric.basis})"


def _rates(result: Result) -> tuple[tuple[str, str], ...]:
    generation = result.generation
    if generation is None:
        return ()
    rows = [("first token", view.time_text(generation.first_token))]
    if generation.mean_token and generation.last_token:
        rows += [
            ("per token, mean", view.time_text(generation.mean_token)),
            ("last token", view.time_text(generation.last_token)),
        ]
    rows += [
        ("tokens/s", f"{generation.tokens_per_s.value:.4g}"),
        ("energy per token", charts.micro(si(generation.energy_per_token.value, "J"))),
    ]
    return tuple(rows)


def _speed_of_light(result: Result, phase: PhaseResult) -> tuple[Gauge, ...]:
    """Achieved over peak, for arithmetic and for every memory level with a known bandwidth."""
    seconds = phase.latency.value * 1e-9
    moved = {share.name: share.amount for share in phase.bytes_moved}
    out = []
    for peak in result.peaks:
        amount = moved.get(peak.name) if peak.unit.startswith("B") else _operations(phase, peak.name)
        if amount is None or not peak.amount or not seconds:
            continue
        percent = 100 * amount / seconds / peak.amount
        text = f"{si(amount / seconds, peak.unit)} of {si(peak.amount, peak.unit)}"
        out.append(Gauge(peak.name, percent, text))
    return tuple(out)


def _operations(phase: PhaseResult, peak_name: str) -> float | None:
    """Two operations per MAC; vector peaks have no counter in the phase totals."""
    return None if "vector" in peak_name.lower() else 2.0 * phase.macs


def _busy(phase: PhaseResult) -> tuple[Gauge, ...]:
    largest = sorted(phase.utilisation, key=lambda s: -s.fraction)[:8]
    return tuple(Gauge(s.name, 100 * s.fraction, charts.micro(si(s.amount * 1e-12, "s"))) for s in largest)


def _memory(result: Result) -> tuple[Stack, ...]:
    out = []
    for memory in result.memory:
        kinds = (
            ("weights", 0, memory.weights_bytes),
            ("state (KV cache)", 1, memory.state_bytes),
            ("activations", 2, memory.activation_bytes),
        )
        whole = max(memory.capacity_bytes, sum(size for _, _, size in kinds)) or 1
        segments = tuple(
            Segment(name, color, f"{100 * size / whole:.1f}", 100 * size / whole, si_bytes(size))
            for name, color, size in kinds
        )
        used = sum(size for _, _, size in kinds)
        verdict = "" if memory.fits else ": DOES NOT FIT"
        out.append(
            Stack(memory.name, f"{si_bytes(used)} of {si_bytes(memory.capacity_bytes)}{verdict}", segments)
        )
    return tuple(out)


def _resources(result: Result) -> tuple[tuple[str, str, str, str], ...]:
    return tuple(
        (
            r.name,
            f"{_count(r.used)} {r.unit}".strip(),
            f"{_count(r.available)} {r.unit}".strip(),
            f"{100 * r.used / r.available:.1f}" if r.available else "",
        )
        for r in result.resources
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"


def _roofline(result: Result, label: str) -> Markup:
    """Ops at the same place (the layers of a stack) are one dot whose area is their share of the time."""
    share = {(op.phase, op.node): op.time_fraction for op in result.ops}
    kind = {(op.phase, op.node): op.op for op in result.ops}
    phases = [p.name for p in result.phases]
    groups: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for point in result.roofline:
        where = (point.phase, f"{point.arithmetic_intensity:.2g}", f"{point.ops_per_s:.2g}")
        groups.setdefault(where, []).append(
            (point.arithmetic_intensity, point.ops_per_s, share.get((point.phase, point.node), 0.0))
        )
    names: dict[tuple[str, str, str], set[str]] = {}
    for point in result.roofline:
        where = (point.phase, f"{point.arithmetic_intensity:.2g}", f"{point.ops_per_s:.2g}")
        names.setdefault(where, set()).add(kind.get((point.phase, point.node), "?"))
    points = []
    for where, members in sorted(groups.items()):
        total = sum(m[2] for m in members)
        kinds = ", ".join(sorted(names[where]))
        first_x, first_y, _ = members[0]
        place = f"{first_x:.3g} op/B, {si(first_y, 'op/s')}"
        title = f"{where[0]}: {len(members)} x {kinds}; {place}; {100 * total:.1f} % of time"
        series = phases.index(where[0]) if where[0] in phases else COLORS
        points.append(charts.Point(first_x, first_y, series, total, title))
    ceilings = [
        charts.Ceiling(
            f"{peak.name} {si(peak.amount, peak.unit)}",
            slope=peak.amount if peak.unit.startswith("B") else 0.0,
            level=0.0 if peak.unit.startswith("B") else peak.amount,
        )
        for peak in result.peaks
        if peak.amount > 0
    ]
    return charts.roofline(points, ceilings, f"Roofline of {label}")


def _token_curve(result: Result) -> Markup | None:
    steps = next((p for p in result.phases if p.runs > 1), None)
    if steps is None or len(steps.run_ns) < 2:
        return None
    contexts = [float(c) for c in _contexts(result)][: len(steps.run_ns)]
    seconds = [ns * 1e-9 for ns in steps.run_ns]
    return charts.curve(
        contexts,
        seconds,
        "keys cached before the step",
        "time of each step",
        "s",
        0,
        f"Step time on {result.preset}",
    )


def _contexts(result: Result) -> range:
    """Keys cached before each step that was run."""
    return result.workload.contexts(prefilled=any(p.name == "prefill" for p in result.phases))


def _state_curve(result: Result) -> Markup | None:
    """Every size in a step graph is affine in the context, so first and last step decide the line: it rises
    for a cache and is level for a recurrent state."""
    contexts = _contexts(result)
    first = sum(m.first_state_bytes for m in result.memory)
    last = sum(m.state_bytes for m in result.memory)
    if result.generation is None or len(contexts) < 2 or not last:
        return None
    keys = [float(c + 1) for c in contexts]
    sizes = [first + (last - first) * i / (len(keys) - 1) for i in range(len(keys))]
    return charts.curve(keys, sizes, "keys cached", "KV cache", "B", 1, f"KV cache on {result.preset}")
