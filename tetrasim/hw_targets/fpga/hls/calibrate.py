"""Fixed-point types from sample inputs: integer bits by range plus a guard bit, every accumulator exact.

Saturation is on everywhere, so a value beyond the calibrated range costs accuracy, not sanity. Accumulators
keep all
fractional bits of their products and enough integer bits for the largest possible sum: hls4ml's defaults do
neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, log2, sqrt

import numpy as np

from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.emulate import run_real, scores_real, stored_numbers
from tetrasim.hw_targets.fpga.hls.plan import EXACT_BITS, Fixed, Floats, Layer, Plan, Types
from tetrasim.hw_targets.fpga.hls.units import grid_type

SCORE_INTEGER_LIMIT = 12
DEVIATION_BITS = 22
OUTPUT_BITS = 24  # outputs of a quantised file: whole numbers of steps, as plain numbers
INPUT_BITS = 26  # inputs that a quantised file rounds first
RESCALE_EXTRA_BITS = 2
BIAS_FRACTION = 8  # of a bias that is no whole number of units
NORM_INPUT_BITS = 3  # a normalisation divides by the deviation: rows that hardly vary amplify their rounding


@dataclass(frozen=True, slots=True)
class Widths:
    """`bits` for every tensor and weight unless `by_layer` says otherwise; `guard` integer bits above the
    range."""

    bits: int = 16
    guard: int = 1
    by_layer: tuple[tuple[str, int], ...] = ()

    def of(self, layer: Layer) -> int:
        """Width of one layer's result and weights."""
        return dict(self.by_layer).get(layer.name, self.bits)


def integer_bits(largest: float, guard: int) -> int:
    """Integer bits, sign included, that hold +-`largest`."""
    return (ceil(log2(largest)) if largest > 0 else 0) + 1 + guard


def _type(x: Floats, bits: int, guard: int) -> Fixed:
    largest = float(np.abs(x).max(initial=0.0)) or 2.0**-bits
    return Fixed(bits, min(max(integer_bits(largest, guard), 2 - bits), bits))


def calibrate(plan: Plan, feeds: Mapping[str, Floats], widths: Widths) -> Plan:
    """`plan` with types from its values on `feeds` ([N, …] per input)."""
    values = run_real(plan, feeds)
    types: dict[str, Types] = {}
    normalised = _normalised(plan)
    for layer in plan.layers:
        bits = widths.of(layer)
        extra = NORM_INPUT_BITS if layer.name in normalised else 0
        result = _type(values[layer.name], bits + extra, widths.guard)
        result = _of_units(plan, layer, types, result)
        if layer.name in plan.clipped:
            result = Fixed(result.bits, max(result.integer - 1, 2 - result.bits), signed=False)
        if isinstance(layer, p.Input) and layer.integers:
            largest = int(values[layer.name].max(initial=1))
            result = Fixed(largest.bit_length() + 2, largest.bit_length() + 2)
        if isinstance(layer, p.Select):
            result = types[layer.inputs[0]].result  # a move rounds nothing
        if isinstance(layer, p.Dense) and layer.name in plan.units:
            types[layer.name] = _whole(plan, layer, types[layer.inputs[0]].result)
            continue
        known = Types(result)
        sources = [types[i].result for i in layer.inputs]
        xs, stored = [values[i] for i in layer.inputs], layer.name in plan.stored
        made = _constants(layer, known, bits, widths.guard, sources, xs, stored=stored)
        types[layer.name] = replace(made, result=plan.given.get(layer.name, made.result))
    return replace(plan, types=types)


def _of_units(plan: Plan, layer: Layer, types: dict[str, Types], found: Fixed) -> Fixed:
    """The type of a layer of a quantised file with general scales; `found` for all others."""
    match layer:
        case p.Grid():
            return grid_type(layer)
        case p.Rescale() if layer.name in plan.outputs:
            return Fixed(OUTPUT_BITS, found.integer)
        case p.Rescale():
            return Fixed(found.bits + RESCALE_EXTRA_BITS, found.integer)
        case p.Relu() | p.Reduce() if layer.name in plan.units:
            return types[layer.inputs[0]].result
        case p.Input() if not layer.integers and _only_rounded(plan, layer):
            return Fixed(INPUT_BITS, found.integer)
        case _:
            return found


def _only_rounded(plan: Plan, layer: Layer) -> bool:
    """Whether only grids read the layer, moved or not: its own rounding must not turn theirs."""
    read = [plan.layer(name) if name else layer for name in plan.readers()[layer.name]]
    return bool(read) and all(
        isinstance(x, p.Grid) or (isinstance(x, p.Select) and _only_rounded(plan, x)) for x in read
    )


