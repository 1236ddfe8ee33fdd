"""Recurrent layers, unrolled at import, compute what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import f32, model, node, saved

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of

STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(op: str, direction: str, **attrs: object) -> object:
    dirs, gates = 1 + (direction == "bidirectional"), GATES[op]
    weights = {
        "w": f32(dirs, gates * HIDDEN, WIDTH, seed=1),
        "r": f32(dirs, gates * HIDDEN, HIDDEN, seed=2),
        "b": f32(dirs, 2 * gates * HIDDEN, seed=3),
    }
    outputs = ["y", "y_h", *(["y_c"] if op == "LSTM" else [])]
    ins = ["x", "w", "r", "b", "", "h0", *(["c0"] if op == "LSTM" else [])]
    inputs = {"x": (STEPS, BATCH, WIDTH), "h0": (dirs, BATCH, HIDDEN)}
    if op == "LSTM":
        inputs["c0"] = (dirs, BATCH, HIDDEN)
    nodes = [node(op, ins, outputs, hidden_size=HIDDEN, direction=direction, **attrs)]
    return model(nodes, inputs, outputs, weights)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("op", "attrs"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]
)
def test_layer_agrees_with_onnxruntime(tmp_path: Path, op: str, attrs: dict, direction: str) -> None:
    import onnxruntime as ort

    path = saved(layer(op, direction, **attrs), tmp_path)
    graph = import_onnx(path)
    feeds = {v.name: f32(*v.type.shape, seed=i) for i, v in enumerate(graph.inputs)}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    for name, actual in interpret(graph, feeds).items():
        np.testing.assert_allclose(actual, expected[name], atol=2e-6)
    dirs = 1 + (direction == "bidirectional")
    macs = dirs * STEPS * BATCH * GATES[op] * HIDDEN * (WIDTH + HIDDEN)
    assert sum(work_of(n).macs for n in graph.nodes) == macs


def test_what_is_not_unrolled_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="activation 'Cosh' is not supported"):
        import_onnx(saved(layer("LSTM", "forward", activations=["Cosh", "Tanh", "Tanh"]), tmp_path))
