"""Pooling over any number of spatial axes, and its inverse.

A window costs one operation per element and one more per result (a maximum, a sum and a scale, a sum of
powers and a root). The position of a maximum counts a choice per element.
"""

from __future__ import annotations

import math

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.conv import Shape, geometry, windows, windows_of
from tetrasim.sim.ops.opdef import (
    INT64,
    Arr,
    Arrays,
    Attrs,
    OpDef,
    Types,
    as_float,
    float_attr,
    have,
    int_attr,
    ints_attr,
    need,
    reads,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind


def _kernel(attrs: Attrs) -> Shape:
    return ints_attr(attrs, "kernel_shape")


def _window_axes(attrs: Attrs) -> tuple[int, ...]:
    return tuple(range(-len(_kernel(attrs)), 0))


def _pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    out = geometry(x.shape[2:], _kernel(attrs), attrs)[3]
    return (reshaped(x, (*x.shape[:2], *out)),)


def _max_pool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    (out,) = _pool_type(types, attrs)
    return out, reshaped(INT64, out.shape)


def _max_pool(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """The maxima, and where they stand in the flattened input (`storage_order` 1: columns first)."""
    x = have(arrays, 0)
    kernel = _kernel(attrs)
    integral = np.issubdtype(x.dtype, np.integer)
    lowest = np.iinfo(x.dtype).min if integral else -np.inf
    view = windows(x, kernel, attrs, lowest)
    flat = view.reshape(*view.shape[: -len(kernel)], -1)
    places = np.arange(math.prod(x.shape[2:]))
    columns_first = int_attr(attrs, "storage_order", 0)
    grid = places.reshape(x.shape[:1:-1]).T if columns_first else places.reshape(x.shape[2:])
    grid = grid[None, None]
    where = windows(grid, kernel, attrs, -1).reshape(1, 1, *flat.shape[2:])
    # padding never wins a tie: it stands behind every element
    keys = np.where(where < 0, -np.inf, flat.astype(np.float64)) if (where < 0).any() else flat
    best = np.argmax(keys, axis=-1)[..., None]
    index = np.take_along_axis(np.broadcast_to(where, flat.shape), best, -1)[..., 0]
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(kernel))
    return np.take_along_axis(flat, best, -1)[..., 0], index + planes * places.size


def _average_pool(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = as_float(have(arrays, 0))
    kernel, axes = _kernel(attrs), _window_axes(attrs)
    total = windows(x, kernel, attrs, 0.0).sum(axis=axes, dtype=x.dtype)
    ones = np.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if int_attr(attrs, "count_include_pad", 0):
        # pads count as elements, the extra room of ceil_mode does not
        pads, out = geometry(x.shape[2:], kernel, attrs)[2:]
        ones = np.pad(ones, ((0, 0), (0, 0), *pads), constant_values=1)
        counts = windows_of(ones, kernel, attrs, out)
    else:
        counts = windows(ones, kernel, attrs, 0.0)
    return (total / counts.sum(axis=axes, dtype=x.dtype),)


def _lp_pool(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, p = np.abs(as_float(have(arrays, 0))), float_attr(attrs, "p", 2)
    powers = windows(x**p, _kernel(attrs), attrs, 0.0).sum(axis=_window_axes(attrs), dtype=x.dtype)
    return ((powers ** (1 / p)).astype(x.dtype),)


_PER_ELEMENT = {"MaxPool": ("max",), "AveragePool": ("add",), "LpPool": ("pow", "add")}
_PER_RESULT = {"MaxPool": (), "AveragePool": ("mul",), "LpPool": ("pow",)}


def _pool_work(node: Node) -> Work:
    taps = math.prod(_kernel(node.attrs))
    rows = node.outputs[0].type.elements
    counts: dict[str, int] = {}
    for kind in _PER_ELEMENT[node.op]:
        counts[kind] = counts.get(kind, 0) + rows * taps
    for kind in _PER_RESULT[node.op]:
        counts[kind] = counts.get(kind, 0) + rows
    if len(node.outputs) > 1:
        counts["select"] = rows * taps
    ops = tuple(sorted(counts.items()))
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, taps, ops, True))


def _unpool_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    given = ints_attr(attrs, "output_shape", ())
    return (reshaped(x, given or _unpooled(x.shape, attrs)),)


def _unpooled(shape: Shape, attrs: Attrs) -> Shape:
    kernel = _kernel(attrs)
    rank = len(kernel)
    strides, pads = ints_attr(attrs, "strides", (1,) * rank), ints_attr(attrs, "pads", (0,) * 2 * rank)
    spatial = tuple(
        (n - 1) * s + k - pads[i] - pads[i + rank]
        for i, (n, s, k) in enumerate(zip(shape[2:], strides, kernel, strict=True))
    )
    return (*shape[:2], *spatial)


def _unpool(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """Maxima at the places a MaxPool names, zeros elsewhere. The places refer to the shape that strides and
    pads imply; a larger `output_shape` holds that as its upper left part."""
    x, index = have(arrays, 0), have(arrays, 1)
    implied = _unpooled(x.shape, attrs)
    flat = np.zeros(math.prod(implied), dtype=x.dtype)
    flat[index.reshape(-1)] = x.reshape(-1)
    out = np.zeros(ints_attr(attrs, "output_shape", ()) or implied, dtype=x.dtype)
    out[tuple(slice(d) for d in implied)] = flat.reshape(implied)
    return (out,)


def _unpool_work(node: Node) -> Work:
    return Work(node.op, WorkKind.GATHER, reads(node), writes(node))


OPS = {
    "MaxPool": OpDef(_max_pool_type, _max_pool, _pool_work),
    "AveragePool": OpDef(_pool_type, _average_pool, _pool_work),
    "LpPool": OpDef(_pool_type, _lp_pool, _pool_work),
    "MaxUnpool": OpDef(_unpool_type, _unpool, _unpool_work, params={2: "output_shape"}),
}
