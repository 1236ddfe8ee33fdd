"""Softmax and the normalisations.

Counts per element, after the two-pass kernels in use (sources: the formulas of the ONNX operator
specification): softmax: max, subtract, exp, sum, scale; layer norm: mean, subtract, square, sum, scale,
gamma, beta; RMS norm: square, sum, scale, gamma. Per row: one division (and one square root for norms).
"""

from __future__ import annotations

import math

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    axis_of,
    broadcast,
    count_ops,
    float_attr,
    have,
    int_attr,
    like,
    maybe,
    need,
    reads,
    reshaped,
    same,
    vector_work,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind

SOFTMAX_OPS = {"max": 1, "add": 2, "exp": 1, "mul": 1}
SOFTMAX_ROW_OPS = {"div": 1}
LAYERNORM_OPS = {"add": 3, "mul": 2}  # without gamma and beta
LAYERNORM_ROW_OPS = {"mul": 2, "add": 1, "sqrt": 1, "div": 1}
RMSNORM_OPS = {"add": 1, "mul": 2}  # without gamma
RMSNORM_ROW_OPS = {"mul": 1, "add": 1, "sqrt": 1, "div": 1}


def softmax(x: Arr, axis: int, arith: Arithmetic) -> Arr:
    """Softmax along `axis`; a row of -inf gives NaN as in numpy and torch."""
    with np.errstate(invalid="ignore"):
        e = np.asarray(arith.function("exp", x - x.max(axis=axis, keepdims=True)))
        return np.asarray(e * np.asarray(arith.function("reciprocal", e.sum(axis=axis, keepdims=True))))


def layer_norm(
    x: Arr, gamma: Arr | None, beta: Arr | None, axes: tuple[int, ...], eps: float, arith: Arithmetic
) -> tuple[Arr, Arr, Arr]:
    """Normalised x, mean, inverse standard deviation."""
    mean = x.mean(axis=axes, keepdims=True, dtype=x.dtype)
    centred = x - mean
    var = (centred * centred).mean(axis=axes, keepdims=True, dtype=x.dtype)
    inv = np.asarray(arith.function("rsqrt", var + x.dtype.type(eps)))
    out = centred * inv
    if gamma is not None:
        out = out * gamma
    if beta is not None:
        out = out + beta
    return out, mean, inv


def rms_norm(x: Arr, gamma: Arr | None, axes: tuple[int, ...], eps: float, arith: Arithmetic) -> Arr:
    """x / sqrt(mean(x^2) + eps) * gamma."""
    square = (x * x).mean(axis=axes, keepdims=True, dtype=x.dtype)
    out = x * np.asarray(arith.function("rsqrt", square + x.dtype.type(eps)))
    return out if gamma is None else out * gamma


def _softmax_ref(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    axis = axis_of(int_attr(attrs, "axis", -1), x.ndim)
    return (like(softmax(as_float(x), axis, arith), x),)


def _log_softmax(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = as_float(have(arrays, 0))
    axis = axis_of(int_attr(attrs, "axis", -1), x.ndim)
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.asarray(arith.function("exp", shifted)).sum(axis=axis, keepdims=True)
    return (shifted - np.asarray(arith.function("log", total)),)


def _axis_rows(node: Node, axis: int) -> tuple[int, int]:
    shape = node.outputs[0].type.shape
    cols = shape[axis_of(axis, len(shape))] if shape else 1
    return node.outputs[0].type.elements // cols if cols else 0, cols


def _softmax_work(node: Node) -> Work:
    rows, cols = _axis_rows(node, int_attr(node.attrs, "axis", -1))
    per, row = SOFTMAX_OPS, SOFTMAX_ROW_OPS
    if node.op == "LogSoftmax":
        per, row = {"max": 1, "add": 3, "exp": 1}, {"log": 1}
    ops = count_ops(rows, cols, per, row)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, cols, ops, True))


def _norm_axes(attrs: Attrs, rank: int) -> tuple[int, ...]:
    return tuple(range(axis_of(int_attr(attrs, "axis", -1), rank), rank))


def _layernorm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axes = _norm_axes(attrs, len(x.shape))
    for i in range(1, min(len(types), 3)):
        extra = types[i]
        if extra is not None and broadcast(x.shape, extra.shape) != x.shape:
            raise ShapeError(f"scale or bias {extra.shape} does not broadcast to {x.shape}")
    stat = reshaped(x, tuple(1 if i in axes else d for i, d in enumerate(x.shape)))
    return x, stat, stat


def _layernorm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    axes = _norm_axes(attrs, x.ndim)
    eps = float_attr(attrs, "epsilon", 1e-5)
    return layer_norm(as_float(x), maybe(arrays, 1), maybe(arrays, 2), axes, eps, arith)


def _rmsnorm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = as_float(have(arrays, 0))
    axes = _norm_axes(attrs, x.ndim)
    return (rms_norm(x, maybe(arrays, 1), axes, float_attr(attrs, "epsilon", 1e-5), arith),)


def _norm_work(node: Node) -> Work:
    shape = node.outputs[0].type.shape
    cols = math.prod(shape[a] for a in _norm_axes(node.attrs, len(shape)))
    return norm_work(node, node.op, node.outputs[0].type.elements // max(cols, 1), cols)


def norm_work(node: Node, op: str, rows: int, cols: int, extra_adds: int = 0) -> Work:
    """VECTOR work of a normalisation with the scale and bias that the node has."""
    rms = op.endswith("RMSNormalization") or "SimplifiedLayer" in op
    first = 2 if op.startswith("Skip") else 1
    params = [v for v in node.inputs[first:] if v is not None]
    scale, bias = min(len(params), 1), max(len(params) - 1, 0)
    base, row = (RMSNORM_OPS, RMSNORM_ROW_OPS) if rms else (LAYERNORM_OPS, LAYERNORM_ROW_OPS)
    per = {"add": base["add"] + bias + extra_adds, "mul": base["mul"] + scale}
    ops = count_ops(rows, cols, per, row)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, cols, ops, True))


