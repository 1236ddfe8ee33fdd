"""Element-wise ops. Op counts per element are stated in the table beside each op; a comparison or a
logical op counts as `cmp`, a choice as `select`, a change of format as `cast`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Kind, Node, TensorType
from tetrasim.sim.ops.activation import activate
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.dtypes import in_float_format, numpy_dtype, parse_dtype, stored_dtype
from tetrasim.sim.ops.opdef import (
    BOOL,
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    broadcast,
    have,
    int_attr,
    like,
    maybe,
    move_work,
    need,
    reshaped,
    same,
    str_attr,
    vector_work,
    view_work,
)
from tetrasim.sim.ops.work import Work

OPS: dict[str, OpDef] = {}

Binary = Callable[[Arr, Arr], Arr]
Unary = Callable[[Arr], Arr]


def _broadcast_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    present = [t for t in types if t is not None]
    return (reshaped(present[0], broadcast(*(t.shape for t in present))),)


def _pair_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    a, b = need(types, 0), need(types, 1)
    return (reshaped(a, broadcast(a.shape, b.shape)),)


def _compare_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (reshaped(BOOL, _pair_type(types, attrs)[0].shape),)


def _work(counts: Mapping[str, int]) -> Callable[[Node], Work]:
    def work(node: Node) -> Work:
        return vector_work(node, counts)

    return work


def _binary(name: str, fn: Binary, counts: Mapping[str, int], *, compare: bool = False) -> None:
    def reference(arrays: Arrays, _attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
        a, b = have(arrays, 0), have(arrays, 1)
        out = np.asarray(fn(a, b))
        return (out,) if compare or out.dtype == a.dtype else (out.astype(a.dtype),)

    infer = _compare_type if compare else _pair_type
    OPS[name] = OpDef(infer, reference, _work(counts))


def _div(a: Arr, b: Arr) -> Arr:
    if np.issubdtype(a.dtype, np.integer):
        # ONNX divides integers towards zero
        signs: Arr = np.sign(a) * np.sign(b)
        return np.asarray(signs * (np.abs(a) // np.abs(b)), dtype=a.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Arr = np.divide(a, b)
    return out


def _pow(a: Arr, b: Arr) -> Arr:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        out: Arr = np.asarray(np.power(a, b)).astype(a.dtype)
    return out


_binary("Add", np.add, {"add": 1})
_binary("Sub", np.subtract, {"add": 1})
_binary("Mul", np.multiply, {"mul": 1})
_binary("Div", _div, {"div": 1})
_binary("Pow", _pow, {"pow": 1})
_binary("PRelu", lambda a, b: np.where(a < 0, a * b, a), {"mul": 1, "select": 1})
_LOGIC: dict[str, Binary] = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
_COMPARE: dict[str, Binary] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
_BITWISE: dict[str, Binary] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
for _name, _fn in (_LOGIC | _COMPARE).items():
    _binary(_name, _fn, {"cmp": 1}, compare=True)
for _name, _fn in _BITWISE.items():
    _binary(_name, _fn, {"cmp": 1})


def _mod(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    a, b = have(arrays, 0), have(arrays, 1)
    return (np.asarray(np.fmod(a, b) if int_attr(attrs, "fmod", 0) else np.mod(a, b)),)


def _shift(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    a, b = have(arrays, 0), have(arrays, 1)
    left = str_attr(attrs, "direction") == "LEFT"
    return (np.asarray(np.left_shift(a, b) if left else np.right_shift(a, b)),)


OPS["Mod"] = OpDef(_pair_type, _mod, _work({"div": 1, "mul": 1, "add": 1}))
OPS["BitShift"] = OpDef(_pair_type, _shift, _work({"cmp": 1}))


def _variadic(name: str, fn: Binary, counts: Mapping[str, int]) -> None:
    """Min, Max, Sum and Mean take any number of inputs: count per element of the output."""

    def reference(arrays: Arrays, _attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
        out = have(arrays, 0)
        for other in arrays[1:]:
            out = np.asarray(fn(out, np.asarray(other)))
        return (np.asarray(out / len(arrays)).astype(out.dtype) if name == "Mean" else out,)

    def work(node: Node) -> Work:
        steps = max(len(node.inputs) - 1, 1)
        per = {k: n * steps for k, n in counts.items()}
        return vector_work(node, {**per, "mul": 1} if name == "Mean" else per)

    OPS[name] = OpDef(_broadcast_type, reference, work)


_variadic("Min", np.minimum, {"max": 1})
_variadic("Max", np.maximum, {"max": 1})
_variadic("Sum", np.add, {"add": 1})
_variadic("Mean", np.add, {"add": 1})


def _unary(name: str, fn: Unary, counts: Mapping[str, int], *, boolean: bool = False) -> None:
    def infer(types: Types, _: Attrs) -> tuple[TensorType, ...]:
        first = need(types, 0)
        return (reshaped(BOOL, first.shape) if boolean else first,)

    def reference(arrays: Arrays, _attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        out = np.asarray(fn(x))
        return (out if boolean else like(out, x),)

    OPS[name] = OpDef(infer, reference, _work(counts))


_unary("Neg", np.negative, {"add": 1})
_unary("Abs", np.abs, {"max": 1})
_unary("Sign", np.sign, {"cmp": 1, "select": 1})
_unary("Floor", np.floor, {"cast": 1})
_unary("Ceil", np.ceil, {"cast": 1})
_unary("Round", np.rint, {"cast": 1})
_unary("Not", np.logical_not, {"cmp": 1}, boolean=True)
_unary("BitwiseNot", np.invert, {"cmp": 1})
_unary("IsNaN", np.isnan, {"cmp": 1}, boolean=True)


def _is_inf(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    up = np.isposinf(x) if int_attr(attrs, "detect_positive", 1) else np.zeros(x.shape, bool)
    down = np.isneginf(x) if int_attr(attrs, "detect_negative", 1) else np.zeros(x.shape, bool)
    return (up | down,)


OPS["IsInf"] = OpDef(OPS["IsNaN"].infer, _is_inf, _work({"cmp": 1}))


def _function(name: str, machine: str, counts: Mapping[str, int]) -> None:
    """A transcendental op: goes through `Arithmetic.function`, so that a target's tables are emulated."""

    def reference(arrays: Arrays, _attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        return (like(activate(name, through, as_float(x), {}, arith), x),)

    def through(x: Arr, _attrs: Attrs, arith: Arithmetic) -> Arr:
        return np.asarray(arith.function(machine, x))

    OPS[name] = OpDef(same, reference, _work(counts))


for _name in ("Exp", "Erf", "Tanh", "Log", "Sqrt"):
    _function(_name, _name.lower(), {_name.lower(): 1})
_function("Reciprocal", "reciprocal", {"div": 1})
for _name in ("Sin", "Cos"):
    _function(_name, _name.lower(), {"trig": 1})
_TRIG: dict[str, Unary] = {
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
}
for _name, _one in _TRIG.items():
    _unary(_name, _one, {"trig": 1})


def _where_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    shape = broadcast(*(need(types, i).shape for i in range(3)))
    return (reshaped(need(types, 1), shape),)


def _where(arrays: Arrays, _attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    return (np.where(have(arrays, 0), have(arrays, 1), have(arrays, 2)),)


OPS["Where"] = OpDef(_where_type, _where, _work({"select": 1}))


def _clip(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    low, high = maybe(arrays, 1), maybe(arrays, 2)
    if low is None and "min" in attrs:
        low = np.asarray(attrs["min"])
    if high is None and "max" in attrs:
        high = np.asarray(attrs["max"])
    if low is not None:
        x = np.maximum(x, low.astype(x.dtype))
    if high is not None:
        x = np.minimum(x, high.astype(x.dtype))
    return (x,)


OPS["Clip"] = OpDef(same, _clip, _work({"max": 2}))


def _cast_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (replace(parse_dtype(str_attr(attrs, "to")), shape=need(types, 0).shape),)


def _cast(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    to = parse_dtype(str_attr(attrs, "to"))
    x = have(arrays, 0)
    if to.kind in (Kind.FLOAT, Kind.BFLOAT, Kind.EXPONENT):
        return (in_float_format(x, to, bool(int_attr(attrs, "saturate", 1))),)
    with np.errstate(invalid="ignore"):
        if to.bits < 8 and to.kind in (Kind.INT, Kind.UINT):  # carried in 8 bits: wrap as fewer would
            low = -(1 << (to.bits - 1)) if to.kind is Kind.INT else 0
            return (((x.astype(np.int64) - low) % (1 << to.bits) + low).astype(numpy_dtype(to)),)
        return (x.astype(numpy_dtype(to)),)


OPS["Cast"] = OpDef(_cast_type, _cast, _work({"cast": 1}))


def _bit_cast_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, to = need(types, 0), parse_dtype(str_attr(attrs, "to"))
    if x.bits != to.bits:
        raise ShapeError(f"the bits of {x.dtype} cannot be read as {to.dtype}: the widths differ")
    return (replace(to, shape=x.shape),)


def _bit_cast(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    """The same bits read as another type; floats narrower than 32 bits are packed for it."""
    x, to = have(arrays, 0), parse_dtype(str_attr(attrs, "to"))
    stored, wanted = stored_dtype(parse_dtype(str_attr(attrs, "from", "") or x.dtype.name)), stored_dtype(to)
    return (x.astype(stored).view(wanted).astype(numpy_dtype(to)),)


OPS["BitCast"] = OpDef(_bit_cast_type, _bit_cast, view_work)


def _identity(arrays: Arrays, _attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    return (have(arrays, 0),)


OPS["Identity"] = OpDef(same, _identity, move_work)


def _trilu_check(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    first = need(types, 0)
    if len(first.shape) < 2:
        raise ShapeError(f"Trilu needs a matrix, not shape {first.shape}")
    int_attr(attrs, "k", 0)
    return (first,)


def _trilu(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    x, k = have(arrays, 0), int_attr(attrs, "k", 0)
    return (np.triu(x, k) if int_attr(attrs, "upper", 1) else np.tril(x, k),)


OPS["Trilu"] = OpDef(_trilu_check, _trilu, _work({"select": 1}), params={1: "k"})
