"""Sampling of images at positions that are data: GridSample, RoiAlign, DeformConv.

A sample is interpolated from its neighbours: 2 per axis (linear), 4 (cubic) or 1 (nearest). Costs count the
products and sums of the samples, and 2 products and 2 sums per coordinate to place it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.conv import conv_gemm, geometry
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
    like,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind

_A = -0.75  # the cubic coefficient that GridSample fixes
_WIDTH = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


def _cubic(t: Arr) -> tuple[Arr, ...]:
    """Weights of the neighbours at -1, 0, 1, 2 for a position t in [0, 1) (Keys 1981)."""
    far = [((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A for x in (t + 1, 2 - t)]
    near = [((_A + 2) * x - (_A + 3)) * x * x + 1 for x in (t, 1 - t)]
    return far[0], near[0], near[1], far[1]


def _reflected(x: Arr, low: float, high: float) -> Arr:
    span = high - low
    if span <= 0:
        return np.full_like(x, low)
    turns = np.mod(x - low, 2 * span)
    return low + np.where(turns > span, 2 * span - turns, turns)


def _placed(x: Arr, size: int, padding: str, corners: bool) -> Arr:
    """Integer neighbours moved into the image; -1 where a zero is read."""
    if padding == "border":
        return np.clip(x, 0, size - 1)
    if padding == "reflection":
        low, high = (0, size - 1) if corners else (-0.5, size - 0.5)
        return np.clip(np.rint(_reflected(x.astype(np.float64), low, high)), 0, size - 1).astype(int)
    return np.where((x >= 0) & (x < size), x, -1)


def sample(x: Arr, at: tuple[Arr, ...], mode: str, padding: str, corners: bool) -> Arr:
    """x [channels, *spatial] at positions (one array per spatial axis) -> [channels, *positions]."""
    width = _WIDTH[mode]
    steps: list[tuple[tuple[Arr, Arr], ...]] = []
    for position, size in zip(at, x.shape[1:], strict=True):
        if width == 1:
            near = np.rint(position).astype(int)
            steps.append(((_placed(near, size, padding, corners), np.ones_like(position)),))
            continue
        first = np.floor(position).astype(int)
        t = position - first
        weights = (1 - t, t) if width == 2 else _cubic(t)
        start = 0 if width == 2 else -1
        steps.append(
            tuple((_placed(first + start + i, size, padding, corners), w) for i, w in enumerate(weights))
        )
    out = np.zeros((x.shape[0], *at[0].shape), dtype=np.float64)
    for corner in itertools.product(*steps):
        index: tuple[Any, ...] = tuple(place for place, _ in corner)
        weight = math.prod((w for _, w in corner), start=np.ones(at[0].shape))
        seen = np.all([place >= 0 for place in index], axis=0)
        out += np.where(seen, weight, 0) * x[(slice(None), *index)]
    return out


def _grid_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, grid = need(types, 0), need(types, 1)
    if grid.shape[-1] != len(x.shape) - 2 or len(grid.shape) != len(x.shape):
        raise ShapeError(f"a grid {grid.shape} does not fit an image {x.shape}")
    mode = str_attr(attrs, "mode", "linear")
    if mode not in _WIDTH:
        raise ShapeError(f"mode '{mode}' is not known")
    return (reshaped(x, (*x.shape[:2], *grid.shape[1:-1])),)


def _grid_sample(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, grid = as_float(have(arrays, 0)), have(arrays, 1).astype(np.float64)
    corners = bool(int_attr(attrs, "align_corners", 0))
    mode, padding = str_attr(attrs, "mode", "linear"), str_attr(attrs, "padding_mode", "zeros")
    images = []
    for image, points in zip(x, grid, strict=True):
        at = []
        for axis, size in enumerate(image.shape[1:]):
            p = points[..., image.ndim - 2 - axis]  # the grid counts axes from the last
            position = (p + 1) / 2 * (size - 1) if corners else ((p + 1) * size - 1) / 2
            low, high = (0, size - 1) if corners else (-0.5, size - 0.5)
            if padding == "border" and _WIDTH[mode] < 4:
                position = np.clip(position, 0, size - 1)
            elif padding == "reflection" and _WIDTH[mode] < 4:
                position = np.clip(_reflected(position, low, high), 0, size - 1)
            at.append(position)
        images.append(sample(image, tuple(at), mode, padding, corners))
    return (like(np.stack(images), x),)


def _sampling_ops(samples: int, points: int, rank: int, width: int) -> tuple[tuple[str, int], ...]:
    taps = width**rank
    return (("add", samples * (taps - 1) + 2 * points * rank), ("mul", samples * taps + 2 * points * rank))


def _grid_work(node: Node) -> Work:
    out = node.outputs[0].type
    rank = len(out.shape) - 2
    width = _WIDTH[str_attr(node.attrs, "mode", "linear")]
    points = out.elements // max(out.shape[1], 1)
    ops = _sampling_ops(out.elements, points, rank, width)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(1, out.elements, ops))


def _roi_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, rois = need(types, 0), need(types, 1)
    height, width = int_attr(attrs, "output_height", 1), int_attr(attrs, "output_width", 1)
    return (reshaped(x, (rois.shape[0], x.shape[1], height, width)),)


def _roi_align(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """He et al., arXiv:1703.06870: bins of a region, each the mean (or maximum) of bilinear samples."""
    x, rois, batch = as_float(have(arrays, 0)), have(arrays, 1), have(arrays, 2)
    half = str_attr(attrs, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale, ratio = float_attr(attrs, "spatial_scale", 1.0), int_attr(attrs, "sampling_ratio", 0)
    bins = (int_attr(attrs, "output_height", 1), int_attr(attrs, "output_width", 1))
    out = np.zeros((len(rois), x.shape[1], *bins), dtype=np.float64)
    for n, (roi, image) in enumerate(zip(rois, batch, strict=True)):
        start = roi[[1, 0]].astype(np.float64) * scale - (0.5 if half else 0.0)
        extent = roi[[3, 2]].astype(np.float64) * scale - (0.5 if half else 0.0) - start
        if not half:
            extent = np.maximum(extent, 1.0)
        at = []
        for axis in range(2):
            count = ratio or max(math.ceil(extent[axis] / bins[axis]), 1)
            steps = (np.arange(bins[axis] * count) + 0.5) / count
            at.append((start[axis] + steps * extent[axis] / bins[axis], count))
        out[n] = _pooled(x[int(image)], at, bins, str_attr(attrs, "mode", "avg"))
    return (like(out, x),)


def _pooled(x: Arr, at: list[tuple[Arr, int]], bins: tuple[int, int], mode: str) -> Arr:
    grid = np.meshgrid(*(positions for positions, _ in at), indexing="ij")
    sizes = x.shape[1:]
    inside = np.all([(g >= -1) & (g <= size) for g, size in zip(grid, sizes, strict=True)], axis=0)
    clamped = tuple(np.clip(g, 0, size - 1) for g, size in zip(grid, sizes, strict=True))
    shape = (x.shape[0], bins[0], at[0][1], bins[1], at[1][1])
    if mode == "max":
        # the runtimes take the largest weighted neighbour, not the largest interpolated value
        values = np.where(inside, _largest_part(x, clamped), 0)
        return np.asarray(values.reshape(shape).max(axis=(2, 4)))
    values = np.where(inside, sample(x, clamped, "linear", "border", True), 0)
    return np.asarray(values.reshape(shape).mean(axis=(2, 4)))


def _largest_part(x: Arr, at: tuple[Arr, ...]) -> Arr:
    best = np.full((x.shape[0], *at[0].shape), -np.inf)
    low = [np.floor(p).astype(int) for p in at]
    for corner in itertools.product((0, 1), repeat=len(at)):
        index = tuple(np.minimum(i + c, s - 1) for i, c, s in zip(low, corner, x.shape[1:], strict=True))
        parts = [(p - i) if c else 1 - (p - i) for p, i, c in zip(at, low, corner, strict=True)]
        best = np.maximum(best, math.prod(parts, start=np.ones(at[0].shape)) * x[(slice(None), *index)])
    return best


def _roi_work(node: Node) -> Work:
    """With an adaptive number of samples per bin, 4 are counted (2 per axis, the common setting)."""
    out = node.outputs[0].type
    per_bin = (int_attr(node.attrs, "sampling_ratio", 0) or 2) ** 2
    samples = out.elements * per_bin
    ops = _sampling_ops(samples, samples // max(out.shape[1], 1), 2, 2)
    ops = tuple((kind, n + (samples if kind == "add" else out.elements)) for kind, n in ops)
    return Work(
        node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(out.elements, per_bin, ops, True)
    )


def _deform_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w, offset = need(types, 0), need(types, 1), need(types, 2)
    groups, parts = int_attr(attrs, "group", 1), int_attr(attrs, "offset_group", 1)
    if len(x.shape) != 4 or len(w.shape) != 4 or min(groups, parts) < 1 or x.shape[1] % parts:
        raise ShapeError(f"input {x.shape} and kernel {w.shape} do not fit {groups} and {parts} groups")
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ShapeError(f"input {x.shape} and kernel {w.shape} with {groups} groups do not fit")
    out = geometry(x.shape[2:], w.shape[2:], attrs)[3]
    if offset.shape[1:] != (2 * parts * math.prod(w.shape[2:]), *out):
        raise ShapeError(f"offsets {offset.shape} do not fit an output of {out}")
    return (reshaped(x, (x.shape[0], w.shape[0], *out)),)


def _deform_conv(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    """Zhu et al., arXiv:1811.11168: a convolution whose taps are sampled at learned offsets."""
    x, w, offset = as_float(have(arrays, 0)), as_float(have(arrays, 1)), have(arrays, 2).astype(np.float64)
    bias, mask = maybe(arrays, 3), maybe(arrays, 4)
    strides, dilations, pads, out = geometry(x.shape[2:], w.shape[2:], attrs)
    kernel, groups = w.shape[2:], int_attr(attrs, "group", 1)
    parts = int_attr(attrs, "offset_group", 1)
    taps = math.prod(kernel)
    offset = offset.reshape(x.shape[0], parts, taps, 2, *out)
    scale = (
        np.ones((x.shape[0], parts, taps, *out))
        if mask is None
        else mask.reshape(x.shape[0], parts, taps, *out)
    )
    columns = np.zeros((x.shape[0], x.shape[1], taps, *out))
    each = x.shape[1] // parts
    for n, g, tap in itertools.product(range(x.shape[0]), range(parts), range(taps)):
        place = np.unravel_index(tap, kernel)
        at = tuple(
            (np.arange(out[i]) * strides[i] - pads[i][0] + int(place[i]) * dilations[i]).reshape(
                [-1 if j == i else 1 for j in range(2)]
            )
            + offset[n, g, tap, i]
            for i in range(2)
        )
        part = slice(g * each, (g + 1) * each)
        columns[n, part, tap] = sample(x[n, part], at, "linear", "zeros", True) * scale[n, g, tap]
    rows = columns.reshape(x.shape[0], groups, -1, math.prod(out)).astype(x.dtype)
    y = np.asarray(arith.matmul(w.reshape(groups, w.shape[0] // groups, -1), rows))
    y = y.reshape(x.shape[0], w.shape[0], *out)
    return (y if bias is None else y + bias.reshape(1, -1, 1, 1).astype(y.dtype),)


def _deform_work(node: Node) -> Work:
    """The products of the convolution; the samples that feed it are not counted apart."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None
    assert w is not None
    gemm = conv_gemm(x.type.shape, w.type.shape, node.outputs[0].type.shape, node.attrs)
    return Work(node.op, WorkKind.GEMM, reads(node), writes(node), gemm=gemm)


OPS = {
    "GridSample": OpDef(_grid_type, _grid_sample, _grid_work),
    "RoiAlign": OpDef(_roi_type, _roi_align, _roi_work),
    "DeformConv": OpDef(_deform_type, _deform_conv, _deform_work),
}
