"""Random element-wise operators and reductions."""

from __future__ import annotations

import numpy as np
from random_operators import Draw, Drawn, draws

FLOATS = ("float32", "float32", "float64", "float16")
INTS = ("int32", "int64", "int8", "uint8", "int16", "uint32")


@draws("Add", "Sub", "Mul", "Max", "Min")
def arithmetic(d: Draw, op: str) -> Drawn:
    shape, dtype = d.shape(0), d.pick(*FLOATS, "int32", "int64")
    a, b = d.numbers(shape, dtype), d.numbers(d.broadcastable(shape), dtype)
    if d.flag():
        a, b = b, a
    return Drawn(op, {"a": a, "b": b}, opset=d.pick(13, 14, 22))


@draws("Div")
def divide(d: Draw) -> Drawn:
    shape, dtype = d.shape(), d.pick("float32", "int32", "int64")
    b = d.numbers(d.broadcastable(shape), dtype)
    b[b == 0] = 3
    return Drawn("Div", {"a": d.numbers(shape, dtype), "b": b}, opset=14)


@draws("Mod")
def modulo(d: Draw) -> Drawn:
    shape, dtype = d.shape(), d.pick("float32", "int32", "int64", "int8", "uint8")
    b = d.numbers(d.broadcastable(shape), dtype)
    b[b == 0] = 3
    fmod = 1 if dtype == "float32" else d.flag()
    return Drawn("Mod", {"a": d.numbers(shape, dtype), "b": b}, {"fmod": fmod}, opset=13)


@draws("Pow")
def power(d: Draw) -> Drawn:
    shape = d.shape()
    if d.flag():
        return Drawn("Pow", {"a": d.positive(shape), "b": d.integers(d.broadcastable(shape), 0, 3)}, opset=15)
    dtype = d.pick("int32", "int64", "float32")
    base = d.numbers(shape, dtype)
    return Drawn("Pow", {"a": base, "b": d.integers(d.broadcastable(shape), 0, 3, dtype)}, opset=15)


@draws("Sum", "Mean", "Max", "Min")
def variadic(d: Draw, op: str) -> Drawn:
    shape, count = d.shape(), d.integer(1, 4)
    return Drawn(op, {f"x{i}": d.floats(d.broadcastable(shape)) for i in range(count)}, opset=13)


@draws("And", "Or", "Xor")
def logic(d: Draw, op: str) -> Drawn:
    shape = d.shape()
    return Drawn(op, {"a": d.numbers(shape, "bool"), "b": d.numbers(d.broadcastable(shape), "bool")}, opset=7)


