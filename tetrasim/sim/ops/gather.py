"""Rows picked or placed by index. Gathers read as many elements as they write, plus the indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import Node, Role, TensorType, Value
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.movement import is_contiguous
from tetrasim.sim.ops.opdef import (
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    axis_of,
    have,
    int_attr,
    ints_attr,
    maybe,
    need,
    operand,
    reads,
    reshaped,
    str_attr,
    view_work,
    writes,
)
from tetrasim.sim.ops.work import Work, WorkKind


def _gather_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, index = need(types, 0), need(types, 1)
    axis = axis_of(int_attr(attrs, "axis", 0), len(x.shape))
    return (reshaped(x, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])),)


def _wrapped(index: Arr, size: int) -> Arr:
    if index.size and (index.max() >= size or index.min() < -size):
        raise ShapeError(f"index {int(index.max())} is out of range for {size} rows")
    return index


def _gather(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, index = have(arrays, 0), have(arrays, 1)
    axis = axis_of(int_attr(attrs, "axis", 0), x.ndim)
    return (np.take(x, _wrapped(index, x.shape[axis]), axis=axis),)


def _pick_work(node: Node) -> Work:
    """GATHER: the source is touched once per element written, in runs of `picked_run` elements."""
    if int_attr(node.attrs, "absorbed", 0):
        return view_work(node)  # what reads the rows picks them
    source, *rest = (v for v in node.inputs if v is not None)
    picked = min(node.outputs[0].type.elements, source.type.elements)
    ins = (operand(source, picked), *(operand(v) for v in rest))
    return Work(node.op, WorkKind.GATHER, ins, writes(node), run=picked_run(node))


def picked_run(node: Node) -> int:
    """Elements that one index picks or places and that lie side by side in memory."""
    source, index = node.inputs[0], node.inputs[1]
    assert source is not None
    assert index is not None
    shape = source.type.shape
    layout = ints_attr(node.attrs, "layout", tuple(range(len(shape))))
    if node.op in ("GatherND", "ScatterND"):
        indexed = layout[: int_attr(node.attrs, "batch_dims", 0) + index.type.shape[-1]]
        inner = shape[max(indexed, default=-1) + 1 :]
    elif node.op == "ScatterElements" and "layout" not in node.attrs:
        inner = _rows_of_one_index(node)
    elif node.op == "Gather":
        inner = shape[axis_of(int_attr(node.attrs, "axis", 0), len(shape)) + 1 :]
    else:
        inner = ()
    return max(math.prod(inner), 1)


def _rows_of_one_index(node: Node) -> tuple[int, ...]:
    """The last axes that a scatter fills whole, with one index for all of their elements."""
    data, index, new = (v.type.shape for v in node.inputs[:3] if v is not None)
    first = len(data) if len(data) == len(index) == len(new) else 0
    while first and index[first - 1] == 1 and new[first - 1] == data[first - 1]:
        first -= 1
    axis = axis_of(int_attr(node.attrs, "axis", 0), len(data))
    return data[max(first, axis + 1) :]


def _gather_work(node: Node) -> Work:
    """One constant index is a slice: a view when its bytes are one run, else a strided copy."""
    source, index = node.inputs[0], node.inputs[1]
    assert source is not None
    assert index is not None
    axis = axis_of(int_attr(node.attrs, "axis", 0), len(source.type.shape))
    if index.role is Role.CONSTANT and index.type.elements == 1:
        part = (*source.type.shape[:axis], 1, *source.type.shape[axis + 1 :])
        if is_contiguous(source.type.shape, part):
            return view_work(node)
        return Work(node.op, WorkKind.MOVE, (operand(source, node.outputs[0].type.elements),), writes(node))
    return _pick_work(node)


def _elements_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    x, index = need(types, 0), need(types, 1)
    if len(x.shape) != len(index.shape):
        raise ShapeError(f"data has rank {len(x.shape)} and indices {len(index.shape)}")
    return (reshaped(x, index.shape),)


def _gather_elements(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, index = have(arrays, 0), have(arrays, 1)
    axis = axis_of(int_attr(attrs, "axis", 0), x.ndim)
    grid: list[Arr] = list(np.indices(index.shape, sparse=True))
    grid[axis] = _wrapped(index, x.shape[axis])
    return (x[tuple(grid)],)


def _nd_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    x, index = need(types, 0), need(types, 1)
    lead = int_attr(attrs, "batch_dims", 0)
    depth = index.shape[-1]
    if lead + depth > len(x.shape):
        raise ShapeError(f"indices of depth {depth} for rank {len(x.shape)}")
    return (reshaped(x, (*index.shape[:-1], *x.shape[lead + depth :])),)


def _gather_nd(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, index = have(arrays, 0), have(arrays, 1)
    lead = int_attr(attrs, "batch_dims", 0)
    shape = index.shape
    batch = np.indices(shape[:lead]).reshape(lead, *shape[:lead], *(1,) * (len(shape) - 1 - lead))
    picks = (*batch, *(index[..., i] for i in range(shape[-1])))
    return (x[picks],)


def _scatter_work(node: Node) -> Work:
    """Rows are written over the data, in place where nothing else needs the old data (`in_place`, set by the
    pass of that name), else over a copy of them. What is combined with the old rows reads them first."""
    data, index, new = node.inputs[:3]
    assert data is not None
    assert index is not None
    assert new is not None
    run = picked_run(node)
    if not int_attr(node.attrs, "in_place", 0):
        return Work(node.op, WorkKind.GATHER, reads(node), writes(node), run=run)
    touched = min(new.type.elements, data.type.elements)
    rows = (operand(data, touched),) if str_attr(node.attrs, "reduction", "none") != "none" else ()
    ins = (*rows, operand(index), operand(new))
    return Work(node.op, WorkKind.GATHER, ins, (operand(node.outputs[0], touched),), run=run)


def written_rows(node: Node) -> Value | None:
    """The rows that a node writes into a tensor that stays where it is; None: it makes all of its result."""
    if node.op in ("KVAppend", "TensorScatter"):
        return node.inputs[1]
    if node.op in ("ScatterND", "ScatterElements") and int_attr(node.attrs, "in_place", 0):
        return node.inputs[2]
    return None


def _combine(kind: str) -> Callable[[Arr, tuple[Arr, ...], Arr], None]:
    table: dict[str, Callable[..., None]] = {
        "add": np.add.at,
        "mul": np.multiply.at,
        "max": np.maximum.at,
        "min": np.minimum.at,
    }
    if kind == "none":
        return lambda out, where, new: out.__setitem__(where, new)
    if kind not in table:
        raise ShapeError(f"scatter reduction '{kind}' is not supported")
    return table[kind]


def _data_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    need(types, 1), need(types, 2)
    return (need(types, 0),)


def _scatter_elements(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, index, new = have(arrays, 0), have(arrays, 1), have(arrays, 2)
    layout = ints_attr(attrs, "layout", tuple(range(x.ndim)))
    axis = axis_of(int_attr(attrs, "axis", 0), x.ndim)
    # One index may stand for a whole row of updates (the pass `indexed` drops what repeats it).
    grid: list[Arr] = list(np.indices(new.shape, sparse=True))
    grid[axis] = np.broadcast_to(_wrapped(index, x.shape[layout[axis]]), new.shape)
    out = x.copy()
    _combine(str_attr(attrs, "reduction", "none"))(out.transpose(layout), tuple(grid), new)
    return (out,)


def _scatter_nd(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x, index, new = have(arrays, 0), have(arrays, 1), have(arrays, 2)
    out = x.copy()
    where = tuple(index[..., i] for i in range(index.shape[-1]))
    layout = ints_attr(attrs, "layout", tuple(range(x.ndim)))
    _combine(str_attr(attrs, "reduction", "none"))(out.transpose(layout), where, new)
    return (out,)


def _tensor_scatter(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """New rows written into a cache of fixed size, per sequence from its own place on; `circular` wraps."""
    past, new, start = have(arrays, 0), have(arrays, 1), maybe(arrays, 2)
    axis = axis_of(int_attr(attrs, "axis", -2), past.ndim)
    places = np.zeros(past.shape[0], dtype=np.int64) if start is None else start.astype(np.int64)
    out = past.copy()
    for row, first in enumerate(places):
        index = first + np.arange(new.shape[axis])
        if str_attr(attrs, "mode", "linear") == "circular":
            index = index % past.shape[axis]
        elif index.size and index[-1] >= past.shape[axis]:
            raise ShapeError(f"rows up to {int(index[-1])} do not fit into a cache of {past.shape[axis]}")
        out[row][(slice(None),) * (axis - 1) + (index,)] = new[row]
    return (out,)


def _tensor_scatter_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    past, new = need(types, 0), need(types, 1)
    axis = axis_of(int_attr(attrs, "axis", -2), len(past.shape))
    fits = len(past.shape) == len(new.shape) and axis > 0
    if not fits or any(
        a != b for i, (a, b) in enumerate(zip(past.shape, new.shape, strict=True)) if i != axis
    ):
        raise ShapeError(f"rows {new.shape} do not fit into a cache {past.shape} along axis {axis}")
    return (past,)


def _cache_work(node: Node) -> Work:
    """Only the new rows are read and written: the cache stays where it is."""
    _, new, *rest = node.inputs
    assert new is not None
    out = replace(operand(node.outputs[0]), touched_elements=new.type.elements)
    return Work(node.op, WorkKind.MOVE, tuple(operand(v) for v in (new, *rest) if v is not None), (out,))


def _reverse_sequence(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    """The first `length` steps of every sequence turned round; what follows them stays."""
    x, lengths = have(arrays, 0), have(arrays, 1)
    time, batch = int_attr(attrs, "time_axis", 0), int_attr(attrs, "batch_axis", 1)
    moved = np.moveaxis(x, (batch, time), (0, 1)).copy()
    for row, length in enumerate(lengths):
        moved[row, :length] = moved[row, :length][::-1]
    return (np.moveaxis(moved, (0, 1), (batch, time)),)


def _first_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    need(types, 1)
    return (need(types, 0),)


def _one_hot_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    index, values = need(types, 0), need(types, 1)
    rank = len(index.shape) + 1
    axis = axis_of(int_attr(attrs, "axis", -1), rank)
    shape = (*index.shape[:axis], int_attr(attrs, "depth"), *index.shape[axis:])
    return (reshaped(values, shape),)


def _one_hot(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    index, values = have(arrays, 0).astype(np.int64), have(arrays, 1)
    depth = int_attr(attrs, "depth")
    axis = axis_of(int_attr(attrs, "axis", -1), index.ndim + 1)
    classes = np.arange(depth).reshape(-1, *(1,) * (index.ndim - axis))
    hot = np.expand_dims(np.where(index < 0, index + depth, index), axis) == classes
    return (np.where(hot, values[1], values[0]).astype(values.dtype),)


def _one_hot_work(node: Node) -> Work:
    return Work(node.op, WorkKind.GATHER, reads(node), writes(node))


OPS = {
    "Gather": OpDef(_gather_type, _gather, _gather_work),
    "GatherElements": OpDef(_elements_type, _gather_elements, _pick_work),
    "GatherND": OpDef(_nd_type, _gather_nd, _pick_work),
    "ScatterElements": OpDef(_data_type, _scatter_elements, _scatter_work),
    "ScatterND": OpDef(_data_type, _scatter_nd, _scatter_work),
    "TensorScatter": OpDef(_tensor_scatter_type, _tensor_scatter, _cache_work),
    "ReverseSequence": OpDef(_first_type, _reverse_sequence, _pick_work),
    "OneHot": OpDef(_one_hot_type, _one_hot, _one_hot_work, params={1: "depth"}),
}
