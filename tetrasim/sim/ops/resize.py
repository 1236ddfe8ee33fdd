"""Resizing of images by interpolation, axis by axis.

Along one axis every output element is a weighted sum of input neighbours (ONNX operator specification, Resize
of opset 19), so that the op is one small matrix per resized axis. Costs: nearest copies; linear reads 2
neighbours per axis, cubic 4, and a filter that is widened against aliasing as many as it covers.
"""

from __future__ import annotations

import math
from functools import lru_cache

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
    float_attr,
    have,
    int_attr,
    ints_attr,
    like,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind

Numbers = tuple[float, ...]


def _floats(attrs: Attrs, name: str) -> Numbers:
    value = attrs.get(name, ())
    return tuple(float(v) for v in value) if isinstance(value, tuple) else (float_attr(attrs, name, 0.0),)


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, sizes = need(types, 0), ints_attr(attrs, "sizes")
    if len(sizes) != len(x.shape):
        raise ShapeError(f"{len(sizes)} sizes for rank {len(x.shape)}")
    return (reshaped(x, sizes),)


def _positions(size: int, out: int, scale: float, mode: str, roi: tuple[float, float]) -> Arr:
    """Where every output element lies on the input axis."""
    at, exact = np.arange(out, dtype=np.float64), scale * size
    if mode == "align_corners":
        return at * 0 if out == 1 else at * (size - 1) / (out - 1)
    if mode == "asymmetric":
        return at / scale
    if mode == "tf_crop_and_resize":
        start, end = roi
        if out == 1:
            return np.full(1, (start + end) * (size - 1) / 2)
        return start * (size - 1) + at * (end - start) * (size - 1) / (out - 1)
    if mode == "pytorch_half_pixel" and out == 1:
        return at * 0
    half = (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return half + size / 2 * (1 - out / exact)
    if mode not in ("half_pixel", "pytorch_half_pixel"):
        raise ShapeError(f"coordinate_transformation_mode '{mode}' is not known")
    return half


def _nearest(x: Arr, rule: str) -> Arr:
    if rule == "round_prefer_floor":
        return np.ceil(x - 0.5)
    if rule == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.floor(x) if rule == "floor" else np.ceil(x)


def _cubic(x: Arr, a: float) -> Arr:
    """Keys, IEEE Trans. ASSP 29 (1981): the cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=256)
def _weights(
    size: int, out: int, scale: float, mode: str, coordinates: str, rule: str, a: float, outside: bool,
    antialias: bool, roi: tuple[float, float],
) -> tuple[Arr, Arr]:  # fmt: skip
    """[out, size] weights of one axis, and which outputs lie outside the input (tf_crop_and_resize)."""
    x = _positions(size, out, scale, coordinates, roi)
    beyond = (x < 0) | (x > size - 1) if coordinates == "tf_crop_and_resize" else np.zeros(out, bool)
    table = np.zeros((out, size))
    rows = np.arange(out)
    if mode == "nearest":
        table[rows, np.clip(_nearest(x, rule), 0, size - 1).astype(int)] = 1
        return table, beyond
    shrink = min(scale, 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    first = np.floor(x).astype(int)
    for offset in range(-math.ceil(reach) + 1, math.ceil(reach) + 1):
        place = first + offset
        far = (place - x) * shrink
        weight = np.clip(1 - np.abs(far), 0, None) if mode == "linear" else _cubic(far, a)
        inside = (place >= 0) & (place < size)
        if outside:
            weight = np.where(inside, weight, 0)
        np.add.at(table, (rows, np.clip(place, 0, size - 1)), weight)
    if outside or antialias:
        table /= table.sum(axis=1, keepdims=True)
    return table, beyond


def _tables(shape: tuple[int, ...], attrs: Attrs) -> list[tuple[Arr, Arr]]:
    sizes, scales = ints_attr(attrs, "sizes"), _floats(attrs, "scales")
    roi = _floats(attrs, "roi") or (0.0,) * len(shape) + (1.0,) * len(shape)
    return [
        _weights(
            size, out, scale, str_attr(attrs, "mode", "nearest"),
            str_attr(attrs, "coordinate_transformation_mode", "half_pixel"),
            str_attr(attrs, "nearest_mode", "round_prefer_floor"), float_attr(attrs, "cubic_coeff_a", -0.75),
            bool(int_attr(attrs, "exclude_outside", 0)), bool(int_attr(attrs, "antialias", 0)),
            (roi[axis], roi[axis + len(shape)]),
        )
        for axis, (size, out, scale) in enumerate(zip(shape, sizes, scales, strict=True))
    ]  # fmt: skip


def _resize(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    y = as_float(x).astype(np.float64)
    tables = _tables(x.shape, attrs)
    outside = np.zeros((1,) * x.ndim, dtype=bool)
    for axis, (table, beyond) in enumerate(tables):
        if table.shape[0] != table.shape[1] or not np.array_equal(table, np.eye(table.shape[0])):
            y = np.moveaxis(np.moveaxis(y, axis, -1) @ table.T, -1, axis)
        outside = outside | beyond.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    if outside.any():
        y = np.where(outside, float_attr(attrs, "extrapolation_value", 0.0), y)
    if np.issubdtype(x.dtype, np.integer):
        info = np.iinfo(x.dtype)
        y = np.clip(
            np.trunc(y) if str_attr(attrs, "mode", "nearest") == "linear" else np.rint(y), info.min, info.max
        )
    return (like(y, x),)


def _work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    mode = str_attr(node.attrs, "mode", "nearest")
    if mode == "nearest":
        return Work(node.op, WorkKind.GATHER, reads(node), writes(node))
    shape, sizes = first.type.shape, ints_attr(node.attrs, "sizes")
    taps = 1
    for size, out, scale in zip(shape, sizes, _floats(node.attrs, "scales"), strict=True):
        if size == out and scale == 1.0:
            continue
        width = 2 if mode == "linear" else 4
        antialias = int_attr(node.attrs, "antialias", 0) and scale < 1
        taps *= math.ceil(width / scale) if antialias else width
    elements = node.outputs[0].type.elements
    ops = (("add", elements * max(taps - 1, 0)), ("mul", elements * taps))
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(1, elements, ops))


OPS = {"Resize": OpDef(_type, _resize, _work)}
