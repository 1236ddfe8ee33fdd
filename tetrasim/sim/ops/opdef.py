"""What defines an op: shape inference, numpy semantics and `Work`, one small function each, side by side.

Parameters that ONNX passes as constant integer inputs (axes, shapes, slice bounds) are attributes here:
`OpDef.params` says which input position becomes which attribute when a file is imported. After import an
op's inputs are therefore data only, and its shape follows from input types and attributes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.sim.ir.graph import Attr, Kind, Node, TensorType, Value
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.work import Operand, Vector, Work, WorkKind

Arr = NDArray[Any]
Attrs = Mapping[str, Attr]
Types = Sequence[TensorType | None]
Arrays = Sequence[Arr | None]
Infer = Callable[[Types, Attrs], tuple[TensorType, ...]]
Reference = Callable[[Arrays, Attrs, Arithmetic], tuple[Arr, ...]]
WorkOf = Callable[[Node], Work]


@dataclass(frozen=True)
class OpDef:
    """One op. `params`: input position -> attribute name, see the module text. `random`: every run gives
    other numbers, so that the op is never folded and no reference can be compared with it."""

    infer: Infer
    reference: Reference
    work: WorkOf
    params: Mapping[int, str] = field(default_factory=dict)
    random: bool = False


class ShapeError(UserError):
    """Operand shapes or attributes that the op does not allow; the importer adds the node's name."""


def int_attr(attrs: Attrs, name: str, default: int | None = None) -> int:
    """An integer attribute.

    Raises:
        ShapeError: it is missing and has no default.
    """
    value = attrs.get(name, default)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, int):
        return int(value)
    raise ShapeError(f"attribute '{name}' must be an integer, not {value!r}")


def ints_attr(attrs: Attrs, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """A tuple of integers (a single one is accepted)."""
    value = attrs.get(name)
    if value is None and default is not None:
        return tuple(default)
    if isinstance(value, int):
        return (value,)
    if isinstance(value, tuple):
        return tuple(int(v) for v in value)
    raise ShapeError(f"attribute '{name}' must be a list of integers, not {value!r}")


def float_attr(attrs: Attrs, name: str, default: float) -> float:
    """A number."""
    value = attrs.get(name, default)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, int | float):
        return float(value)
    raise ShapeError(f"attribute '{name}' must be a number, not {value!r}")


def str_attr(attrs: Attrs, name: str, default: str = "") -> str:
    """A string."""
    value = attrs.get(name, default)
    if isinstance(value, str):
        return value
    raise ShapeError(f"attribute '{name}' must be a string, not {value!r}")


def need(types: Types, index: int) -> TensorType:
    """Input `index`, which must be present."""
    if index < len(types):
        found = types[index]
        if found is not None:
            return found
    raise ShapeError(f"input {index} is missing")


def have(arrays: Arrays, index: int) -> Arr:
    """Array `index`, which must be present."""
    found = maybe(arrays, index)
    if found is None:
        raise ShapeError(f"input {index} is missing")
    return found


def maybe(arrays: Arrays, index: int) -> Arr | None:
    """Array `index` or None."""
    return arrays[index] if index < len(arrays) else None


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis.

    Raises:
        ShapeError: out of range.
    """
    if not -rank <= axis < max(rank, 1):
        raise ShapeError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Numpy broadcasting of shapes.

    Raises:
        ShapeError: they do not broadcast.
    """
    rank = max(len(s) for s in shapes)
    out = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            if out[i] == 1:
                out[i] = d
            elif d not in (1, out[i]):
                raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
    return tuple(out)


def reshaped(type: TensorType, shape: tuple[int, ...]) -> TensorType:
    """The same elements' format in another shape."""
    return replace(type, shape=shape)


def same(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    """Shape rule of a unary elementwise op."""
    return (need(types, 0),)


BOOL = TensorType((), Kind.BOOL, 8)
INT64 = TensorType((), Kind.INT, 64)


# --- Work helpers -----------------------------------------------------------------------------------


def operand(value: Value, touched: int = -1, fills: tuple[str, ...] = ()) -> Operand:
    """A value as an operand of `Work`."""
    t = value.type
    return Operand(t.elements, t.bits, t.kind, value.role, touched, fills)


def reads(node: Node, roles: Mapping[str, int] | None = None) -> tuple[Operand, ...]:
    """Every present input once, whole, with the roles (name -> input position) that it fills."""
    fills: dict[Value, list[str]] = {}
    for role, at in (roles or {}).items():
        value = node.inputs[at] if at < len(node.inputs) else None
        if value is not None:
            fills.setdefault(value, []).append(role)
    present = (v for v in dict.fromkeys(node.inputs) if v is not None)
    return tuple(operand(v, fills=tuple(fills.get(v, ()))) for v in present)


def writes(node: Node) -> tuple[Operand, ...]:
    """Every output, whole."""
    return tuple(operand(v) for v in node.outputs)


def rows_cols(shape: tuple[int, ...]) -> tuple[int, int]:
    """A tensor as rows x cols: the last axis is the row."""
    if not shape:
        return 1, 1
    return math.prod(shape[:-1]), shape[-1]


def vector_work(
    node: Node,
    per_element: Mapping[str, int],
    *,
    per_row: Mapping[str, int] | None = None,
    shape: tuple[int, ...] | None = None,
    reduces: bool = False,
) -> Work:
    """VECTOR work over `shape` (default: the first output) with op counts per element and per row."""
    rows, cols = rows_cols(node.outputs[0].type.shape if shape is None else shape)
    ops = count_ops(rows, cols, per_element, per_row)
    return Work(node.op, WorkKind.VECTOR, reads(node), writes(node), vector=Vector(rows, cols, ops, reduces))


def count_ops(
    rows: int, cols: int, per_element: Mapping[str, int], per_row: Mapping[str, int] | None = None
) -> tuple[tuple[str, int], ...]:
    """Total counts by kind, sorted by kind."""
    row = per_row or {}
    kinds = sorted({*per_element, *row})
    return tuple((k, rows * cols * per_element.get(k, 0) + rows * row.get(k, 0)) for k in kinds)


def move_work(node: Node, touched: int = -1) -> Work:
    """MOVE work: `touched` elements of the first input are read (default: as many as are written)."""
    moved = sum(v.type.elements for v in node.outputs) if touched < 0 else touched
    first, *rest = (v for v in node.inputs if v is not None)
    ins = (operand(first, min(moved, first.type.elements)), *(operand(v) for v in rest))
    return Work(node.op, WorkKind.MOVE, ins, writes(node))


def view_work(node: Node) -> Work:
    """VIEW work: a new shape on the same bytes."""
    return Work(node.op, WorkKind.VIEW, reads(node), writes(node))


def as_float(x: Arr) -> Arr:
    """Floating-point working copy: float16 and narrower are widened to float32, float64 stays."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def like(x: Arr, reference: Arr) -> Arr:
    """`x` in the element type of `reference`."""
    return x if x.dtype == reference.dtype else x.astype(reference.dtype)