def _group_shape(x: Arr, groups: int) -> tuple[int, ...]:
    return (x.shape[0], groups, -1)


def _group_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, gamma, beta = (need(types, i) for i in range(3))
    if len(x.shape) < 2:
        raise ShapeError(f"a tensor of shape {x.shape} has no channels")
    groups = int_attr(attrs, "num_groups", x.shape[1])
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"{x.shape[1]} channels do not divide into {groups} groups")
    if gamma.elements not in (groups, x.shape[1]) or gamma.elements != beta.elements:
        raise ShapeError(f"scale {gamma.shape} and bias {beta.shape} do not fit {x.shape[1]} channels")
    return (x,)


def _batch_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    if len(x.shape) < 2 or any(need(types, i).elements != x.shape[1] for i in range(1, 5)):
        raise ShapeError(f"the parameters do not fit the channels of {x.shape}")
    return (x,)


def _group_norm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x, gamma, beta = as_float(have(arrays, 0)), have(arrays, 1), have(arrays, 2)
    groups = int_attr(attrs, "num_groups", x.shape[1])
    flat = x.reshape(_group_shape(x, groups))
    out, _, _ = layer_norm(flat, None, None, (2,), float_attr(attrs, "epsilon", 1e-5), arith)
    if gamma.size == groups:
        gamma, beta = (np.repeat(p, x.shape[1] // groups) for p in (gamma, beta))
    tail = (1,) * (x.ndim - 2)
    return (out.reshape(x.shape) * gamma.reshape(-1, *tail) + beta.reshape(-1, *tail),)


def _group_work(node: Node) -> Work:
    shape = node.outputs[0].type.shape
    rows = shape[0] * int_attr(node.attrs, "num_groups", shape[1])
    return norm_work(node, node.op, rows, node.outputs[0].type.elements // max(rows, 1))


def _batch_norm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = as_float(have(arrays, 0))
    tail = (-1, *(1,) * (x.ndim - 2))
    gamma, beta, mean, var = (have(arrays, i).reshape(tail) for i in range(1, 5))
    eps = x.dtype.type(float_attr(attrs, "epsilon", 1e-5))
    return ((x - mean) * (gamma * np.asarray(arith.function("rsqrt", var + eps))) + beta,)


def _batch_work(node: Node) -> Work:
    # the four constants fold to one scale and one offset per channel
    return vector_work(node, {"mul": 1, "add": 1})


def _lp_norm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x = as_float(have(arrays, 0))
    axis = axis_of(int_attr(attrs, "axis", -1), x.ndim)
    if int_attr(attrs, "p", 2) == 1:
        norm = np.abs(x).sum(axis=axis, keepdims=True)
    else:
        norm = np.asarray(arith.function("sqrt", (x * x).sum(axis=axis, keepdims=True)))
    return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)


def _lp_work(node: Node) -> Work:
    rows, cols = _axis_rows(node, int_attr(node.attrs, "axis", -1))
    ops = count_ops(rows, cols, {"mul": 2, "add": 1}, {"sqrt": 1, "div": 1})
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, cols, ops, True))


def _hardmax(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """1 at the first largest element of every row, 0 elsewhere."""
    x = have(arrays, 0)
    axis = axis_of(int_attr(attrs, "axis", -1), x.ndim)
    out = np.zeros_like(x)
    np.put_along_axis(out, np.expand_dims(np.argmax(x, axis=axis), axis), 1, axis=axis)
    return (out,)


def _hardmax_work(node: Node) -> Work:
    rows, cols = _axis_rows(node, int_attr(node.attrs, "axis", -1))
    ops = count_ops(rows, cols, {"cmp": 1, "select": 1})
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, cols, ops, True))


def _local_response(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """x / (bias + alpha / size * sum of squares of `size` near channels) ** beta (Krizhevsky 2012)."""
    x, size = as_float(have(arrays, 0)), int_attr(attrs, "size")
    alpha, beta = float_attr(attrs, "alpha", 1e-4), float_attr(attrs, "beta", 0.75)
    before = (size - 1) // 2
    tail = ((0, 0),) * (x.ndim - 2)
    squares = np.pad(x * x, ((0, 0), (before, size - 1 - before), *tail))
    total = sum((squares[:, i : i + x.shape[1]] for i in range(size)), start=np.zeros_like(x))
    base = float_attr(attrs, "bias", 1.0) + alpha / size * total
    return ((x / base**beta).astype(x.dtype),)


def _local_work(node: Node) -> Work:
    # the sum runs along: one element enters and one leaves
    return vector_work(node, {"mul": 3, "add": 3, "pow": 1})


OPS = {
    "Hardmax": OpDef(same, _hardmax, _hardmax_work),
    "LRN": OpDef(same, _local_response, _local_work),
    "Softmax": OpDef(same, _softmax_ref, _softmax_work),
    "LogSoftmax": OpDef(same, _log_softmax, _softmax_work),
    "LayerNormalization": OpDef(_layernorm_type, _layernorm, _norm_work),
    "RMSNormalization": OpDef(same, _rmsnorm, _norm_work),
    "GroupNormalization": OpDef(_group_type, _group_norm, _group_work),
    "InstanceNormalization": OpDef(_group_type, _group_norm, _group_work),
    "BatchNormalization": OpDef(_batch_type, _batch_norm, _batch_work),
    "LpNormalization": OpDef(same, _lp_norm, _lp_work),
}
