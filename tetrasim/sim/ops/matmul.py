"""Dense products. `MatMul` and `Gemm` take `transA`/`transB`; `Gemm` (a product with a bias) accepts any
rank of A, so that a linear layer on [batch, seq, k] is one node. A bias starts the accumulator: it is read
once and costs no vector op, as in the epilogue-free GEMMs of every BLAS. `alpha` is folded into the output.
"""

from __future__ import annotations

import math

import numpy as np

from tetrasim.sim.ir.graph import Node, Role, TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    as_float,
    broadcast,
    float_attr,
    have,
    int_attr,
    maybe,
    need,
    reads,
    reshaped,
    str_attr,
    writes,
)
from tetrasim.sim.ops.work import Gemm, Work, WorkKind

Shape = tuple[int, ...]


def _operands(a: Shape, b: Shape, attrs: Attrs) -> tuple[Shape, Shape]:
    """Shapes after the transpositions asked for; vectors become matrices as in numpy."""
    a = (1, *a) if len(a) == 1 else a
    b = (*b, 1) if len(b) == 1 else b
    if not a or not b:
        raise ShapeError("MatMul needs at least one axis per operand")
    if int_attr(attrs, "transA", 0):
        a = (*a[:-2], a[-1], a[-2])
    if int_attr(attrs, "transB", 0):
        b = (*b[:-2], b[-1], b[-2])
    if a[-1] != b[-2]:
        raise ShapeError(f"inner dims differ: {a} times {b}")
    return a, b


def _matmul_shape(a: Shape, b: Shape, attrs: Attrs) -> Shape:
    left, right = _operands(a, b, attrs)
    out = (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])
    if len(b) == 1:
        out = out[:-1]
    if len(a) == 1:
        out = (*out[:-2], *out[-1:]) if len(b) > 1 else out[:-1]
    return out


def _matmul_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    a, b = need(types, 0), need(types, 1)
    return (reshaped(a, _matmul_shape(a.shape, b.shape, attrs)),)


def _turned(x: Arr, turn: int) -> Arr:
    return np.swapaxes(x, -1, -2) if turn and x.ndim > 1 else x


def _matmul(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    a = _turned(as_float(have(arrays, 0)), int_attr(attrs, "transA", 0))
    b = _turned(as_float(have(arrays, 1)), int_attr(attrs, "transB", 0))
    out = np.asarray(arith.matmul(a, b))
    alpha = float_attr(attrs, "alpha", 1.0)
    return (out if alpha == 1.0 else out * out.dtype.type(alpha),)


def _is_constant(node: Node, index: int) -> bool:
    value = node.inputs[index]
    return value is not None and value.role in (Role.WEIGHT, Role.CONSTANT)


def gemm_of(node: Node, a: Shape, b: Shape) -> Gemm:
    """GEMM dimensions of a product: batch axes that B lacks are folded into m (a linear layer reads its
    weight once); a constant A with an activation B is written as the transposed product."""
    left, right = _operands(a, b, node.attrs)
    k = left[-1]
    weight_b = _is_constant(node, 1)
    if _is_constant(node, 0) and not weight_b:
        left, right = (*right[:-2], right[-1], k), (*left[:-2], k, left[-2])
        weight_b = True
    lead = broadcast(left[:-2], right[:-2])
    batch = 1
    folded = 1
    padded = (1,) * (len(lead) - len(right[:-2])) + tuple(right[:-2])
    for dim, mine in zip(lead, padded, strict=True):
        if mine == 1:
            folded *= dim
        else:
            batch *= dim
    return Gemm(batch, folded * left[-2], right[-1], k, weight_b)


def gemm_roles(node: Node) -> dict[str, int]:
    """Positions of a, b and the bias in a product, whose weight is always b (see `gemm_of`)."""
    turned = _is_constant(node, 0) and not _is_constant(node, 1)
    return {"a": 1, "b": 0, "bias": 2} if turned else {"a": 0, "b": 1, "bias": 2}


def _matmul_work(node: Node) -> Work:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None
    assert b is not None
    gemm = gemm_of(node, a.type.shape, b.type.shape)
    return Work(node.op, WorkKind.GEMM, reads(node, gemm_roles(node)), writes(node), gemm=gemm)


def _gemm_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    out = _matmul_type(types, attrs)[0]
    if len(types) > 2 and types[2] is not None and broadcast(out.shape, types[2].shape) != out.shape:
        raise ShapeError(f"bias {types[2].shape} does not broadcast to {out.shape}")
    return (out,)


def _gemm(arrays: Arrays, attrs: Attrs, arith: Arithmetic) -> tuple[Arr, ...]:
    (out,) = _matmul(arrays, attrs, arith)
    bias = maybe(arrays, 2)
    beta = float_attr(attrs, "beta", 1.0)
    if bias is None or beta == 0:
        return (out,)
    return (out + (bias if beta == 1.0 else bias * out.dtype.type(beta)).astype(out.dtype),)


def _terms(types: Types, attrs: Attrs) -> tuple[list[str], str, dict[str, int]]:
    """Einsum equation as input terms, output term and dim sizes. The importer leaves one or two terms without
    ellipsis and without an index that occurs twice in one of them."""
    equation = str_attr(attrs, "equation")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if not 1 <= len(terms) == len(types) <= 2:
        raise ShapeError(f"einsum '{equation}' has {len(types)} operands: it is split into pairs at import")
    sizes: dict[str, int] = {}
    for i, term in enumerate(terms):
        shape = need(types, i).shape
        if len(shape) != len(term) or len(set(term)) != len(term):
            raise ShapeError(f"einsum '{equation}': term '{term}' does not fit shape {shape}")
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(f"einsum '{equation}': index '{letter}' is {sizes[letter]} and {size}")
    return terms, right, sizes


def _einsum_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    _, out, sizes = _terms(types, attrs)
    return (reshaped(need(types, 0), tuple(sizes[c] for c in out)),)


def _einsum(arrays: Arrays, attrs: Attrs, _arith: Arithmetic) -> tuple[Arr, ...]:
    ops = [as_float(have(arrays, i)) for i in range(len(arrays))]
    return (np.asarray(np.einsum(str_attr(attrs, "equation"), *ops, optimize=len(ops) > 1)),)


def _einsum_work(node: Node) -> Work:
    types = [v.type for v in node.inputs if v is not None]
    terms, out, sizes = _terms(types, node.attrs)

    def size(letters: set[str]) -> int:
        return math.prod(sizes[c] for c in letters)

    a, b = set(terms[0]), set(terms[1]) if len(terms) > 1 else set[str]()
    kept = set(out)
    gemm = Gemm(
        size(a & b & kept),
        size((a - b) & kept),
        size((b - a) & kept),
        size((a | b) - kept),
        _is_constant(node, len(terms) - 1),
    )
    return Work(node.op, WorkKind.GEMM, reads(node, {"a": 0, "b": 1}), writes(node), gemm=gemm)


OPS = {
    "MatMul": OpDef(_matmul_type, _matmul, _matmul_work),
    "Gemm": OpDef(_gemm_type, _gemm, _matmul_work),
    "Einsum": OpDef(_einsum_type, _einsum, _einsum_work),
}