def _whole(plan: Plan, layer: p.Dense, of: Fixed) -> Types:
    """Types of a product of integers: everything exact, the result as wide as the accumulator."""
    weight, bias = stored_numbers(layer, plan.units.get(layer.inputs[0], np.ones(1)))
    extra = 0 if layer.whole_bias or not bias.any() else max(BIAS_FRACTION - of.fraction, 0)
    kept = exact_type(weight) or Fixed(2, 2)
    kind = Fixed(kept.bits + extra, kept.integer)
    fraction = of.fraction + kind.fraction
    whole = integer_bits(float(np.abs(bias).max(initial=0.0)), 0)
    bias_kind = Fixed(whole + min(fraction, BIAS_FRACTION), whole)
    reach = float(np.abs(weight).sum(0).max()) * 2.0 ** (of.integer - of.signed)
    total = integer_bits(reach + float(np.abs(bias).max(initial=0.0)), 1)
    accum = Fixed(total + fraction, total)
    clipped = layer.name in plan.clipped
    return Types(replace(accum, signed=not clipped), weight=kind, bias=bias_kind, accum=accum)


def _normalised(plan: Plan) -> set[str]:
    """Layers whose result a normalisation reads, directly or moved."""
    found: set[str] = set()
    for layer in reversed(plan.layers):
        if isinstance(layer, p.Norm) or (isinstance(layer, p.Select) and layer.name in found):
            found.update(layer.inputs)
    return found


def _constants(
    layer: Layer, known: Types, bits: int, guard: int, of: list[Fixed], xs: list[Floats], *, stored: bool
) -> Types:
    """Types of weights, accumulators and inner values."""
    match layer:
        case p.Dense():
            if stored:
                weight, bias = _stored_types(layer, bits, of[0].fraction)
            else:
                weight = _type(layer.weight, bits, 0)
                bias = _below(_type(layer.bias, bits, 0), of[0].fraction + weight.fraction)
            reach = float(np.abs(weight.quantise(layer.weight)).sum(0).max()) * 2.0 ** (of[0].integer - 1)
            whole = integer_bits(reach + float(np.abs(layer.bias).max()), 1)
            fraction = of[0].fraction + weight.fraction
            return replace(known, weight=weight, bias=bias, accum=Fixed(whole + fraction, whole))
        case p.Affine():
            return replace(known, weight=_type(layer.scale, bits, 0))
        case p.Attention():
            score = _type(scores_real(layer, xs), bits, guard)
            whole = min(score.integer, SCORE_INTEGER_LIMIT)
            return replace(known, score=Fixed(bits, whole), inner=Fixed(bits, 1, signed=False))
        case p.Softmax():
            return replace(known, result=Fixed(bits, 1, signed=False))
        case p.Norm():
            rows = xs[0].reshape(len(xs[0]), -1, layer.cols)
            rows = rows - rows.mean(-1, keepdims=True) if layer.centred else rows
            unit = Fixed(bits + 2, 2)
            weight = _type(layer.scale * sqrt(layer.cols), bits, 0)
            bias = _below(_type(layer.offset, bits, 0), unit.fraction + weight.fraction)
            deviation = _type(rows, min(bits + 4, DEVIATION_BITS), guard)
            return replace(known, inner=deviation, score=unit, weight=weight, bias=bias)
        case _:
            return known


def _stored_types(layer: p.Dense, bits: int, fraction: int) -> tuple[Fixed, Fixed]:
    """Exact weight and bias types for inputs with `fraction` fractional bits; `bits` wide where none is."""
    weight = exact_type(layer.weight) or _type(layer.weight, bits, 0)
    bias = exact_type(layer.bias)
    if bias is None:
        return weight, _below(_type(layer.bias, bits, 0), fraction + weight.fraction)
    more = max(
        bias.fraction - fraction - weight.fraction, 0
    )  # zeros below the weights, so that the bias fits
    return Fixed(weight.bits + more, weight.integer), bias


def exact_type(x: Floats) -> Fixed | None:
    """The narrowest signed type that holds every number exactly, None beyond `EXACT_BITS` bits."""
    used = np.abs(x[x != 0])
    if not used.size:
        return None
    mantissa, exponent = np.frexp(used)
    digits = np.round(mantissa * 2.0**EXACT_BITS)
    if (digits != mantissa * 2.0**EXACT_BITS).any():
        return None
    raw = digits.astype(np.int64)
    trailing = np.log2(raw & -raw).astype(np.int64)
    fraction = int((EXACT_BITS - exponent - trailing).max())
    lowest = (mantissa == 0.5) & (x[x != 0] < 0)  # -2**n takes one bit less than 2**n
    integer = int((exponent + 1 - lowest).max())
    bits = max(integer + fraction, 2)
    return Fixed(bits, bits - fraction) if bits <= EXACT_BITS else None


def _below(wanted: Fixed, fraction: int) -> Fixed:
    """`wanted` with at most `fraction` fractional bits, so that it adds to a sum without rounding."""
    drop = max(wanted.fraction - fraction, 0)
    return Fixed(max(wanted.bits - drop, wanted.integer, 2), wanted.integer) if drop else wanted
