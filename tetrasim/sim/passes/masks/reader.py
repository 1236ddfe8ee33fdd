"""From a value back through nodes and folded constants to what it holds (see `symbols.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tetrasim.sim.ir.graph import Array, Data, Kind, TensorType, Value
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.passes.contract import Match
from tetrasim.sim.passes.masks.numbers import BINARY, UNARY, floored
from tetrasim.sim.passes.masks.shapes import SHAPED
from tetrasim.sim.passes.masks.symbols import (
    NOTHING,
    Arr,
    Cases,
    Lin,
    Rem,
    Unread,
    Vec,
    combined,
    spans,
)


def read_symbols(match: Match, value: Value) -> Cases:
    """The cases of a value that does not depend on inputs.

    Raises:
        Unread: it does, or an operation is not understood.
    """
    return _Reader(match).value(value)


class _Reader:
    """Walks back from a value through nodes and through constants that were folded."""

    def __init__(self, match: Match) -> None:
        self._match = match
        self._known: dict[int, Cases] = {}

    def value(self, value: Value) -> Cases:
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = self._value(value)
        return found

    def _value(self, value: Value) -> Cases:
        if value.data is not None:
            return self.data(value.data)
        node = self._match.producer(value)
        if node is None:
            raise Unread(f"it depends on '{value.name}', which is known at run time only")
        inputs = [self.value(v) for v in node.inputs if v is not None]
        return _apply(node.op, inputs, node.attrs, node.outputs[0].type)

    def data(self, data: Data) -> Cases:
        found = self._known.get(id(data))
        if found is None:
            if isinstance(data, Folded):
                found = _apply(data.op, [self.data(d) for d in data.inputs], data.attrs, data.type)
            else:
                found = leaf(data.load() if not isinstance(data, Array) else data.array)
            self._known[id(data)] = found
        return found


def leaf(array: Arr) -> Cases:
    """A small constant: a number, a count along one axis, or a vector."""
    array = np.asarray(array)
    flat = array.reshape(-1)
    if array.size and (flat == flat[0]).all():
        return Cases(array.shape, (), _number(flat[0]))
    wide = [i for i, d in enumerate(array.shape) if d != 1]
    if len(wide) != 1:
        raise Unread(f"a constant of shape {array.shape} is listed element by element")
    axis = wide[0] - array.ndim
    if array.dtype == bool:
        return Cases(array.shape, ((spans(axis, flat), True),), False)
    step = flat[1] - flat[0]
    whole = step == int(step) and flat[0] == int(flat[0])
    if whole and np.array_equal(flat, flat[0] + step * np.arange(flat.size)):
        return Cases(array.shape, (), Lin((((axis, 0, 1), int(step)),), int(flat[0])))
    return Cases(array.shape, (), _steps(axis, flat) or Vec(axis, flat))


def _steps(axis: int, flat: Arr) -> Lin | Rem | None:
    """Numbers that grow by one every `unit` elements, or that start again every `by`."""
    count = np.arange(flat.size)
    if (flat != np.floor(flat)).any():
        return None
    rises, falls = np.flatnonzero(np.diff(flat) > 0) + 1, np.flatnonzero(np.diff(flat) < 0) + 1
    if rises.size:
        unit = int(rises[1] - rises[0]) if rises.size > 1 else max(int(rises[0]), flat.size - int(rises[0]))
        offset = unit - int(rises[0])
        if 0 <= offset < unit and np.array_equal(flat, flat[0] + (count + offset) // unit):
            return Lin((((axis, offset, unit), 1),), int(flat[0]))
    if falls.size:
        by = int(flat[falls[0] - 1]) + 1
        if by > 0 and np.array_equal(flat, (count + flat[0]) % by):
            return Rem(Lin((((axis, 0, 1), 1),), int(flat[0])), by)
    return None


def _number(x: Any) -> bool | float:
    return bool(x) if isinstance(x, np.bool_) else float(x)


def _apply(op: str, inputs: Sequence[Cases], attrs: Any, type: TensorType) -> Cases:
    if op in SHAPED:
        return SHAPED[op](inputs[0], attrs)
    if op in BINARY:
        out = inputs[0]
        for other in inputs[1:]:
            out = combined(out, other, BINARY[op])
        whole = op == "Div" and type.kind in (Kind.INT, Kind.UINT)
        return combined(out, NOTHING, floored) if whole else out
    if op in UNARY:
        return combined(inputs[0], NOTHING, lambda a, _: UNARY[op](a, attrs))
    if op == "ConstantOfShape":
        return Cases(type.shape, (), float(attrs.get("value", 0)))
    if op == "Where":
        chosen = combined(inputs[1], inputs[2], _Pair)
        return combined(inputs[0], chosen, _picked)
    raise Unread(f"operation {op} is not understood")


@dataclass(frozen=True, slots=True)
class _Pair:
    yes: Any
    no: Any


def _picked(condition: Any, pair: Any) -> Any:
    if not isinstance(condition, bool | float):
        raise Unread("a choice by a number that is not known")
    return pair.yes if condition else pair.no
