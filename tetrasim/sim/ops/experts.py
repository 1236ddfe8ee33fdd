"""Products with the matrix that an index chooses: mixtures of experts.

`IndexedMatMul(x [t, 1 or j, k], w [experts, n, k], index [t, j])` is y[t, j] = w[index[t, j]] x[t, j]. Costs:
t j n k products; of the weights as many experts are read as the t j choices can name, which are taken to be
spread evenly over them (what load-balanced routers are trained for), as one product per expert.
"""

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
    need,
    operand,
    reshaped,
    writes,
)
from tetrasim.sim.ops.work import Gemm, Work, WorkKind


def _type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    x, w, index = (need(types, i) for i in range(3))
    fits = len(x.shape) == len(w.shape) == 3 and len(index.shape) == 2
    if (
        not fits
        or x.shape[2] != w.shape[2]
        or x.shape[0] != index.shape[0]
        or x.shape[1] not in (1, index.shape[1])
    ):
        raise ShapeError(f"x {x.shape}, experts {w.shape} and choices {index.shape} do not fit")
    return (reshaped(x, (*index.shape, w.shape[1])),)


def _product(arrays: Arrays, _attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    x, w, index = as_float(have(arrays, 0)), as_float(have(arrays, 1)), have(arrays, 2)
    rows = np.broadcast_to(x, (*index.shape, x.shape[2]))
    out = np.zeros((*index.shape, w.shape[1]), dtype=x.dtype)
    for expert in np.unique(index):
        chosen = index == expert
        out[chosen] = np.asarray(arith.matmul(rows[chosen], w[expert].T))
    return (out,)


def _work(node: Node) -> Work:
    x, w, index = node.inputs
    assert x is not None
    assert w is not None
    assert index is not None
    experts, n, k = w.type.shape
    choices = index.type.elements
    active = max(min(experts, choices), 1)
    gemm = Gemm(active, -(-choices // active), n, k)
    reads = (operand(x), operand(w, active * n * k), operand(index))
    return Work(node.op, WorkKind.GEMM, reads, writes(node), gemm=gemm)


OPS = {"IndexedMatMul": OpDef(_type, _product, _work)}
