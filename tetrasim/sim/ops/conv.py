"""Convolutions over any number of spatial axes, and the geometry of windows.

A convolution is an implicit GEMM: per group, m output positions, n output channels, k = input channels of
the group times kernel taps (Chetlur et al., arXiv:1410.0759). `Gemm.taps` is how often an input element is
read because windows overlap: 1 for a patch embedding, whose stride equals its kernel.
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
    have,
    int_attr,
    ints_attr,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Gemm, Work, WorkKind

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def geometry(spatial: Shape, kernel: Shape, attrs: Attrs) -> tuple[Shape, Shape, Pads, Shape]:
    """Strides, dilations, padding and output size of a window op."""
    rank = len(spatial)
    strides = ints_attr(attrs, "strides", (1,) * rank)
    dilations = ints_attr(attrs, "dilations", (1,) * rank)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    mode = str_attr(attrs, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for size, stride, width in zip(spatial, strides, reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
            small, big = total // 2, total - total // 2
            pads.append((small, big) if mode == "SAME_UPPER" else (big, small))
    else:
        flat = ints_attr(attrs, "pads", (0,) * (2 * rank)) if mode == "NOTSET" else (0,) * (2 * rank)
        pads = [(flat[i], flat[i + rank]) for i in range(rank)]
    out = []
    for size, (a, b), width, stride in zip(spatial, pads, reach, strides, strict=True):
        room = size + a + b - width
        steps = -(-room // stride) if int_attr(attrs, "ceil_mode", 0) else room // stride
        if int_attr(attrs, "ceil_mode", 0) and steps * stride >= size + a:
            steps -= 1  # a window that starts in the right padding is dropped
        if room < 0:
            raise ShapeError(f"kernel {kernel} does not fit into {spatial} with pads {pads}")
        out.append(steps + 1)
    return strides, dilations, tuple(pads), tuple(out)


def windows(x: Arr, kernel: Shape, attrs: Attrs, fill: float) -> Arr:
    """View [batch, channels, *out, *kernel] of the padded input."""
    _, _, pads, out = geometry(x.shape[2:], kernel, attrs)
    return windows_of(np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill), kernel, attrs, out, fill)


def windows_of(x: Arr, kernel: Shape, attrs: Attrs, out: Shape, fill: float = 0.0) -> Arr:
    """The same view of an input that is padded already; ceil_mode may need more room on the right."""
    rank = len(kernel)
    strides = ints_attr(attrs, "strides", (1,) * rank)
    dilations = ints_attr(attrs, "dilations", (1,) * rank)
    room = [
        (0, max(0, (n - 1) * s + d * (k - 1) + 1 - size))
        for n, s, d, k, size in zip(out, strides, dilations, kernel, x.shape[2:], strict=True)
    ]
    x = np.pad(x, ((0, 0), (0, 0), *room), constant_values=fill)
    steps = x.strides
    moves = (
        *steps[:2],
        *(s * t for s, t in zip(strides, steps[2:], strict=True)),
        *(d * t for d, t in zip(dilations, steps[2:], strict=True)),
    )
    shape = (*x.shape[:2], *out, *kernel)
    return np.lib.stride_tricks.as_strided(x, shape, moves, writeable=False)


def _conv_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w = need(types, 0), need(types, 1)
    groups = int_attr(attrs, "group", 1)
    few = len(x.shape) < 3 or groups < 1
    if few or len(x.shape) != len(w.shape) or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ShapeError(f"input {x.shape} and kernel {w.shape} with {groups} groups do not fit")
    out = geometry(x.shape[2:], w.shape[2:], attrs)[3]
    return (reshaped(x, (x.shape[0], w.shape[0], *out)),)


def _conv(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x, w = as_float(have(arrays, 0)), as_float(have(arrays, 1))
    return (convolve(x, w, maybe(arrays, 2), attrs, arith),)


def convolve(x: Arr, w: Arr, bias: Arr | None, attrs: Attrs, arith: Arithmetic) -> Arr:
    """x [batch, channels, ...] with kernels w [out, channels / groups, ...]."""
    groups, rank = int_attr(attrs, "group", 1), w.ndim - 2
    view = windows(x, w.shape[2:], attrs, 0.0)
    out = view.shape[2 : 2 + rank]
    view = view.reshape(x.shape[0], groups, x.shape[1] // groups, *view.shape[2:])
    # [batch, group, out..., channel, kernel...]
    axes = (0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    taps = math.prod(w.shape[1:])
    rows = view.transpose(axes).reshape(x.shape[0], groups, math.prod(out), taps)
    kernel = w.reshape(groups, w.shape[0] // groups, taps).transpose(0, 2, 1)
    y = np.asarray(arith.matmul(rows, kernel))
    y = y.transpose(0, 1, 3, 2).reshape(x.shape[0], w.shape[0], *out)
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * rank).astype(y.dtype)


_ROLES = {"a": 0, "b": 1, "bias": 2}


def conv_gemm(x: Shape, w: Shape, out: Shape, attrs: Attrs) -> Gemm:
    """GEMM dimensions of a convolution."""
    groups = int_attr(attrs, "group", 1)
    strides = geometry(x[2:], w[2:], attrs)[0]
    overlap = math.prod(-(-k // s) for k, s in zip(w[2:], strides, strict=True))
    m = out[0] * math.prod(out[2:])
    return Gemm(groups, m, out[1] // groups, math.prod(w[1:]), taps=overlap)


def _conv_work(node: Node) -> Work:
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None
    assert w is not None
    gemm = conv_gemm(x.type.shape, w.type.shape, node.outputs[0].type.shape, node.attrs)
    return Work(node.op, WorkKind.GEMM, reads(node, _ROLES), writes(node), gemm=gemm)


def _transposed_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, w = need(types, 0), need(types, 1)
    groups = int_attr(attrs, "group", 1)
    few = len(x.shape) < 3 or groups < 1
    if few or len(x.shape) != len(w.shape) or x.shape[1] != w.shape[0] or w.shape[0] % groups:
        raise ShapeError(f"input {x.shape} and kernel {w.shape} do not fit")
    out = _transposed_geometry(x.shape[2:], w.shape[2:], attrs)[4]
    return (reshaped(x, (x.shape[0], w.shape[1] * int_attr(attrs, "group", 1), *out)),)


def _transposed_geometry(
    spatial: Shape, kernel: Shape, attrs: Attrs
) -> tuple[Shape, Shape, Pads, Shape, Shape]:
    """Strides, dilations, pads, output padding, output size (ONNX ConvTranspose: `output_shape` and SAME
    modes choose the pads)."""
    rank = len(spatial)
    ones = (1,) * rank
    strides, dilations = ints_attr(attrs, "strides", ones), ints_attr(attrs, "dilations", ones)
    extra = ints_attr(attrs, "output_padding", (0,) * rank)
    full = tuple(
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(spatial, strides, dilations, kernel, extra, strict=True)
    )
    mode = str_attr(attrs, "auto_pad", "NOTSET")
    wanted = ints_attr(attrs, "output_shape", ())
    if mode in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        # a kernel that is shorter than its stride leaves less than n * stride, and nothing is padded
        wanted = tuple(min(n * s, f) for n, s, f in zip(spatial, strides, full, strict=True))
    if wanted:
        totals = [size - want for size, want in zip(full, wanted, strict=True)]
        # a negative total grows the output at its end
        more = tuple(max(-t, 0) for t in totals)
        extra = tuple(e + m for e, m in zip(extra, more, strict=True))
        halves = [(max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in totals]
        pads = tuple(half if mode == "SAME_UPPER" else half[::-1] for half in halves)
    else:
        flat = ints_attr(attrs, "pads", (0,) * (2 * rank))
        pads = tuple((flat[i], flat[i + rank]) for i in range(rank))
    out = tuple(
        (n - 1) * s + d * (k - 1) + 1 + e - a - b
        for n, s, d, k, e, (a, b) in zip(spatial, strides, dilations, kernel, extra, pads, strict=True)
    )
    return strides, dilations, pads, extra, out


def _transposed(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    """Every input position adds its kernel-shaped product to the output."""
    x, w = as_float(have(arrays, 0)), as_float(have(arrays, 1))
    groups, rank = int_attr(attrs, "group", 1), w.ndim - 2
    batch, spatial, kernel = x.shape[0], x.shape[2:], w.shape[2:]
    strides, dilations, pads, extra, _ = _transposed_geometry(spatial, kernel, attrs)
    full = tuple(
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(spatial, strides, dilations, kernel, extra, strict=True)
    )
    rows = x.reshape(batch, groups, -1, math.prod(spatial)).transpose(0, 1, 3, 2)
    prod = np.asarray(arith.matmul(rows, w.reshape(groups, w.shape[0] // groups, -1)))
    prod = prod.transpose(0, 1, 3, 2).reshape(batch, groups * w.shape[1], *kernel, *spatial)
    y = np.zeros((batch, groups * w.shape[1], *full), dtype=x.dtype)
    for tap in np.ndindex(*kernel):
        places = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, spatial, strides, strict=True)
        )
        y[(slice(None), slice(None), *places)] += prod[(slice(None), slice(None), *tap)]
    crop = tuple(slice(a, size - b) for (a, b), size in zip(pads, full, strict=True))
    y = y[(slice(None), slice(None), *crop)]
    bias = maybe(arrays, 2)
    return (y if bias is None else y + bias.reshape(1, -1, *(1,) * rank).astype(y.dtype),)


def _transposed_work(node: Node) -> Work:
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None
    assert w is not None
    groups = int_attr(node.attrs, "group", 1)
    m = x.type.shape[0] * math.prod(x.type.shape[2:])
    gemm = Gemm(groups, m, math.prod(w.type.shape[1:]), w.type.shape[0] // groups)
    return Work(node.op, WorkKind.GEMM, reads(node, _ROLES), writes(node), gemm=gemm)


OPS = {
    "Conv": OpDef(_conv_type, _conv, _conv_work),
    "ConvTranspose": OpDef(_transposed_type, _transposed, _transposed_work),
}
