"""Reductions, arg-reductions and top-k. A sum of n elements counts n adds; arg-max n compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.dtypes import type_of
from tetrasim.sim.ops.opdef import (
    INT64,
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    axis_of,
    have,
    int_attr,
    ints_attr,
    need,
    reads,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind

OPS: dict[str, OpDef] = {}


def reduced_axes(attrs: Attrs, rank: int) -> tuple[int, ...]:
    """Axes to reduce: all of them when none is named, unless `noop_with_empty_axes`."""
    axes = ints_attr(attrs, "axes", ())
    if not axes:
        return () if int_attr(attrs, "noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted({axis_of(a, rank) for a in axes}))


def _infer(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axes = reduced_axes(attrs, len(x.shape))
    if int_attr(attrs, "keepdims", 1):
        shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    else:
        shape = tuple(d for i, d in enumerate(x.shape) if i not in axes)
    return (reshaped(x, shape),)


_IDENTITY = ("ReduceMax", "ReduceMin")


def _identity(name: str, x: Arr) -> float:
    """What the maximum or minimum of nothing is."""
    if np.issubdtype(x.dtype, np.floating):
        return -np.inf if name == "ReduceMax" else np.inf
    if x.dtype == bool:
        return float(name == "ReduceMin")
    info = np.iinfo(x.dtype)
    return float(info.min if name == "ReduceMax" else info.max)


def _row_work(
    node: Node, cols: int, counts: Mapping[str, int], per_row: Mapping[str, int], kept: int = 0
) -> Work:
    first = node.inputs[0]
    assert first is not None
    rows = first.type.elements // cols if cols else 0
    kinds = sorted({*counts, *per_row})
    ops = tuple((k, rows * cols * counts.get(k, 0) + rows * per_row.get(k, 0)) for k in kinds)
    vector = Vector(rows, cols, ops, reduces=True, kept=kept)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=vector)


def _define(
    name: str, fn: Callable[..., Arr], counts: Mapping[str, int], per_row: Mapping[str, int] | None = None
) -> None:
    def reference(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        axes = reduced_axes(attrs, x.ndim)
        keep = bool(int_attr(attrs, "keepdims", 1))
        if name in _IDENTITY and x.size == 0:
            shape = _infer([type_of(x)], attrs)[0].shape
            return (np.full(shape, _identity(name, x), dtype=x.dtype),)
        if name == "ReduceLogSumExp":
            out = _log_sum_exp(x, axes, keep, arith)
        else:
            out = np.asarray(fn(x, axis=axes, keepdims=keep))
        if name == "ReduceL2":
            out = np.asarray(arith.function("sqrt", out))
        if name == "ReduceLogSum":
            out = np.asarray(arith.function("log", out))
        return (out.astype(x.dtype),)

    def work(node: Node) -> Work:
        first = node.inputs[0]
        assert first is not None
        axes = reduced_axes(node.attrs, len(first.type.shape))
        return _row_work(node, math.prod(first.type.shape[a] for a in axes), counts, per_row or {})

    OPS[name] = OpDef(_infer, reference, work, params={1: "axes"})


def _sum_square(x: Arr, **kw: object) -> Arr:
    return np.asarray(np.sum(x * x, **kw))  # type: ignore[call-overload]


def _sum_abs(x: Arr, **kw: object) -> Arr:
    return np.asarray(np.sum(np.abs(x), **kw))  # type: ignore[call-overload]


def _log_sum_exp(x: Arr, axes: tuple[int, ...], keep: bool, arith: Arithmetic) -> Arr:
    """log(sum(exp(x))), shifted by the largest element: exp never overflows."""
    wide = as_float(x)
    top = np.max(wide, axis=axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0).astype(wide.dtype)
    total = np.sum(np.asarray(arith.function("exp", wide - shift)), axis=axes, keepdims=True)
    out = np.asarray(arith.function("log", total)) + shift
    return np.asarray(out if keep else out.reshape([d for i, d in enumerate(x.shape) if i not in axes]))


_define("ReduceSum", np.sum, {"add": 1})
_define("ReduceMean", np.mean, {"add": 1}, {"mul": 1})
_define("ReduceMax", np.max, {"max": 1})
_define("ReduceMin", np.min, {"max": 1})
_define("ReduceProd", np.prod, {"mul": 1})
_define("ReduceSumSquare", _sum_square, {"mul": 1, "add": 1})
_define("ReduceL1", _sum_abs, {"max": 1, "add": 1})
_define("ReduceL2", _sum_square, {"mul": 1, "add": 1}, {"sqrt": 1})
_define("ReduceLogSum", np.sum, {"add": 1}, {"log": 1})
_define("ReduceLogSumExp", np.sum, {"max": 1, "exp": 1, "add": 2}, {"log": 1, "add": 1})


def _arg_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axis = axis_of(int_attr(attrs, "axis", 0), len(x.shape))
    keep = int_attr(attrs, "keepdims", 1)
    shape = tuple(1 if i == axis else d for i, d in enumerate(x.shape) if keep or i != axis)
    return (reshaped(INT64, shape),)


def _arg(name: str, pick: Callable[..., Arr]) -> None:
    def reference(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
        x = have(arrays, 0)
        axis = axis_of(int_attr(attrs, "axis", 0), x.ndim)
        if int_attr(attrs, "select_last_index", 0):
            out = x.shape[axis] - 1 - np.asarray(pick(np.flip(x, axis), axis=axis))
        else:
            out = np.asarray(pick(x, axis=axis))
        out = out.astype(np.int64)
        return (np.expand_dims(out, axis) if int_attr(attrs, "keepdims", 1) else out,)

    def work(node: Node) -> Work:
        first = node.inputs[0]
        assert first is not None
        axis = axis_of(int_attr(node.attrs, "axis", 0), len(first.type.shape))
        return _row_work(node, first.type.shape[axis], {"cmp": 1, "select": 1}, {})

    OPS[name] = OpDef(_arg_type, reference, work)


_arg("ArgMax", np.argmax)
_arg("ArgMin", np.argmin)


def _topk_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axis, k = axis_of(int_attr(attrs, "axis", -1), len(x.shape)), int_attr(attrs, "k")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"k = {k} of {x.shape[axis]} elements")
    shape = tuple(k if i == axis else d for i, d in enumerate(x.shape))
    return reshaped(x, shape), reshaped(INT64, shape)


def _topk(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    axis, k = axis_of(int_attr(attrs, "axis", -1), x.ndim), int_attr(attrs, "k")
    keys = x
    if int_attr(attrs, "largest", 1):  # -x and ~x both turn the order round; -x would wrap for integers
        keys = np.invert(x) if np.issubdtype(x.dtype, np.integer) else -x
    order = np.argsort(keys, axis=axis, kind="stable")
    picked = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, picked, axis), picked.astype(np.int64)


def _topk_work(node: Node) -> Work:
    """Every row is sorted as far as its first k elements: n compares to find them (a selection), and
    k log2(k) to order them. A target without a sorting algorithm of its own prices these."""
    first = node.inputs[0]
    assert first is not None
    k = int_attr(node.attrs, "k")
    axis = axis_of(int_attr(node.attrs, "axis", -1), len(first.type.shape))
    ordering = {"cmp": k * max(k - 1, 1).bit_length()}
    return _row_work(node, first.type.shape[axis], {"cmp": 1}, ordering, kept=k)


OPS["TopK"] = OpDef(_topk_type, _topk, _topk_work, params={1: "k"})
