"""Every operator, with random shapes, attributes, types and opsets, agrees with the runtimes.

The reference is onnxruntime without optimisations; where it refuses, the reference evaluator of the `onnx`
package. A draw that both refuse is not a valid node and is drawn again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import random_elementwise  # noqa: F401
import random_layers  # noqa: F401
import random_microsoft  # noqa: F401
import random_movement  # noqa: F401
import random_quantised  # noqa: F401
from onnx.reference import ReferenceEvaluator
from random_operators import GENERATORS, Draw, Drawn, Generator

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of

DRAWS = 12  # of each generator
TRIES = 8  # draws that no runtime accepts


@cache
def options() -> object:
    import onnxruntime

    found = onnxruntime.SessionOptions()
    found.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found.intra_op_num_threads = found.inter_op_num_threads = 1
    found.log_severity_level = 4
    return found


def expected(drawn: Drawn) -> tuple[str, list[np.ndarray]] | None:
    """What a runtime computes; None: none accepts the node."""
    import onnxruntime

    model = drawn.model()
    if drawn.opset <= 23:
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options(), providers=["CPUExecutionProvider"]
            )
            return "onnxruntime", session.run(None, dict(drawn.feeds))
        except Exception:  # the binding has no public base class
            pass
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return "onnx.reference", ReferenceEvaluator(model).run(None, dict(drawn.feeds))
    except Exception:
        return None


def actual(drawn: Drawn, path: Path, rewrites: bool) -> Mapping[str, np.ndarray]:
    path.write_bytes(drawn.model().SerializeToString())
    graph = import_onnx(path, rewrites=rewrites)
    for node in graph.nodes:
        work_of(node)
    fed = {v.name for v in graph.inputs}
    with np.errstate(all="ignore"):
        return interpret(graph, {n: a for n, a in drawn.feeds.items() if n in fed})


def difference(drawn: Drawn, got: np.ndarray, want: np.ndarray) -> str:
    """How two results differ; "" when they agree."""
    if got.shape != want.shape:
        return f"shape {got.shape}, wanted {want.shape}"
    a, b = got.astype(np.float64), np.asarray(want).astype(np.float64)
    b[np.abs(b) > HIDDEN] = -np.inf
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return "other infinities or NaNs"
    if not np.issubdtype(want.dtype, np.floating):
        wrong = np.abs(a - b) > (1 if drawn.op in OFF_BY_ONE else 0)
        return f"{int(wrong.sum())} of {wrong.size} integers" if wrong.any() else ""
    span = float(np.abs(b[finite]).max(initial=0.0))
    error = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    tolerance = drawn.tolerance if want.dtype != np.float16 else 5e-3
    return f"error {error:.3g} of {span:.3g}" if not error <= tolerance * max(span, 1e-3) else ""


HIDDEN = 3e38  # onnxruntime hides a score behind the lowest float32, not behind minus infinity

# A value between two integers may round either way after float32 arithmetic in another order
OFF_BY_ONE = (
    "QuantizeLinear",
    "QLinearMatMul",
    "QLinearConv",
    "DynamicQuantizeLinear",
    "QLinearAdd",
    "QLinearMul",
)


def judge(drawn: Drawn, path: Path) -> str | None:
    """The fault of a draw, "" for none, None when no runtime accepts the draw."""
    wanted = expected(drawn)
    if wanted is None:
        return None
    runtime, results = wanted
    names = [v.name for v in drawn.model().graph.output]
    for rewrites in (False, True):
        got = actual(drawn, path, rewrites)
        for name, want in zip(names, results, strict=True):
            found = difference(drawn, np.asarray(got[name]), np.asarray(want))
            if found:
                return f"{name} against {runtime}: {found}; rewrites={rewrites}"
    return ""


def describe(drawn: Drawn) -> str:
    shapes = {n: f"{a.dtype}{list(a.shape)}" for n, a in drawn.feeds.items()}
    fixed = {
        n: np.asarray(a).tolist() if a.size < 9 else f"{a.dtype}{a.shape}" for n, a in drawn.constants.items()
    }
    return f"{drawn.op}@{drawn.opset} {drawn.attrs} {shapes} {fixed} {tuple(drawn.inputs)}"


def run(generator: Generator, seed: int, path: Path, count: int = DRAWS) -> list[str]:
    """Faults of `count` draws that a runtime accepts."""
    d = Draw(np.random.default_rng(seed))
    faults, judged = [], 0
    for _ in range(count * TRIES):
        drawn = generator(d)
        try:
            found = judge(drawn, path)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if found is None:
            continue
        judged += 1
        if found:
            faults.append(f"{describe(drawn)}\n    {found}")
        if judged == count:
            break
    return faults if judged else ["no runtime accepts any draw"]


@pytest.mark.parametrize("op", sorted(GENERATORS))
def test_operator_agrees_with_the_runtimes(op: str, tmp_path: Path) -> None:
    path = tmp_path / "drawn.onnx"
    faults = [f for i, g in enumerate(GENERATORS[op]) for f in run(g, seed=i + 1, path=path)]
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:5])
