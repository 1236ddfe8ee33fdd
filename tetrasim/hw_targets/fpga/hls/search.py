"""Bit widths: the smallest uniform width that meets an error budget, then narrower layers where that costs
nothing.

The emulation is exact, so a candidate costs milliseconds, not a compilation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import outputs_of
from tetrasim.hw_targets.fpga.hls.emulate import run_fixed
from tetrasim.hw_targets.fpga.hls.plan import Floats, Plan

NARROWEST, WIDEST = 6, 20


def error_of(plan: Plan, feeds: Mapping[str, Floats], reference: Floats) -> float:
    """Largest error over the range of the reference outputs."""
    wrong = np.abs(outputs_of(run_fixed(plan, feeds), plan) - reference)
    return float(wrong.max()) / (float(np.ptp(reference)) or 1.0)


def find_widths(
    plan: Plan,
    feeds: Mapping[str, Floats],
    reference: Floats,
    budget: float,
    guard: int,
    *,
    by_layer: bool = True,
) -> Widths:
    """Widths that keep the error within `budget` on these inputs.

    Every width is tried from the narrowest up, because error need not fall monotonically with bits. Then
    each dense
    layer, the costliest first, is narrowed one bit at a time as long as the budget holds.

    Raises:
        UserError: even the widest format misses the budget.
    """
    best = None
    for bits in range(NARROWEST, WIDEST + 1):
        if error_of(calibrate(plan, feeds, Widths(bits, guard)), feeds, reference) <= budget:
            best = Widths(bits, guard)
            break
    if best is None:
        worst = error_of(calibrate(plan, feeds, Widths(WIDEST, guard)), feeds, reference)
        raise UserError(
            f"no width up to {WIDEST} bits keeps the error within {budget:.3g} of the output range "
            f"(at {WIDEST} bits: {worst:.3g})",
            hint="a larger --budget, or better-scaled inputs",
        )
    if not by_layer:
        return best
    dense = sorted((x for x in plan.layers if isinstance(x, p.Dense)), key=lambda x: -x.weight.size * x.rows)
    for layer in dense:
        while True:
            known = dict(best.by_layer)
            bits = known.get(layer.name, best.bits) - 1
            trial = Widths(best.bits, guard, tuple(sorted({**known, layer.name: bits}.items())))
            if bits < NARROWEST or error_of(calibrate(plan, feeds, trial), feeds, reference) > budget:
                break
            best = trial
    return best
