"""ORT's quantised `com.microsoft` ops: dequantise, compute, quantise again, spelled out.

The result is the op's own definition (ContribOperators.md); where ORT computes in integers throughout, the
last bit may differ. Products stay integer products (`QLinearMatMul`, `MatMulInteger`).
"""

from __future__ import annotations

from tetrasim.frontend.onnx.call import Call, Rule
from tetrasim.sim.ir.graph import Attr, Value


def _name(call: Call, suffix: str) -> str:
    return f"{call.proto.output[0]}/{suffix}"


def _real(
    call: Call, x: Value | None, scale: Value | None, zero: Value | None, suffix: str, axis: int = 1
) -> Value:
    """The dequantised operand (`axis` matters for a scale per channel only)."""
    if x is None or scale is None:
        raise call.refuse("an operand or its scale is missing")
    return call.emit("DequantizeLinear", [x, scale, zero], {"axis": axis}, [_name(call, suffix)])[0]


def _stored(call: Call, x: Value, scale: Value | None, zero: Value | None) -> tuple[Value, ...]:
    """The quantised result, in the format of its zero point (uint8 without one)."""
    attrs: dict[str, Attr] = {} if zero is None else {"output_dtype": zero.type.dtype}
    return call.emit("QuantizeLinear", [x, scale, zero], attrs)


def _inputs(call: Call, count: int) -> list[Value | None]:
    return [call.inputs[i] if i < len(call.inputs) else None for i in range(count)]


def _binary(call: Call) -> tuple[Value, ...]:
    """QLinearAdd, QLinearMul: a, its scale and zero point, b, …, those of the result."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = _inputs(call, 8)
    left, right = _real(call, a, a_scale, a_zero, "a"), _real(call, b, b_scale, b_zero, "b")
    op = call.proto.op_type.removeprefix("QLinear")
    (out,) = call.emit(op, [left, right], {}, [_name(call, "real")])
    return _stored(call, out, scale, zero)


def _unary(call: Call) -> tuple[Value, ...]:
    """QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QLinearAveragePool, …"""
    x, x_scale, x_zero, scale, zero = _inputs(call, 5)
    op = call.proto.op_type.removeprefix("QLinear")
    attrs = {k: v for k, v in call.attrs.items() if k not in ("opset", "channels_last")}
    if call.attrs.get("channels_last"):
        raise call.refuse("channels_last is not supported")
    if op == "GlobalAveragePool":
        rank = len(call.need(0).type.shape)
        op, attrs = "ReduceMean", {"axes": tuple(range(2, rank)), "keepdims": 1}
    (out,) = call.emit(op, [_real(call, x, x_scale, x_zero, "x")], attrs, [_name(call, "real")])
    return _stored(call, out, scale, zero)


def _concat(call: Call) -> tuple[Value, ...]:
    """QLinearConcat: scale and zero point of the result, then triples."""
    scale, zero, *rest = call.inputs
    parts = [
        _real(call, x, x_scale, x_zero, f"x{i}")
        for i, (x, x_scale, x_zero) in enumerate(zip(rest[::3], rest[1::3], rest[2::3], strict=True))
    ]
    (out,) = call.emit("Concat", parts, {"axis": call.attrs["axis"]}, [_name(call, "real")])
    return _stored(call, out, scale, zero)


def _gemm(call: Call) -> tuple[Value, ...]:
    """QGemm: the bias is int32 in units of a_scale * b_scale; without an output scale the result is real."""
    a, a_scale, a_zero, b, b_scale, b_zero, bias, scale, zero = _inputs(call, 9)
    left = _real(call, a, a_scale, a_zero, "a")
    right = _real(call, b, b_scale, b_zero, "b", 0 if call.attrs.get("transB") else 1)
    inputs: list[Value | None] = [left, right]
    if bias is not None:
        (unit,) = call.emit("Mul", [a_scale, b_scale], {}, [_name(call, "unit")])
        (wide,) = call.emit("Cast", [bias], {"to": "float32"}, [_name(call, "bias_float")])
        inputs += call.emit("Mul", [wide, unit], {}, [_name(call, "bias")])
    attrs = {k: v for k, v in call.attrs.items() if k in ("alpha", "transA", "transB")}
    if scale is None:
        return call.emit("Gemm", inputs, attrs)
    (out,) = call.emit("Gemm", inputs, attrs, [_name(call, "real")])
    return _stored(call, out, scale, zero)


def _integer_to_float(call: Call) -> tuple[Value, ...]:
    """MatMulIntegerToFloat and DynamicQuantizeMatMul: an integer product, scaled, plus a bias."""
    if call.proto.op_type == "DynamicQuantizeMatMul":
        x, b, b_scale, b_zero, bias = _inputs(call, 5)
        names = [_name(call, n) for n in ("a", "a_scale", "a_zero")]
        a, a_scale, a_zero = call.emit("DynamicQuantizeLinear", [x], {}, names)
    else:
        found = _inputs(call, 7)
        if found[0] is None or found[2] is None:
            raise call.refuse("its operand or scale is missing")
        a, a_scale, a_zero = found[0], found[2], found[4]  # type: ignore[assignment]
        b, b_scale, b_zero, bias = found[1], found[3], found[5], found[6]
    (product,) = call.emit("MatMulInteger", [a, b, a_zero, b_zero], {}, [_name(call, "product")])
    (real,) = call.emit("Cast", [product], {"to": "float32"}, [_name(call, "float")])
    (unit,) = call.emit("Mul", [a_scale, b_scale], {}, [_name(call, "unit")])
    if bias is None:
        return call.emit("Mul", [real, unit])
    (scaled,) = call.emit("Mul", [real, unit], {}, [_name(call, "scaled")])
    return call.emit("Add", [scaled, bias])


RULES: dict[str, Rule] = {
    "QLinearAdd": _binary,
    "QLinearMul": _binary,
    "QLinearSigmoid": _unary,
    "QLinearLeakyRelu": _unary,
    "QLinearSoftmax": _unary,
    "QLinearAveragePool": _unary,
    "QLinearGlobalAveragePool": _unary,
    "QLinearConcat": _concat,
    "QGemm": _gemm,
    "MatMulIntegerToFloat": _integer_to_float,
    "DynamicQuantizeMatMul": _integer_to_float,
}
