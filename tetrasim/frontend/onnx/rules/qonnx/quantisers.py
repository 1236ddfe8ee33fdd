"""Quantisers of QONNX. On constants they give a weight in a narrow format whose numbers are the rounded ones;
on data they are one rounding, where it can be the node that a QuantizeLinear-DequantizeLinear pair becomes.

Source of the semantics: qonnx, docs/qonnx-custom-ops (Quant, BipolarQuant, Trunc).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tetrasim.frontend.onnx.builder import data_of
from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Quant, Role, Value
from tetrasim.sim.ops.dtypes import FORMATS
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.ops.opdef import int_attr, str_attr
from tetrasim.sim.ops.registry import infer

_KNOWN = (Role.WEIGHT, Role.CONSTANT)
_GRID = ("signed", "narrow", "rounding_mode")


def _number(call: Call, index: int, what: str) -> float:
    """A width that is one number in the file."""
    array = data_of(call.need(index))
    if array is None:
        raise call.refuse(f"its {what} is computed at run time", "export the quantiser with constant widths")
    values = np.unique(np.asarray(array))
    if values.size != 1:
        raise call.refuse(f"its {what} differs by channel", "use one bit width per tensor")
    return float(values[0])


def _emit(call: Call, op: str, inputs: Sequence[Value], attrs: dict[str, Attr]) -> tuple[Value, ...]:
    if any(v.role not in _KNOWN for v in inputs):
        return call.emit(op, inputs, attrs)
    (type,) = infer(op, [v.type for v in inputs], attrs)
    sources = tuple(v.data for v in inputs if v.data is not None)
    data = Folded(op, sources, attrs, 0, type) if len(sources) == len(inputs) else None
    return (Value(call.builder.fresh(call.out(0)), type, Role.WEIGHT, data),)


def _grid_of(scale: Value, zero: Value) -> tuple[float, float] | None:
    """Scale and zero point, where both are single numbers and the zero point is whole."""
    arrays = [data_of(v) for v in (scale, zero)]
    if any(a is None or a.size != 1 for a in arrays):
        return None
    step, shift = (float(np.asarray(a).reshape(-1)[0]) for a in arrays)
    return (step, shift) if shift == int(shift) else None


def _quant(call: Call) -> tuple[Value, ...]:
    x, scale, zero = (call.need(i) for i in range(3))
    bits = _number(call, 3, "bit width")
    attrs: dict[str, Attr] = {k: v for k, v in call.attrs.items() if k in _GRID}
    grid = _grid_of(scale, zero)
    signed, narrow = int_attr(attrs, "signed", 1), int_attr(attrs, "narrow", 0)
    plain = str_attr(attrs, "rounding_mode", "ROUND").upper() in ("ROUND", "HALF_EVEN") and not narrow
    if grid is not None and plain and x.role not in _KNOWN:
        to = f"{'int' if signed else 'uint'}{int(bits)}"
        if bits == int(bits) and any(f"{kind}{width}" == to for kind, width in FORMATS):
            return call.emit(
                "QuantizeDequantize", [x], {"to": to, "scale": grid[0], "zero_point": int(grid[1])}
            )
    attrs["bits"] = bits
    if grid is not None:
        attrs["grid"] = grid
    made = _emit(call, "Quant", [x, scale, zero], attrs)
    return (_per_channel(made[0], scale, zero),) if made[0].role is Role.WEIGHT and grid is None else made


def _per_channel(weight: Value, scale: Value, zero: Value) -> Value:
    """A weight whose scales lie along one axis says so in its type."""
    steps, shift = data_of(scale), data_of(zero)
    rank = len(weight.type.shape)
    shape = (1,) * (rank - len(scale.type.shape)) + scale.type.shape
    axes = [i for i, d in enumerate(shape) if d > 1]
    if steps is None or shift is None or len(axes) != 1 or shift.size != 1 or float(shift.reshape(-1)[0]) % 1:
        return weight
    scales = tuple(float(s) for s in steps.reshape(-1))
    quant = Quant(scales, (int(shift.reshape(-1)[0]),), axes[0])
    return replace(weight, type=replace(weight.type, quant=quant))


def _bipolar(call: Call) -> tuple[Value, ...]:
    return _emit(call, "BipolarQuant", [call.need(0), call.need(1)], {})


def _trunc(call: Call) -> tuple[Value, ...]:
    """Version 1: x, scale, zero point, width before, width after. Version 2: a new scale before the last."""
    late = len(call.inputs) > 5
    attrs: dict[str, Attr] = {k: v for k, v in call.attrs.items() if k in _GRID}
    bits = _number(call, 5 if late else 4, "bit width")
    attrs["bits"] = bits
    if not late:
        attrs["dropped"] = _number(call, 3, "bit width") - bits
    inputs = [call.need(i) for i in range(3)] + ([call.need(4)] if late else [])
    return _emit(call, "Trunc", inputs, attrs)


RULES: dict[str, Rule] = {"Quant": _quant, "IntQuant": _quant, "BipolarQuant": _bipolar, "Trunc": _trunc}
