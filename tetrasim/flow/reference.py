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
from tetrasim.onnx_runtime import library, open_session
from tetrasim.sim.ir.graph import Graph, Kind, Value
from tetrasim.sim.ops.dtypes import stored_dtype
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
def reference_outputs(graph: Graph, onnx_path: Path) -> Reference:
    """What the file gives on the seeded inputs of `graph`, computed once for all targets."""
    feeds = seeded_feeds(graph)
    try:
        return Reference("onnxruntime", _by_onnxruntime(graph, onnx_path, feeds))
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


def _by_onnxruntime(graph: Graph, onnx_path: Path, feeds: Feeds) -> dict[str, NDArray[Any]]:
    session = open_session(onnx_path)
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    values = {v.name: v for v in graph.inputs if v.name in wanted}
    given = {name: _ort_value(value, feeds[name]) for name, value in values.items()}
    found = session.run_with_ort_values(names, given)
    return {name: _as_numbers(one.numpy()) for name, one in zip(names, found, strict=True)}


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
