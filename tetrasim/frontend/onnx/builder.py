"""Building a graph node by node, folding what is known.

`Builder.emit` is the one entry: it turns constant integer inputs into attributes (`OpDef.params`), evaluates
what depends on constants only, keeps computations on weights as lazy data, drops no-ops, and appends a
node with inferred output types for everything else. No shape arithmetic survives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError
from tetrasim.frontend.onnx.bounds import check_types
from tetrasim.sim.ir.graph import Array, Attr, Kind, Node, Role, Source, TensorType, Value
from tetrasim.sim.ops.dtypes import type_of
from tetrasim.sim.ops.folded import Folded
from tetrasim.sim.ops.opdef import OpDef, ShapeError, ints_attr, reshaped
from tetrasim.sim.ops.registry import find_op
from tetrasim.sim.ops.rounding import EXACT

_NOWHERE = Source()
# What attributes and shapes of a damaged or hostile file provoke in arithmetic on them
MALFORMED = (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError)
_TABLE_ELEMENTS = 1 << 16  # a table computed from small weights (rotary angles) may be larger than they are
EAGER_ELEMENTS = 1 << 22  # larger constants are evaluated when asked for
_KEEP_ON_WEIGHTS = ("Gather", "GatherElements", "GatherND", "Identity")


@dataclass
class Builder:
    """Mutable while a graph is built; `nodes` is the result."""

    nodes: list[Node] = field(default_factory=list)
    turned: dict[Value, tuple[Value, tuple[int, ...]]] = field(default_factory=dict)  # folded transposes
    names: dict[str, int] = field(default_factory=dict)  # value names in use, with the next suffix to try
    taken: dict[str, int] = field(default_factory=dict)  # the same for node names
    sequences: dict[str, tuple[Value, ...]] = field(default_factory=dict)  # ONNX sequences, unrolled
    assumptions: list[str] = field(default_factory=list)  # see `Graph.assumptions`

    def fresh(self, name: str) -> str:
        """A value name that is not in use, near `name`."""
        return _unused(name, self.names)

    def constant(self, name: str, array: NDArray[Any], type: TensorType | None = None) -> Value:
        """A known small tensor."""
        shape = type_of(array) if type is None else type
        return Value(self.fresh(name), shape, Role.CONSTANT, Array(array))

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[str],
        attrs: Mapping[str, Attr],
        source: Source = _NOWHERE,
        name: str = "",
    ) -> tuple[Value, ...]:
        """Values of the op's outputs (an unwanted one is named "").

        Raises:
            UserError: unsupported op, shapes that do not fit, or a shape that depends on run-time data.
        """
        where = f"node '{name or op}'"
        definition = find_op(op, where)
        try:
            given, known = split_params(definition, inputs, attrs)
            folded = self._fold(op, definition, given, outputs, known)
            if folded is not None:
                return folded
            data, known = self._fold_transpose(op, given, known)
            types = definition.infer([None if v is None else v.type for v in data], known)
            check_types(types)
            alias = no_op(op, data, types, known)
            if alias is not None:
                return (alias,)
            return self.append(op, data, outputs, types, pin(op, types, known), source, name)
        except MALFORMED as error:
            raise UserError(f"{op} is malformed: {error}", where=where) from error
        except ShapeError as error:
            shapes = ", ".join("-" if v is None else f"{v.name}: {v.type}" for v in inputs)
            raise UserError(f"{op}({shapes}): {error.what}", where=where, hint=error.hint) from error

    def append(
        self,
        op: str,
        data: Sequence[Value | None],
        outputs: Sequence[str],
        types: Sequence[TensorType],
        attrs: Mapping[str, Attr],
        source: Source,
        name: str,
    ) -> tuple[Value, ...]:
        """Append a node whose output types are known; the values of its outputs up to the last named one.

        Raises:
            ShapeError: more outputs than types.
        """
        if len(outputs) > len(types):
            raise ShapeError(f"{len(outputs)} outputs are asked for, the op has {len(types)}")
        wanted = max((i + 1 for i, n in enumerate(outputs) if n), default=1)
        values = tuple(
            Value(self.fresh(n or f"{outputs[0]}.{i}"), t)
            for i, (n, t) in enumerate(zip(outputs[:wanted], types, strict=False))
        )
        while data and data[-1] is None:
            data = data[:-1]
        self.nodes.append(Node(_unused(name or op, self.taken), op, tuple(data), values, attrs, source))
        return values

    def _fold(
        self,
        op: str,
        definition: OpDef,
        data: Sequence[Value | None],
        outputs: Sequence[str],
        attrs: Mapping[str, Attr],
    ) -> tuple[Value, ...] | None:
        present = [v for v in data if v is not None]
        if op in ("Shape", "Size"):
            x = np.broadcast_to(np.zeros((), np.int8), present[0].type.shape)
            (out,) = definition.reference([x], attrs, EXACT)
            return (self.constant(outputs[0], out),)
        if definition.random or any(v.role not in (Role.CONSTANT, Role.WEIGHT) for v in present):
            return None
        if any(v.role is Role.WEIGHT for v in present):
            return self._fold_weights(op, definition, data, outputs, attrs)
        arrays = [None if v is None else known_array(v) for v in data]
        if any(v is not None and a is None for v, a in zip(data, arrays, strict=True)):
            return self._fold_weights(op, definition, data, outputs, attrs)
        if op == "Range":
            start, limit, step = (float(np.asarray(a).reshape(-1)[0]) for a in arrays if a is not None)
            if step == 0 or not (limit - start) / step <= EAGER_ELEMENTS:
                raise ShapeError(f"a range from {start:g} to {limit:g} by {step:g}")
        else:
            types = definition.infer([None if v is None else v.type for v in data], attrs)
            check_types(types)
            if max(t.elements for t in types) > EAGER_ELEMENTS:
                return self._fold_weights(op, definition, data, outputs, attrs)
        results = [np.asarray(r) for r in definition.reference(arrays, attrs, EXACT)]
        if op == "Range":
            types = tuple(type_of(r) for r in results)
        return tuple(
            self.constant(n or f"{outputs[0]}.{i}", r, t)
            for i, (n, r, t) in enumerate(zip(outputs, results, types, strict=False))
        )

    def _fold_weights(
        self,
        op: str,
        definition: OpDef,
        data: Sequence[Value | None],
        outputs: Sequence[str],
        attrs: Mapping[str, Attr],
    ) -> tuple[Value, ...] | None:
        """Weights computed from weights, lazily; None when that would pick rows or grow the weights."""
        if op in _KEEP_ON_WEIGHTS or any(v is None for v in data):
            return None
        present = [v for v in data if v is not None]
        types = definition.infer([v.type for v in present], attrs)
        check_types(types)
        role = Role.WEIGHT if any(v.role is Role.WEIGHT for v in present) else Role.CONSTANT
        size = sum(t.elements for t in types)
        if role is Role.WEIGHT and size > max(_TABLE_ELEMENTS, sum(v.type.elements for v in present)):
            return None
        sources = [v.data for v in present]
        made = []
        for i, (name, type) in enumerate(zip(outputs, types, strict=False)):
            known = [s for s in sources if s is not None]
            data_i = Folded(op, tuple(known), attrs, i, type) if len(known) == len(sources) else None
            made.append(Value(self.fresh(name or f"{outputs[0]}.{i}"), type, role, data_i))
        if op == "Transpose":
            perm = ints_attr(attrs, "perm", tuple(reversed(range(len(types[0].shape)))))
            self.turned[made[0]] = (present[0], perm)
        return tuple(made)

    def _fold_transpose(
        self, op: str, data: Sequence[Value | None], attrs: Mapping[str, Attr]
    ) -> tuple[Sequence[Value | None], Mapping[str, Attr]]:
        """MatMul(x, Transpose(w)) -> MatMul(x, w, transB): the stored weight is the one that is counted."""
        if op not in ("MatMul", "Gemm") or len(data) < 2 or data[1] not in self.turned:
            return data, attrs
        assert data[1] is not None
        weight, perm = self.turned[data[1]]
        rank = len(perm)
        if perm != (*range(rank - 2), rank - 1, rank - 2):
            return data, attrs
        turn = 1 - int(bool(attrs.get("transB", 0)))
        rest = {k: v for k, v in attrs.items() if k != "transB"}
        return [data[0], weight, *data[2:]], ({**rest, "transB": 1} if turn else rest)


def _unused(name: str, taken: dict[str, int]) -> str:
    candidate = name
    while candidate in taken:
        taken[name] = taken.get(name, 0) + 1
        candidate = f"{name}.{taken[name]}"
    taken[candidate] = 0
    return candidate


def known_array(value: Value) -> NDArray[Any] | None:
    """The numbers of a constant that is held in memory."""
    return value.data.array if isinstance(value.data, Array) else None


def data_of(value: Value) -> NDArray[Any] | None:
    """The numbers of a constant or a weight, read now."""
    return None if value.data is None else np.asarray(value.data.load())


def split_params(
    definition: OpDef, inputs: Sequence[Value | None], attrs: Mapping[str, Attr]
) -> tuple[list[Value | None], Mapping[str, Attr]]:
    """Constant parameter inputs become attributes.

    Raises:
        ShapeError: a parameter depends on run-time data.
    """
    if not definition.params:
        return list(inputs), attrs
    data: list[Value | None] = []
    known = dict(attrs)
    for i, value in enumerate(inputs):
        if i not in definition.params:
            data.append(value)
            continue
        if value is None:
            continue
        array = known_array(value)
        if array is None:
            raise ShapeError(
                f"its {definition.params[i]} ('{value.name}') is computed at run time",
                hint="shapes must be static: bind every dim, export without data-dependent shapes",
            )
        known[definition.params[i]] = tuple(int(x) for x in array.reshape(-1))
    return data, known


def pin(op: str, types: Sequence[TensorType], attrs: Mapping[str, Attr]) -> Mapping[str, Attr]:
    """Attributes without wildcards: the shape of a Reshape is the shape it has."""
    if op in ("Reshape", "Expand"):
        shape = types[0].shape
        return {"shape": shape, "allowzero": 1} if 0 in shape else {"shape": shape}
    return attrs


_MAY_BE_NOTHING = (
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Expand",
    "Concat",
    "Slice",
    "Tile",
    "Pad",
)


def no_op(
    op: str, data: Sequence[Value | None], types: Sequence[TensorType], attrs: Mapping[str, Attr]
) -> Value | None:
    """The input that the op returns unchanged, if it does."""
    present = [v for v in data if v is not None]
    if op == "Identity":
        return present[0]
    if op in _MAY_BE_NOTHING and len(present) == 1 and present[0].type == types[0]:
        return None if _moves_in_place(op, attrs) else present[0]
    if op == "Transpose":
        perm = ints_attr(attrs, "perm", tuple(reversed(range(len(types[0].shape)))))
        return present[0] if perm == tuple(range(len(perm))) else None
    return None


def _moves_in_place(op: str, attrs: Mapping[str, Attr]) -> bool:
    """True when the op gives elements other places although the shape stays."""
    if op == "Slice":
        return any(s < 0 for s in ints_attr(attrs, "steps", (1,)))
    return op == "Pad" and any(ints_attr(attrs, "pads"))


def scalar_of(value: Value | None) -> float | None:
    """The number of a one-element float or integer constant."""
    if value is None or value.type.elements != 1 or value.data is None:
        return None
    return float(value.data.load().reshape(-1)[0])


__all__ = ["Builder", "Folded", "Kind", "known_array", "reshaped", "scalar_of"]
