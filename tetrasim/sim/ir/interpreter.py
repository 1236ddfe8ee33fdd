"""Running a graph in numpy, under any target's arithmetic (`Arithmetic`): the functional reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tetrasim.errors import UserError, nearest
from tetrasim.sim.ir.graph import Graph, Value
from tetrasim.sim.ops.arithmetic import Arithmetic
from tetrasim.sim.ops.dtypes import numpy_dtype
from tetrasim.sim.ops.registry import find_op
from tetrasim.sim.ops.rounding import EXACT

Arr = NDArray[Any]


def interpret(
    graph: Graph, feeds: Mapping[str, NDArray[np.generic]], arithmetic: Arithmetic = EXACT
) -> dict[str, Arr]:
    """Outputs by name for inputs by name. Every result is rounded by `arithmetic.store` to its value's
    format; floats narrower than 32 bits are carried as float32.

    Raises:
        UserError: a feed is missing, unknown or of the wrong shape; a weight has no numbers.
    """
    known: dict[Value, Arr] = {}
    for value in graph.inputs:
        known[value] = arithmetic.store(_fed(graph, value, feeds), value.type)
    for name in feeds:
        if all(v.name != name for v in graph.inputs):
            raise UserError(f"there is no input '{name}'", hint=nearest(name, [v.name for v in graph.inputs]))
    last = {v: i for i, node in enumerate(graph.nodes) for v in node.inputs if v is not None}
    keep = set(graph.outputs)
    for i, node in enumerate(graph.nodes):
        arrays = [None if v is None else _array(v, known, arithmetic) for v in node.inputs]
        results = find_op(node.op, node.name).reference(arrays, node.attrs, arithmetic)
        for value, result in zip(node.outputs, results, strict=False):
            if result.shape != value.type.shape:
                raise AssertionError(
                    f"{node.name} ({node.op}): computed {result.shape}, inferred {value.type.shape}"
                )
            known[value] = arithmetic.store(result, value.type)
        for used in node.inputs:
            if used is not None and last[used] == i and used not in keep:
                known.pop(used, None)
    return {v.name: _array(v, known, arithmetic) for v in graph.outputs}


def _fed(graph: Graph, value: Value, feeds: Mapping[str, NDArray[np.generic]]) -> Arr:
    if value.name not in feeds:
        raise UserError(f"input '{value.name}' is not fed", hint=f"it is {value.type}")
    array = np.asarray(feeds[value.name])
    if array.shape != value.type.shape:
        raise UserError(
            f"input '{value.name}' has shape {array.shape}, not {value.type.shape} ({graph.name})"
        )
    wanted = numpy_dtype(value.type)
    if array.dtype.kind == "f" and wanted.kind in "iu":
        return array.astype(np.float32)  # a real value that the target stores in an integer format
    return array if array.dtype == wanted else array.astype(wanted)


def _array(value: Value, known: Mapping[Value, Arr], arithmetic: Arithmetic) -> Arr:
    if value in known:
        return known[value]
    if value.data is None:
        raise UserError(
            f"weight '{value.name}' has no numbers",
            hint="the model was exported without weights: shapes and costs only",
        )
    return arithmetic.store(value.data.load(), value.type)
