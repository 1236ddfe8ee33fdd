"""Quantised weights. DequantizeLinear of a constant is not arithmetic but a weight in a narrow format: it
becomes a value of that format whose numbers are the dequantised ones (rounded, not repacked)."""

from __future__ import annotations

from dataclasses import replace

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Quant, Role, Value
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.ops.opdef import axis_of, int_attr


def _dequantise(call: Call) -> tuple[Value, ...]:
    x, scale = call.need(0), call.need(1)
    zero = call.inputs[2] if len(call.inputs) > 2 else None
    params = [v for v in (scale, zero) if v is not None]
    if x.role not in (Role.WEIGHT, Role.CONSTANT) or any(v.role not in _KNOWN for v in params):
        return call.emit("DequantizeLinear", call.inputs, call.attrs)
    sources = [v.data for v in (x, *params)]
    known = tuple(s for s in sources if s is not None)
    data = Folded("DequantizeLinear", known, call.attrs, 0, x.type) if len(known) == len(sources) else None
    quant = Quant()
    if not int_attr(call.attrs, "block_size", 0) and scale.data is not None:
        per_axis = scale.type.elements > 1
        axis = axis_of(int_attr(call.attrs, "axis", 1), len(x.type.shape)) if per_axis else None
        points = (
            () if zero is None or zero.data is None else tuple(int(z) for z in zero.data.load().reshape(-1))
        )
        quant = Quant(tuple(float(s) for s in scale.data.load().reshape(-1)), points, axis)
    type = replace(x.type, quant=quant)
    return (Value(call.builder.fresh(call.proto.output[0]), type, Role.WEIGHT, data),)


_KNOWN = (Role.WEIGHT, Role.CONSTANT)


def _quantise(call: Call) -> tuple[Value, ...]:
    """The integer format is the zero point's; it is kept as an attribute."""
    zero = call.inputs[2] if len(call.inputs) > 2 else None
    attrs = {k: v for k, v in call.attrs.items() if k in ("axis", "block_size", "saturate")}
    if call.attrs.get("output_dtype"):
        attrs["output_dtype"] = call.attrs["output_dtype"]
    if zero is not None:
        attrs["output_dtype"] = zero.type.dtype
    return call.emit("QuantizeLinear", call.inputs, attrs)


RULES: dict[str, Rule] = {"DequantizeLinear": _dequantise, "QuantizeLinear": _quantise}
