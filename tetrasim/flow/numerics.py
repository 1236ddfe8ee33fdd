"""Numerics of the lowered model: the target's arithmetic against onnxruntime on the same inputs.

The interpreter runs the graph with the target's formats and rounding; onnxruntime runs the exported file in
float32. The inputs are seeded: small integers for ids (below the smallest table that they index), normal
numbers for tensors, ones for masks, and an empty or random state. Large models are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.onnx_runtime import open_session
from tetrasim.sim.ir.graph import Graph, Kind, Value
from tetrasim.sim.result import NumericsResult
from tetrasim.sim.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ops.arithmetic import Arithmetic

Feeds = dict[str, "NDArray[np.generic]"]
MAX_MACS = 20_000_000_000  # about two seconds of emulated arithmetic
MAX_WEIGHT_ELEMENTS = 400_000_000
_INTS = {(Kind.INT, 64): np.int64, (Kind.INT, 32): np.int32, (Kind.INT, 8): np.int8, (Kind.UINT, 8): np.uint8}


def check_numerics(
    reference: Graph, lowered: Graph, onnx_path: Path | None, arithmetic: Arithmetic
) -> NumericsResult:
    """Compare `lowered` under `arithmetic` with onnxruntime on the file that `reference` was imported from.

    Args:
        reference: the graph as imported, full precision: says what the file's inputs look like.
        lowered: the same graph with the target's formats.
        onnx_path: the file; None when the graph has none.
    """
    if onnx_path is None:
        return NumericsResult(False, "there is no ONNX file to compare with")
    reason = why_not(reference)
    if reason:
        return NumericsResult(False, reason)
    from tetrasim.sim.ir.interpreter import interpret

    feeds = seeded_feeds(reference)
    expected = _reference_outputs(reference, onnx_path)
    with one_thread():  # quicker on these sizes, and the order of additions must not depend on the host
        actual = interpret(lowered, feeds, arithmetic)
    states = {s.after.name for s in reference.states}
    name = next((v.name for v in reference.outputs if v.name not in states), reference.outputs[0].name)
    return compare(expected[name], actual[name])


def compare(expected: NDArray[np.generic], actual: NDArray[np.generic]) -> NumericsResult:
    """Errors of `actual`, and how often the largest entry of the last axis is the same."""
    a = np.asarray(expected, dtype=np.float64)
    b = np.asarray(actual, dtype=np.float64)
    error = np.abs(a - b)
    if not error.size:
        return NumericsResult(False, "the model's first output is empty")
    classes = a.ndim > 0 and a.shape[-1] > 1
    same = float((a.argmax(-1) == b.argmax(-1)).mean()) if classes else float((a == b).mean())
    return NumericsResult(
        checked=True,
        note="" if np.isfinite(b).all() else "the target's arithmetic overflows",
        max_abs_error=float(np.nan_to_num(error, nan=np.inf, posinf=np.finfo(float).max).max()),
        mean_abs_error=float(np.nan_to_num(error, nan=np.inf, posinf=np.finfo(float).max).mean()),
        output_range=float(a.max() - a.min()),
        top1_agreement=same,
    )


def why_not(graph: Graph) -> str:
    """Why the graph cannot be emulated here; empty when it can."""
    from tetrasim.sim.ops.registry import work_of
    from tetrasim.sim.ops.unmodelled import original_op, unmodelled_nodes

    missing = unmodelled_nodes(graph.nodes)
    if missing:
        ops = ", ".join(sorted({original_op(node) for node in missing}))
        return f"the model has ops without semantics here ({ops}): nothing can be computed from them"
    if any(v.data is None for v in graph.weights):
        return "the model was exported without weights"
    elements = sum(v.type.elements for v in graph.weights)
    macs = sum(work_of(node).macs for node in graph.nodes)
    if elements > MAX_WEIGHT_ELEMENTS or macs > MAX_MACS:
        size = f"{elements / 1e6:.0f} M weights, {macs / 1e9:.1f} G MACs"
        return f"the model is too large to emulate here ({size})"
    return ""


def seeded_feeds(graph: Graph, seed: int = 0) -> Feeds:
    """Inputs for every graph input, the same for the same graph and seed."""
    rng = np.random.default_rng(seed)
    return {value.name: _feed(graph, value, rng) for value in graph.inputs}


def _feed(graph: Graph, value: Value, rng: np.random.Generator) -> NDArray[np.generic]:
    kind, shape = value.type.kind, value.type.shape
    if kind is Kind.BOOL:
        return np.ones(shape, dtype=bool)
    if kind in (Kind.INT, Kind.UINT):
        dtype = _INTS.get((kind, value.type.bits), np.int64)
        if "mask" in value.name:
            return np.ones(shape, dtype=dtype)
        return rng.integers(0, index_bound(graph, value), size=shape).astype(dtype)
    return rng.standard_normal(shape).astype(np.float16 if value.type.bits == 16 else np.float32)


def index_bound(graph: Graph, value: Value) -> int:
    """Smallest table axis that `value` may index (through reshapes and casts), 2 when it indexes none."""
    bound, todo, seen = 1 << 30, [value], {value}
    while todo:
        here = todo.pop()
        for i in graph.consumers.get(here, ()):
            node = graph.nodes[i]
            table = node.inputs[0]
            if node.op == "Gather" and here in node.inputs[1:] and table is not None:
                axis = node.attrs.get("axis", 0)
                bound = min(bound, table.type.shape[axis if isinstance(axis, int) else 0])
            elif node.op != "Gather":
                fresh = [o for o in node.outputs if o.type.kind in (Kind.INT, Kind.UINT) and o not in seen]
                todo += fresh
                seen.update(fresh)
    return bound if bound < 1 << 30 else 2


@lru_cache(maxsize=4)
def _reference_outputs(graph: Graph, onnx_path: Path) -> Mapping[str, NDArray[np.generic]]:
    """onnxruntime's outputs by name; one session serves every target that asks for the same graph."""
    session = open_session(onnx_path)
    feeds = seeded_feeds(graph)
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    outputs = session.run(names, {k: v for k, v in feeds.items() if k in wanted})
    return dict(zip(names, outputs, strict=True))
