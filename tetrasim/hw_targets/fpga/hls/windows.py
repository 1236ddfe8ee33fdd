"""Sliding windows as element numbers: what a convolution or pooling reads for each of its outputs."""

from __future__ import annotations

from math import prod

import numpy as np

from tetrasim.hw_targets.fpga.hls.plan import Ints
from tetrasim.sim.ir.graph import Node


def window_index(
    shape: tuple[int, ...], node: Node, *, kernel: tuple[int, ...] = (), depthwise: bool = False
) -> tuple[Ints, bool]:
    """Flat element numbers of [channels, *space], -1 in the padding, and whether there is padding.

    Rows are output positions (with `depthwise`, channel-major: every channel has its own windows); columns
    are
    channel-major kernel taps, as ONNX lays out convolution weights.
    """
    channels, space = shape[0], shape[1:]
    size = kernel or _ints(node, "kernel_shape", (1,) * len(space))
    strides, dilations = (
        _ints(node, "strides", (1,) * len(space)),
        _ints(node, "dilations", (1,) * len(space)),
    )
    out = node.outputs[0].type.shape[2:]
    begin = _pads(node, space, size, strides, dilations, out)
    numbers = np.arange(prod(shape)).reshape(shape)
    places = []
    for o, s, d, b, k, n in zip(out, strides, dilations, begin, size, space, strict=True):
        at = np.arange(o)[:, None] * s - b + np.arange(k)[None, :] * d
        places.append((at, (at >= 0) & (at < n)))
    rank = len(space)
    result = numbers
    inside = np.ones((1,) * (2 * rank), bool)
    for axis, (at, good) in enumerate(places):
        result = np.take(result, np.clip(at, 0, space[axis] - 1), axis=1 + 2 * axis)
        view = [1] * (2 * rank)
        view[2 * axis], view[2 * axis + 1] = at.shape
        inside = inside & good.reshape(view)
    # result: [channels, out0, k0, out1, k1, …]
    result = np.where(inside[None], result, -1)
    outs, taps = [1 + 2 * a for a in range(rank)], [2 + 2 * a for a in range(rank)]
    if depthwise:
        return result.transpose(0, *outs, *taps).reshape(channels * prod(out), prod(size)), not bool(
            inside.all()
        )
    moved = result.transpose(*outs, 0, *taps)
    return moved.reshape(prod(out), channels * prod(size)), not bool(inside.all())


def _ints(node: Node, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = node.attrs.get(key, default)
    return tuple(int(v) for v in value) if isinstance(value, tuple) else default


def _pads(
    node: Node,
    space: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[int, ...]:
    """Padding before each axis."""
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        whole = [
            max((o - 1) * s + (k - 1) * d + 1 - n, 0)
            for o, s, k, d, n in zip(out, strides, size, dilations, space, strict=True)
        ]
        return tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in whole)
    return _ints(node, "pads", (0,) * (2 * len(space)))[: len(space)]
