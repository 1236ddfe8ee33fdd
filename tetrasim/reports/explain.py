"""Explanations as text and as JSON: one renderer for `tetrasim explain` and `tetrasim op --explain`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tetrasim.units import si, si_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tetrasim.hw_targets.common.explanation import Constant, Explained, Explanation


def to_tree(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """As plain data, for JSON."""
    return [asdict(one) for one in found]


def to_text(found: Sequence[Explained]) -> str:
    """One paragraph per op and kernel."""
    return "\n\n".join(_op(one) for one in found)


def _op(one: Explained) -> str:
    blocks = [one.what]
    if not one.kernels:
        blocks.append("  no kernel: a view, or part of what reads it; it costs nothing")
    blocks += ["\n".join(f"  {line}" for line in _kernel(kernel)) for kernel in one.kernels]
    blocks.append(f"  evidence: {one.evidence}")
    return "\n".join(blocks)


def _kernel(kernel: Explanation) -> list[str]:
    lines = [f"{kernel.kernel}: {_us(kernel.time_us)}, bound by {kernel.bound_by}"]
    whole = sum(us for _, us in kernel.parts) or 1.0
    if kernel.parts:
        shown = ", ".join(f"{name} {_us(us)} ({100 * us / whole:.1f} %)" for name, us in kernel.parts)
        lines.append(f"  time: {shown}")
    if kernel.level_bytes:
        lines.append("  bytes: " + ", ".join(f"{name} {si_bytes(b)}" for name, b in kernel.level_bytes))
    lines += [f"  {name}: {value}" for name, value in kernel.choices]
    if kernel.candidates:
        lines.append("  candidates:")
        lines += [f"    {'*' if c.chosen else ' '} {c.name}: {_us(c.time_us)}" for c in kernel.candidates]
    lines.append(f"  formula: {kernel.formula}")
    if kernel.constants:
        lines.append("  constants:")
        for source, group in groupby(kernel.constants, key=lambda c: c.source):
            lines.append(f"    {', '.join(_constant(c) for c in group)}  [{source}]")
    return lines


def _constant(c: Constant) -> str:
    large = c.unit in ("Hz", "B/s", "op/s")
    return f"{c.name} = {si(c.value, c.unit) if large else f'{c.value:g} {c.unit}'.strip()}"


def _us(us: float) -> str:
    return si(us * 1e-6, "s").replace("us", "µs") if us else "0 s"
