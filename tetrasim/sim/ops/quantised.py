"""Integer quantisation as ONNX defines it: real = (q - zero_point) * scale, rounding half to even,
saturating. Scales are per tensor, per `axis`, or per block of `block_size` along it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Kind, Node, Quant, Role, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.conv import OPS as CONV_OPS
from tetrasim.sim.ops.conv import conv_gemm, convolve
from tetrasim.sim.ops.dtypes import in_float_format, numpy_dtype, parse_dtype
from tetrasim.sim.ops.matmul import OPS as MATMUL_OPS
from tetrasim.sim.ops.matmul import gemm_of
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    axis_of,
    float_attr,
    have,
    int_attr,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    vector_work,
    writes,
)
from tetrasim.sim.ops.rounding import EXACT, round_to
from tetrasim.sim.ops.work import Work, WorkKind

INT32 = TensorType((), Kind.INT, 32)
UINT8 = TensorType((), Kind.UINT, 8)
FLOAT32 = TensorType((), Kind.FLOAT, 32)


def spread(param: Arr, x_shape: tuple[int, ...], attrs: Attrs) -> Arr:
    """A scale or zero point as an array that broadcasts to x."""
    if param.size == 1:
        return param.reshape(())
    axis = axis_of(int_attr(attrs, "axis", 1), len(x_shape))
    block = int_attr(attrs, "block_size", 0)
    if block:
        return np.repeat(param, block, axis=axis)[tuple(slice(d) for d in x_shape)]
    if param.ndim != 1 or param.size != x_shape[axis]:
        raise ShapeError(f"a scale of shape {param.shape} does not fit axis {axis} of {x_shape}")
    return param.reshape([-1 if i == axis else 1 for i in range(len(x_shape))])


def limits(type: TensorType) -> tuple[int, int]:
    """Smallest and largest integer of a format."""
    if type.kind is Kind.INT:
        return -(1 << (type.bits - 1)), (1 << (type.bits - 1)) - 1
    return 0, (1 << type.bits) - 1


def _quantised_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    need(types, 1)
    zero = types[2] if len(types) > 2 else None
    to = str_attr(attrs, "output_dtype") or (zero.dtype if zero is not None else "uint8")
    kind = parse_dtype(to)
    if kind.bits > 16 or kind.kind in (Kind.BOOL, Kind.EXPONENT):
        raise ShapeError(
            f"quantisation to {to} is not supported", hint="integers and floats of 2 to 16 bits are"
        )
    return (replace(kind, shape=x.shape),)


def _quantise(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, scale = have(arrays, 0), have(arrays, 1)
    zero = maybe(arrays, 2)
    (kind,) = _quantised_type([FLOAT32, FLOAT32], {**attrs, "output_dtype": _zero_type(zero, attrs)})
    if kind.kind not in (Kind.INT, Kind.UINT):
        real = x.astype(np.float32) / spread(scale.astype(np.float32), x.shape, attrs)
        return (in_float_format(real, kind, bool(int_attr(attrs, "saturate", 1))),)
    low, high = limits(kind)
    steps = np.rint(x.astype(np.float32) / spread(scale.astype(np.float32), x.shape, attrs))
    shift = 0 if zero is None else spread(zero.astype(np.float32), x.shape, attrs)
    return (np.clip(steps + shift, low, high).astype(numpy_dtype(kind)),)


def _zero_type(zero: Arr | None, attrs: Attrs) -> str:
    named = str_attr(attrs, "output_dtype")
    return named or ("uint8" if zero is None else str(zero.dtype))


def _dequantised_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    return (reshaped(need(types, 1), need(types, 0).shape),)


def _dequantise(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, scale, zero = have(arrays, 0), have(arrays, 1), maybe(arrays, 2)
    real = x.astype(np.float32)
    if zero is not None:
        real = real - spread(zero.astype(np.float32), x.shape, attrs)
    return (real * spread(scale.astype(np.float32), x.shape, attrs),)


def _grid(attrs: Attrs) -> TensorType:
    scale, zero = float_attr(attrs, "scale", 1.0), int_attr(attrs, "zero_point", 0)
    return replace(parse_dtype(str_attr(attrs, "to")), quant=Quant((scale,), (zero,)))


def _grid_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (replace(_grid(attrs), shape=need(types, 0).shape),)


def _round_to_grid(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """Rounded to the integer grid, carried as real numbers."""
    return (round_to(have(arrays, 0).astype(np.float32), _grid(attrs)),)


def _quantise_work(node: Node) -> Work:
    return vector_work(node, {"mul": 1, "add": 1, "cast": 1})


def _dynamic_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    return reshaped(UINT8, need(types, 0).shape), FLOAT32, UINT8


def _dynamic(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0).astype(np.float32)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    zero = np.uint8(np.clip(np.rint(np.float32(-low) / scale), 0, 255))
    q = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
    return q, np.asarray(scale), np.asarray(zero)


def _dynamic_work(node: Node) -> Work:
    # minimum and maximum, then scale, shift and cast
    return vector_work(node, {"max": 2, "mul": 1, "add": 1, "cast": 1})


def _shifted(x: Arr, zero: Arr | None, axis: int) -> Arr:
    """Integers less their zero point, as float64: products of up to 2**37 terms stay exact."""
    wide = x.astype(np.float64)
    if zero is None:
        return wide
    if zero.size == 1:
        return wide - float(zero.reshape(())[()])
    shape = [1] * x.ndim
    shape[axis] = -1
    return wide - zero.astype(np.float64).reshape(shape)


def _integer_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (out,) = MATMUL_OPS["MatMul"].infer(types[:2], attrs)
    return (reshaped(INT32, out.shape),)


def _matmul_integer(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    a = _shifted(have(arrays, 0), maybe(arrays, 2), -2)
    b = _shifted(have(arrays, 1), maybe(arrays, 3), -1)
    return (np.matmul(a, b).astype(np.int32),)


def _integer_work(node: Node) -> Work:
    index = 3 if node.op == "QLinearMatMul" else 1
    a, b = node.inputs[0], node.inputs[index]
    assert a is not None
    assert b is not None
    gemm = gemm_of(node, a.type.shape, b.type.shape)
    constant = b.role in (Role.WEIGHT, Role.CONSTANT)
    gemm = replace(gemm, weight_is_b=gemm.weight_is_b or constant)
    return Work(node.op, WorkKind.GEMM, reads(node, {"a": 0, "b": index}), writes(node), gemm=gemm)


def _requantised(real: Arr, arrays: Arrays, scale_at: int, attrs: Attrs) -> Arr:
    scale, zero = have(arrays, scale_at), have(arrays, scale_at + 1)
    return _quantise([real.astype(np.float32), scale, zero], {**attrs, "axis": -1}, EXACT)[0]


def _qlinear_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (out,) = MATMUL_OPS["MatMul"].infer([types[0], types[3]], attrs)
    return (reshaped(need(types, 7), out.shape),)


def _qlinear(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    a = _shifted(have(arrays, 0), maybe(arrays, 2), -2)
    b = _shifted(have(arrays, 3), maybe(arrays, 5), -1)
    scale_a, scale_b = have(arrays, 1).astype(np.float64), have(arrays, 4).astype(np.float64)
    scale_a = scale_a.reshape(-1, 1) if scale_a.size > 1 else scale_a.reshape(())
    product = np.matmul(a, b) * (scale_a * (scale_b if scale_b.size > 1 else scale_b.reshape(())))
    return (_requantised(product, arrays, 6, attrs),)


def _conv_integer_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (out,) = CONV_OPS["Conv"].infer(types[:2], attrs)
    return (reshaped(INT32, out.shape),)


def _conv_integer(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = _shifted(have(arrays, 0), maybe(arrays, 2), 1)
    w = _shifted(have(arrays, 1), maybe(arrays, 3), 0)
    return (convolve(x, w, None, attrs, EXACT).astype(np.int32),)


def _qlinear_conv_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (out,) = CONV_OPS["Conv"].infer([types[0], types[3]], attrs)
    return (reshaped(need(types, 7), out.shape),)


def _qlinear_conv(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, w = _shifted(have(arrays, 0), maybe(arrays, 2), 1), _shifted(have(arrays, 3), maybe(arrays, 5), 0)
    bias = maybe(arrays, 8)
    total = convolve(x, w, None if bias is None else bias.astype(np.float64), attrs, EXACT)
    scale = have(arrays, 4).astype(np.float64)
    tail = (1, -1, *(1,) * (x.ndim - 2)) if scale.size > 1 else ()
    real = total * float(have(arrays, 1).reshape(())[()]) * scale.reshape(tail)
    return (_requantised(real, arrays, 6, attrs),)


def _conv_work(node: Node) -> Work:
    index = 3 if node.op == "QLinearConv" else 1
    x, w = node.inputs[0], node.inputs[index]
    assert x is not None
    assert w is not None
    gemm = conv_gemm(x.type.shape, w.type.shape, node.outputs[0].type.shape, node.attrs)
    roles = {"a": 0, "b": index} | ({"bias": 8} if node.op == "QLinearConv" else {})
    return Work(node.op, WorkKind.GEMM, reads(node, roles), writes(node), gemm=gemm)


OPS = {
    "QuantizeLinear": OpDef(_quantised_type, _quantise, _quantise_work),
    "DequantizeLinear": OpDef(_dequantised_type, _dequantise, _quantise_work),
    "QuantizeDequantize": OpDef(_grid_type, _round_to_grid, _quantise_work),
    "DynamicQuantizeLinear": OpDef(_dynamic_type, _dynamic, _dynamic_work),
    "MatMulInteger": OpDef(_integer_type, _matmul_integer, _integer_work),
    "QLinearMatMul": OpDef(_qlinear_type, _qlinear, _integer_work),
    "ConvInteger": OpDef(_conv_integer_type, _conv_integer, _conv_work),
    "QLinearConv": OpDef(_qlinear_conv_type, _qlinear_conv, _conv_work),
}
