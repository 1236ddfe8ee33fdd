"""Col2Im: overlapping blocks added back into an image, one sum per element of the blocks."""

from __future__ import annotations

import math

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.conv import geometry
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    have,
    ints_attr,
    need,
    reads,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    image, block = ints_attr(attrs, "image_shape"), ints_attr(attrs, "block_shape")
    places = geometry(image, block, attrs)[3]
    taps = math.prod(block)
    if len(x.shape) != 3 or x.shape[1] % taps or x.shape[2] != math.prod(places):
        raise ShapeError(f"blocks {x.shape} do not make an image {image} of blocks {block}")
    return (reshaped(x, (x.shape[0], x.shape[1] // taps, *image)),)


def _col2im(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    image, block = ints_attr(attrs, "image_shape"), ints_attr(attrs, "block_shape")
    strides, dilations, pads, places = geometry(image, block, attrs)
    columns = x.reshape(x.shape[0], -1, *block, *places)
    reach = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(places, strides, dilations, block, strict=True)
    ]
    sizes = [max(size + a + b, r) for size, (a, b), r in zip(image, pads, reach, strict=True)]
    out = np.zeros((x.shape[0], columns.shape[1], *sizes), dtype=x.dtype)
    for tap in np.ndindex(*block):
        where = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, places, strides, strict=True)
        )
        out[(slice(None), slice(None), *where)] += columns[(slice(None), slice(None), *tap)]
    crop = tuple(slice(a, a + size) for (a, _), size in zip(pads, image, strict=True))
    return (out[(slice(None), slice(None), *crop)],)


def _work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    count = first.type.elements
    return Work(
        node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(1, count, (("add", count),))
    )


OPS = {"Col2Im": OpDef(_type, _col2im, _work, params={1: "image_shape", 2: "block_shape"})}
