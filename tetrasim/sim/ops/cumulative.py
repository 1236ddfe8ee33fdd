"""Running sums and products along an axis: one operation per element."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tetrasim.sim.ir.graph import Node, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    Types,
    axis_of,
    have,
    int_attr,
    need,
    vector_work,
)
from tetrasim.sim.ops.work import Work

OPS: dict[str, OpDef] = {}


def _type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x = need(types, 0)
    axis_of(int_attr(attrs, "axis"), len(x.shape))
    return (x,)


def _define(name: str, running: Callable[..., Arr], neutral: int, counts: Mapping[str, int]) -> None:
    def reference(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
        x, axis = have(arrays, 0), int_attr(attrs, "axis")
        turned = np.flip(x, axis) if int_attr(attrs, "reverse", 0) else x
        out = np.asarray(running(turned, axis, dtype=x.dtype))
        if int_attr(attrs, "exclusive", 0):  # moved on by one place, never undone by the inverse operation
            first = np.full_like(np.take(out, [0], axis) if out.shape[axis] else out, neutral)
            out = np.concatenate([first, np.delete(out, -1, axis)] if out.shape[axis] else [out], axis=axis)
        return (np.flip(out, axis) if int_attr(attrs, "reverse", 0) else out,)

    def work(node: Node) -> Work:
        return vector_work(node, counts)

    OPS[name] = OpDef(_type, reference, work, params={1: "axis"})


_define("CumSum", np.cumsum, 0, {"add": 1})
_define("CumProd", np.cumprod, 1, {"mul": 1})
