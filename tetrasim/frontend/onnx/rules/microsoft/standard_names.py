"""ORT's ops that the standard has under the same name, in earlier or wider forms."""

from __future__ import annotations

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.frontend.onnx.rules.standard.layers import RULES as LAYERS
from tetrasim.frontend.onnx.rules.standard.quantised import RULES as QUANTISED
from tetrasim.sim.ir.graph import Value
from tetrasim.sim.ops.opdef import int_attr

_ATTRIBUTES = {
    "LinearAttention": ("state_window",),
    "CausalConvWithState": ("state_window", "channels_last"),
}


def _plain(call: Call) -> tuple[Value | None, ...]:
    return call.emit(call.proto.op_type, call.inputs, call.attrs)


def _with_state(call: Call) -> tuple[Value | None, ...]:
    """The standard's form of an op; what only ORT has must be at its default."""
    for name in _ATTRIBUTES[call.proto.op_type]:
        if int_attr(call.attrs, name, 0):
            raise call.refuse(f"{name} is not supported")
    if int_attr(call.attrs, "ndim", 1) != 1 or int_attr(call.attrs, "dilation", 1) != 1:
        raise call.refuse("several axes or a dilation are not supported")
    rule = LAYERS.get(call.proto.op_type, _plain)
    return rule(call)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("GatherND", "Trilu", "GridSample", "QLinearConv", "Range"), _plain),
    **dict.fromkeys(_ATTRIBUTES, _with_state),
    "QuantizeLinear": QUANTISED["QuantizeLinear"],
    "DequantizeLinear": QUANTISED["DequantizeLinear"],
}