@draws("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
def compare(d: Draw, op: str) -> Drawn:
    shape, dtype = d.shape(), d.pick("float32", "int32", "int64")
    a, b = d.numbers(shape, dtype), d.numbers(d.broadcastable(shape), dtype)
    return Drawn(op, {"a": a, "b": b}, opset=16)


@draws("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift")
def bitwise(d: Draw, op: str) -> Drawn:
    shape = d.shape()
    if op == "BitShift":
        dtype = d.pick("uint8", "uint32", "uint64")
        a, b = d.integers(shape, 0, 200, dtype), d.integers(d.broadcastable(shape), 0, 7, dtype)
        return Drawn(op, {"a": a, "b": b}, {"direction": d.pick("LEFT", "RIGHT")}, opset=11)
    dtype = d.pick("int8", "uint8", "int32", "uint64")
    return Drawn(op, {"a": d.numbers(shape, dtype), "b": d.numbers(d.broadcastable(shape), dtype)}, opset=18)


@draws("Neg", "Abs", "Sign")
def signed(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": d.numbers(d.shape(0), d.pick("float32", "int8", "int32", "int64"))}, opset=13)


@draws("Floor", "Ceil", "Round")
def to_integer(d: Draw, op: str) -> Drawn:
    x = d.floats(d.shape()) * 3
    return Drawn(
        op, {"x": np.round(x * 2) / 2 if d.flag() else x}, opset=d.pick(13, 22) if op == "Round" else 13
    )


@draws("Not")
def negation(d: Draw) -> Drawn:
    return Drawn("Not", {"x": d.numbers(d.shape(0), "bool")}, opset=1)


@draws("BitwiseNot")
def complement(d: Draw) -> Drawn:
    return Drawn("BitwiseNot", {"x": d.numbers(d.shape(), d.pick("int8", "uint8", "int64"))}, opset=18)


@draws("IsNaN", "IsInf")
def special(d: Draw, op: str) -> Drawn:
    x = d.floats((4, 5))
    x[0, :3] = (np.nan, np.inf, -np.inf)
    attrs = d.some(detect_positive=d.flag(), detect_negative=d.flag()) if op == "IsInf" else {}
    return Drawn(op, {"x": x}, attrs, opset=13 if op == "IsNaN" else 10)


@draws("Exp", "Erf", "Tanh", "Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Sigmoid", "Softplus")
def functions(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": d.floats(d.shape(0), d.pick("float32", "float32", "float64"))}, opset=13)


@draws("Softsign", "Relu", "Mish", "HardSwish")
def plain_activations(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": d.floats(d.shape(0))}, opset=18)


@draws("Log", "Sqrt", "Reciprocal")
def positive_functions(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": d.positive(d.shape(0), d.pick("float32", "float64"))}, opset=13)


@draws("Asin", "Acos", "Atanh")
def unit_functions(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": (d.random.uniform(-0.95, 0.95, d.shape())).astype(np.float32)}, opset=13)


@draws("Acosh")
def above_one(d: Draw) -> Drawn:
    return Drawn("Acosh", {"x": d.positive(d.shape()) + 1}, opset=13)


@draws("LeakyRelu", "ThresholdedRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Swish", "Shrink")
def shaped_activations(d: Draw, op: str) -> Drawn:
    attrs = d.some(alpha=float(d.random.uniform(0.1, 1.5)))
    if op == "Selu":
        attrs |= d.some(gamma=1.3)
    if op == "HardSigmoid":
        attrs |= d.some(beta=0.3)
    if op == "Shrink":
        attrs = d.some(lambd=0.7, bias=0.2)
    return Drawn(op, {"x": d.floats(d.shape())}, attrs, opset=24 if op == "Swish" else 16)


@draws("Gelu")
def gelu(d: Draw) -> Drawn:
    return Drawn("Gelu", {"x": d.floats(d.shape())}, d.some(approximate=d.pick("none", "tanh")), opset=20)


@draws("PRelu")
def prelu(d: Draw) -> Drawn:
    shape = d.shape()
    return Drawn("PRelu", {"x": d.floats(shape), "slope": d.floats(d.broadcastable(shape))}, opset=16)


@draws("Where")
def where(d: Draw) -> Drawn:
    shape, dtype = d.shape(), d.pick("float32", "int64", "int32", "uint8")
    feeds = {"c": d.numbers(d.broadcastable(shape), "bool"), "a": d.numbers(shape, dtype)}
    return Drawn("Where", feeds | {"b": d.numbers(d.broadcastable(shape), dtype)}, opset=16)


@draws("Clip")
def clip(d: Draw) -> Drawn:
    x = d.floats(d.shape(0))
    if d.flag():
        return Drawn("Clip", {"x": x}, d.some(min=-0.5, max=0.7), opset=d.pick(6, 10))
    low, high = np.float32(-0.5), np.float32(0.7)
    names = d.pick(("x", "", "high"), ("x", "low"), ("x", "low", "high"), ("x",))
    known = {"low": np.asarray(low), "high": np.asarray(high)}
    used = {n: v for n, v in known.items() if n in names}
    if d.flag():
        return Drawn("Clip", {"x": x}, constants=used, inputs=names, opset=13)
    return Drawn("Clip", {"x": x, **used}, inputs=names, opset=13)


@draws("Clip")
def clip_integers(d: Draw) -> Drawn:
    x = d.numbers(d.shape(), d.pick("int64", "int32", "int8"))
    bounds = {"low": np.asarray(-2, x.dtype), "high": np.asarray(3, x.dtype)}
    return Drawn("Clip", {"x": x}, constants=bounds, inputs=("x", "low", "high"), opset=13)


CASTS = {"float32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10}


@draws("Cast")
def cast(d: Draw) -> Drawn:
    source, to = d.pick(*CASTS), d.pick(*CASTS, "double")
    x = np.abs(d.numbers(d.shape(0), source)) if to.startswith("uint") else d.numbers(d.shape(0), source)
    return Drawn("Cast", {"x": x}, {"to": CASTS.get(to, 11)}, opset=13)


@draws("CastLike")
def cast_like(d: Draw) -> Drawn:
    return Drawn(
        "CastLike", {"x": d.floats(d.shape()), "as": d.numbers((2,), d.pick("int32", "float64"))}, opset=15
    )


@draws("CumSum")
def cumulative_sum(d: Draw) -> Drawn:
    shape = d.shape()
    axis = np.asarray(d.axis(len(shape)), d.pick("int32", "int64"))
    attrs = d.some(exclusive=d.flag(), reverse=d.flag())
    dtype = d.pick("float32", "float64", "int32", "int64")
    return Drawn("CumSum", {"x": d.numbers(shape, dtype)}, attrs, {"axis": axis}, opset=14)


@draws("CumProd")
def cumulative_product(d: Draw) -> Drawn:
    shape = d.shape()
    attrs = d.some(exclusive=d.flag(), reverse=d.flag())
    axis = np.asarray(d.axis(len(shape)), "int64")
    x = d.numbers(shape, d.pick("float32", "int64"))  # with zeros: an exclusive product is no quotient
    return Drawn("CumProd", {"x": x}, attrs, {"axis": axis}, opset=26)


@draws("Trilu")
def triangle(d: Draw) -> Drawn:
    x = d.numbers(d.shape(2), d.pick("float32", "int64", "bool"))
    constants = {"k": np.asarray(d.integer(-6, 6), "int64")} if d.flag() else {}
    return Drawn("Trilu", {"x": x}, d.some(upper=d.flag()), constants, opset=14)


REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare")
ROOTS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")


@draws(*REDUCTIONS, *ROOTS)
def reduce(d: Draw, op: str) -> Drawn:
    shape = d.shape(0 if d.integer(0, 4) == 0 else 1)
    x = d.positive(shape) if op == "ReduceLogSum" else d.floats(shape)
    if op in REDUCTIONS and d.integer(0, 3) == 0:
        x = d.integers(shape, -2, 2, d.pick("int32", "int64"))  # products stay in range
    if op == "ReduceLogSumExp" and d.flag():
        x = x * 40 + d.pick(-300, 0, 300)
    attrs = d.some(keepdims=d.flag())
    late = op == "ReduceSum" or d.flag()
    axes = d.axes(len(shape)) if shape and d.integer(0, 3) else []
    if not late:
        return Drawn(op, {"x": x}, attrs | ({"axes": axes} if axes else {}), opset=d.pick(11, 13))
    attrs |= d.some(noop_with_empty_axes=d.flag())
    constants = {"axes": np.array(axes, "int64")} if axes or d.flag() else {}
    return Drawn(op, {"x": x}, attrs, constants, opset=d.pick(13, 18) if op == "ReduceSum" else 18)


@draws("ReduceL2", "ReduceL1", "ReduceMax")
def reduce_scalar(d: Draw, op: str) -> Drawn:
    return Drawn(op, {"x": d.floats(d.shape())}, {"keepdims": 0}, opset=18)


@draws("ArgMax", "ArgMin")
def arg(d: Draw, op: str) -> Drawn:
    shape = d.shape()
    x = d.numbers(shape, d.pick("float32", "int32"))
    if d.flag():
        x = np.round(x / 3) * 3  # ties
    attrs = d.some(axis=d.axis(len(shape)), keepdims=d.flag(), select_last_index=d.flag())
    return Drawn(op, {"x": x.astype(x.dtype)}, attrs, opset=13)


@draws("TopK")
def top_k(d: Draw) -> Drawn:
    shape = d.shape()
    axis = d.axis(len(shape))
    x = d.numbers(shape, d.pick("float32", "int64", "int32"))
    k = np.array([d.integer(1, shape[axis])], "int64")
    attrs = {"axis": axis} | d.some(largest=d.flag(), sorted=1)
    return Drawn("TopK", {"x": x}, attrs, {"k": k}, outputs=2, opset=11)


@draws("Hardmax", "Softmax", "LogSoftmax")
def softmax(d: Draw, op: str) -> Drawn:
    shape = d.shape(2)
    scale, opset = d.pick(1.0, 1.0, 50.0), d.pick(11, 13)
    return Drawn(op, {"x": d.floats(shape, scale=scale)}, d.some(axis=d.axis(len(shape))), opset=opset)
