"""Seeded inputs for a graph, the same for the same graph and seed, in the types that the file states.

Ids lie within the smallest table that they index, integers of 8 and 16 bits span their whole range (pictures,
sound), wider ones that index nothing are zeros and ones (masks, segments, flags). Floats are normal numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.ir.graph import Graph, Kind, Value
from tetrasim.sim.ops.dtypes import in_float_format, numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

Feeds = dict[str, "NDArray[np.generic]"]
_WHOLE_RANGE_BITS = 16
# Which input of an op holds indices, and along which axis of its first input they count.
_INDEX_INPUT = {
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "ScatterElements": 1,
    "ScatterND": 1,
    "TensorScatter": 2,
}


def seeded_feeds(graph: Graph, seed: int = 0) -> Feeds:
    """Inputs for every graph input; floats narrower than 32 bits are carried as float32, rounded."""
    rng = np.random.default_rng(seed)
    return {value.name: _feed(graph, value, rng) for value in graph.inputs}


def _feed(graph: Graph, value: Value, rng: np.random.Generator) -> NDArray[np.generic]:
    kind, bits, shape = value.type.kind, value.type.bits, value.type.shape
    if kind is Kind.BOOL:
        return np.ones(shape, dtype=bool)
    if kind in (Kind.INT, Kind.UINT):
        dtype = numpy_dtype(value.type)
        if "mask" in value.name:
            return np.ones(shape, dtype=dtype)
        low, high = _integers(graph, value)
        return rng.integers(low, high, size=shape, dtype=np.int64).astype(dtype)
    drawn: NDArray[np.generic] = rng.standard_normal(shape).astype(np.float32)
    if bits == 64:
        return drawn.astype(np.float64)
    return drawn if bits == 32 else in_float_format(drawn, value.type)


def _integers(graph: Graph, value: Value) -> tuple[int, int]:
    """The half-open range of the integers of an input."""
    bound = index_bound(graph, value)
    bits = value.type.bits
    if bound is not None or bits > _WHOLE_RANGE_BITS:
        return 0, 2 if bound is None else max(bound, 1)
    return (-(1 << (bits - 1)), 1 << (bits - 1)) if value.type.kind is Kind.INT else (0, 1 << bits)


def index_bound(graph: Graph, value: Value) -> int | None:
    """The smallest axis that `value` may index (through reshapes, casts and arithmetic), None when none."""
    bound: int | None = None
    todo, seen = [value], {value}
    while todo:
        here = todo.pop()
        for i in graph.consumers.get(here, ()):
            node = graph.nodes[i]
            at, table = _INDEX_INPUT.get(node.op), node.inputs[0]
            if at is not None and table is not None and len(node.inputs) > at and node.inputs[at] is here:
                axis = node.attrs.get("axis", 0)
                size = table.type.shape[axis if isinstance(axis, int) else 0] if table.type.shape else 1
                bound = size if bound is None else min(bound, size)
            elif at is None:
                fresh = [o for o in node.outputs if o.type.kind in (Kind.INT, Kind.UINT) and o not in seen]
                todo += fresh
                seen.update(fresh)
    return bound
