"""What a file computes, by somebody else's program: onnxruntime, or the standard's own reference in numpy.

onnxruntime runs every op as the file has it, without its own fusions (`onnx_runtime.py`). What it refuses, a
type or an opset that it has no kernel for, the reference evaluator of the onnx package computes where the
model is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tetrasim.flow.feeds import Feeds, seeded_feeds
from tetrasim.frontend.onnx import given_value
from tetrasim.onnx_runtime import library, open_session
from tetrasim.sim.ir.graph import Graph, Kind, TensorType, Value
from tetrasim.sim.ops.dtypes import parse_dtype, stored_dtype
from tetrasim.sim.ops.registry import work_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_REFERENCE_MACS = 500_000_000  # the onnx package computes op by op in numpy, some of them in Python loops
_REASON_LETTERS = 160


@dataclass(frozen=True, eq=False)
class Reference:
    """Outputs by name, and the program that computed them; without any, the reason."""

    program: str
    outputs: Mapping[str, NDArray[Any]] | None
    reason: str = ""


@lru_cache(maxsize=4)
def reference_outputs(graph: Graph, onnx_path: Path, values: tuple[tuple[str, str], ...] = ()) -> Reference:
    """What the file gives on the seeded inputs of `graph`, computed once for all targets; `values` are those
    of inputs that the import made constants of."""
    feeds = seeded_feeds(graph)
    try:
        return Reference("onnxruntime", _by_onnxruntime(graph, onnx_path, feeds, dict(values)))
    except Exception as refusal:  # of any of onnxruntime's own types, whose common base is Exception
        reason = f"onnxruntime does not run it: {_first_line(refusal)}"
    if sum(work_of(node).macs for node in graph.nodes) > MAX_REFERENCE_MACS:
        return Reference("", None, reason)
    try:
        return Reference("onnx.reference", _by_onnx(graph, onnx_path, feeds))
    except Exception as refusal:  # the evaluator raises whatever numpy or its own code does
        return Reference("", None, f"{reason}; nor does onnx.reference: {_first_line(refusal)}")


def _first_line(failure: BaseException) -> str:
    text = " ".join(str(failure).split()) or type(failure).__name__
    return text if len(text) <= _REASON_LETTERS else f"{text[:_REASON_LETTERS]} …"


def _by_onnxruntime(
    graph: Graph, onnx_path: Path, feeds: Feeds, values: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    session = open_session(onnx_path)
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    given = {v.name: _ort_value(v, feeds[v.name]) for v in graph.inputs if v.name in wanted}
    for one in session.get_inputs():
        if one.name in values:
            type = TensorType(tuple(d for d in one.shape if isinstance(d, int)), *_format(one.type))
            value = Value(one.name, type)
            given[one.name] = _ort_value(value, given_value(one.name, values, type))
    found = session.run_with_ort_values(names, given)
    return {name: _as_numbers(one.numpy()) for name, one in zip(names, found, strict=True)}


def _format(text: str) -> tuple[Kind, int]:
    """`tensor(int64)` -> its format."""
    word = text.removeprefix("tensor(").removesuffix(")")
    found = parse_dtype({"float": "float32", "double": "float64"}.get(word, word))
    return found.kind, found.bits


def _ort_value(value: Value, feed: NDArray[Any]) -> Any:
    """An onnxruntime tensor in the very format of the file, also where numpy has no type of its own."""
    ort = library()
    stored = feed.astype(stored_dtype(value.type))
    if value.type.kind is Kind.BFLOAT and value.type.bits == 16:
        bfloat16 = 16  # TensorProto.BFLOAT16
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(stored.view(np.uint16), bfloat16)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(stored))


def _by_onnx(graph: Graph, onnx_path: Path, feeds: Feeds) -> dict[str, NDArray[Any]]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(onnx_path)
    evaluator = ReferenceEvaluator(model)
    given = {v.name: feeds[v.name].astype(stored_dtype(v.type)) for v in graph.inputs}
    with np.errstate(all="ignore"):
        found = evaluator.run(None, {name: given[name] for name in evaluator.input_names if name in given})
    return {
        name: _as_numbers(np.asarray(one)) for name, one in zip(evaluator.output_names, found, strict=True)
    }


def _as_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Formats that numpy does not compute with, as float32."""
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)
