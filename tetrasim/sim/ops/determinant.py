"""Determinants of square matrices, by elimination: n^3 / 3 products and sums each."""

from __future__ import annotations

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
    like,
    need,
    reads,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Vector, Work, WorkKind


def _type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"the matrices {x.shape} are not square")
    return (reshaped(x, x.shape[:-2]),)


def _det(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    return (like(np.asarray(np.linalg.det(as_float(x).astype(np.float64))), x),)


def _work(node: Node) -> Work:
    first = node.inputs[0]
    assert first is not None
    n = first.type.shape[-1]
    count = node.outputs[0].type.elements
    steps = count * -(-(n**3) // 3)
    vector = Vector(count, n * n, (("add", steps), ("div", count * n), ("mul", steps)), reduces=True)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=vector)


OPS = {"Det": OpDef(_type, _det, _work)}
