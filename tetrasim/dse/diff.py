"""What changed between two results, per part of the time, per op and per energy component.

Both sides decompose their critical path completely, so the changes of the parts sum to the change of the
latency, and the changes of the ops do too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tetrasim.sim.result import Result
from tetrasim.units import si


@dataclass(frozen=True, slots=True)
class Change:
    """An amount on both sides; 0 where a side does not have it."""

    name: str
    before: float
    after: float

    @property
    def delta(self) -> float:
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """after / before; None when there was nothing before."""
        return self.after / self.before if self.before else None


@dataclass(frozen=True, slots=True)
class Difference:
    """Result B against result A. Times in ns, energies in pJ; lists by size of the change."""

    before: str
    after: str
    latency_ns: Change
    energy_pj: Change
    phases_ns: tuple[Change, ...]
    parts_ns: tuple[Change, ...]
    ops_ns: tuple[Change, ...]
    components_pj: tuple[Change, ...]


def difference(a: Result, b: Result) -> Difference:
    """How `b` differs from `a`."""
    return Difference(
        before=a.preset,
        after=b.preset,
        latency_ns=Change("latency", a.latency.value, b.latency.value),
        energy_pj=Change("energy", a.energy.value, b.energy.value),
        phases_ns=_changes(
            ((p.name, p.latency.value) for p in a.phases), ((p.name, p.latency.value) for p in b.phases)
        ),
        parts_ns=_changes(_parts(a), _parts(b)),
        ops_ns=_changes(_ops(a), _ops(b)),
        components_pj=_changes(_components(a), _components(b)),
    )


def _parts(result: Result) -> Iterable[tuple[str, float]]:
    return ((s.name, s.amount / 1000) for p in result.phases for s in p.time_shares)


def _ops(result: Result) -> Iterable[tuple[str, float]]:
    return ((f"{op.phase}/{op.node}", op.time_ns) for op in result.ops)


def _components(result: Result) -> Iterable[tuple[str, float]]:
    return ((s.name, s.amount) for p in result.phases for s in p.energy_shares)


def _changes(a: Iterable[tuple[str, float]], b: Iterable[tuple[str, float]]) -> tuple[Change, ...]:
    """Amounts summed by name on both sides, largest change first, unchanged ones last in name order."""
    before, after = _summed(a), _summed(b)
    names = dict.fromkeys((*before, *after))
    found = [Change(name, before.get(name, 0.0), after.get(name, 0.0)) for name in names]
    return tuple(sorted(found, key=lambda c: (-abs(c.delta), c.name)))


def _summed(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, amount in items:
        out[name] = out.get(name, 0.0) + amount
    return out


def grouped(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Ops of repeated layers as one line: `decode/blocks.*.ffn/Gelu (12)`."""
    sums: dict[str, list[float]] = {}
    for change in changes:
        row = sums.setdefault(re.sub(r"\d+", "*", change.name), [0.0, 0.0, 0.0])
        row[0] += change.before
        row[1] += change.after
        row[2] += 1
    merged = [
        Change(f"{name} ({count:.0f})" if count > 1 else name, before, after)
        for name, (before, after, count) in sums.items()
    ]
    return tuple(sorted(merged, key=lambda c: (-abs(c.delta), c.name)))


def to_text(found: Difference, rows: int = 8) -> str:
    """A few lines per list; changes below a thousandth of the latency (or energy) are left out."""
    lines = [f"{found.before} -> {found.after}" if found.before != found.after else found.before]
    lines.append("  " + _line(found.latency_ns, 7, 1e-9, "s"))
    lines.append("  " + _line(found.energy_pj, 7, 1e-12, "J"))
    for title, changes, whole, scale, unit in (
        ("by phase", found.phases_ns, found.latency_ns, 1e-9, "s"),
        ("by part of the time", found.parts_ns, found.latency_ns, 1e-9, "s"),
        ("by op", grouped(found.ops_ns), found.latency_ns, 1e-9, "s"),
        ("by energy component", found.components_pj, found.energy_pj, 1e-12, "J"),
    ):
        least = 1e-3 * max(whole.before, whole.after)
        shown = [c for c in changes if abs(c.delta) >= least][:rows]
        if shown:
            width = max(len(c.name) for c in shown)
            lines += [f"  {title}:", *("    " + _line(c, width, scale, unit) for c in shown)]
    return "\n".join(lines) + "\n"


def _line(change: Change, width: int, scale: float, unit: str) -> str:
    before, after = si(change.before * scale, unit), si(change.after * scale, unit)
    sign = "+" if change.delta > 0 else ""
    delta = f"{sign}{si(change.delta * scale, unit)}"
    return f"{change.name:<{width}}  {before:>9} -> {after:<9}  {delta:>10}  ({_percent(change)})"


def _percent(change: Change) -> str:
    ratio = change.ratio
    if change.delta == 0:
        return "unchanged"
    return "new" if ratio is None else f"{100 * (ratio - 1):+.1f} %"
