"""Ops that make tensors out of shapes and scalars. In a static graph they are always folded at import;
their `Work` exists only for graphs built by hand, and is the bytes they write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tetrasim.sim.ir.graph import TensorType
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.dtypes import numpy_dtype, parse_dtype
from tetrasim.sim.ops.opdef import (
    INT64,
    Arr,
    Arrays,
    Attrs,
    OpDef,
    ShapeError,
    Types,
    have,
    int_attr,
    ints_attr,
    move_work,
    need,
    reshaped,
    str_attr,
)


def _bounds(rank: int, attrs: Attrs) -> slice:
    return slice(int_attr(attrs, "start", 0), int_attr(attrs, "end", rank))


def _shape_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    rank = len(need(types, 0).shape)
    return (reshaped(INT64, (len(range(rank)[_bounds(rank, attrs)]),)),)


def _shape(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    return (np.array(x.shape[_bounds(x.ndim, attrs)], dtype=np.int64),)


def _size_type(types: Types, _: Attrs) -> tuple[TensorType, ...]:
    need(types, 0)
    return (INT64,)


def _size(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    return (np.array(have(arrays, 0).size, dtype=np.int64),)


def _range_type(_types: Types, _: Attrs) -> tuple[TensorType, ...]:
    raise ShapeError("the length of a Range depends on run-time data")


def _range(arrays: Arrays, _attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    start, limit, step = (have(arrays, i) for i in range(3))
    return (np.arange(start.item(), limit.item(), step.item()).astype(start.dtype),)


def _fill_type(_types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    return (replace(parse_dtype(str_attr(attrs, "dtype", "float32")), shape=ints_attr(attrs, "shape")),)


def _fill(_arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    (out,) = _fill_type((), attrs)
    value = attrs.get("value", 0)
    return (np.full(out.shape, value, dtype=numpy_dtype(out)),)


def _eye_type(types: Types, attrs: Attrs) -> tuple[TensorType, ...]:
    first = need(types, 0)
    return (reshaped(parse_dtype(str_attr(attrs, "dtype")), first.shape) if "dtype" in attrs else first,)


def _eye(arrays: Arrays, attrs: Attrs, _: Arithmetic) -> tuple[Arr, ...]:
    x = have(arrays, 0)
    dtype = numpy_dtype(parse_dtype(str_attr(attrs, "dtype"))) if "dtype" in attrs else x.dtype
    return (np.eye(x.shape[0], x.shape[1], k=int_attr(attrs, "k", 0), dtype=dtype),)


OPS = {
    "Shape": OpDef(_shape_type, _shape, move_work),
    "Size": OpDef(_size_type, _size, move_work),
    "Range": OpDef(_range_type, _range, move_work),
    "ConstantOfShape": OpDef(_fill_type, _fill, move_work, params={0: "shape"}),
    "EyeLike": OpDef(_eye_type, _eye, move_work),
}
