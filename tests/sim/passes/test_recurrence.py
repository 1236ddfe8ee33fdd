"""Steps that a file writes out become one op, with the same results; what is no recurrence stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import f32, ints, model, node, saved

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.passes.pipeline import standard
from tetrasim.sim.passes.precision import with_precision
from tetrasim.sim.precision import BFLOAT16, FLOAT32, Precision

STEPS, ROWS, COLS = 12, 6, 4


def recovered(proto: onnx.ModelProto, folder: Path) -> Graph:
    """The rewritten graph, after it was checked against the graph as written."""
    raw = import_onnx(saved(proto, folder), rewrites=False)
    graph, _ = standard(raw)
    feeds = {v.name: f32(*v.type.shape, seed=i) for i, v in enumerate(raw.inputs)}
    before, after = interpret(raw, feeds), interpret(graph, feeds)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-6)
    return graph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def unrolled(form: str, steps: int = STEPS, *, backward: bool = False, peek: bool = False) -> onnx.ModelProto:
    """h = h a_t + u_t, y_t = sum(h); slices by Gather, Slice or Split; `peek`: a step's state leaves too."""
    shape = (ROWS, COLS) if form == "gather" else (1, ROWS, COLS)
    constants = {"h0": np.zeros(shape, np.float32), "last": ints(-1), "zero": ints(0)}
    nodes = []
    if form == "split":
        parts = {name: [f"{name}{t}" for t in range(steps)] for name in "au"}
        nodes += [node("Split", [name], parts[name], axis=0, num_outputs=steps) for name in "au"]
    for i in range(steps):
        t = steps - 1 - i if backward else i
        constants |= {f"t{t}": np.array(t), f"s{t}": ints(t), f"e{t}": ints(t + 1)}
        for name in "au":
            if form == "gather":
                nodes.append(node("Gather", [name, f"t{t}"], [f"{name}{t}"], axis=0))
            if form == "slice":
                nodes.append(node("Slice", [name, f"s{t}", f"e{t}", "zero"], [f"{name}{t}"]))
        before = "h0" if i == 0 else f"h{i}"
        nodes += [
            node("Mul", [before, f"a{t}"], [f"m{i}"]),
            node("Add", [f"m{i}", f"u{t}"], [f"h{i + 1}"]),
            node("ReduceSum", [f"h{i + 1}", "last"], [f"r{i}"], keepdims=1),
            node("Unsqueeze", [f"r{i}", "zero"], [f"y{i}"]),
        ]
    nodes.append(node("Concat", [f"y{i}" for i in range(steps)], ["y"], axis=0))
    outputs = ["y", f"h{steps}", *(["h3"] if peek else [])]
    return model(nodes, {"a": [steps, ROWS, COLS], "u": [steps, ROWS, COLS]}, outputs, constants)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("form", ["gather", "slice", "split"])
def test_unrolled_steps_are_one_op(form: str, backward: bool, tmp_path: Path) -> None:
    graph = recovered(unrolled(form, backward=backward), tmp_path)
    assert ops(graph) == ["Recurrence"]


def test_a_scan_is_one_op(tmp_path: Path) -> None:
    shape = [ROWS, COLS]
    step = [
        helper.make_node("Mul", ["h", "a"], ["ha"]),
        helper.make_node("Add", ["ha", "b"], ["h1"]),
        helper.make_node("ReduceSum", ["h1", "ax"], ["y"], keepdims=0),
    ]

    def info(name: str, size: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)

    body = helper.make_graph(
        step, "step", [info(n, shape) for n in ("h", "a", "b")], [info("h1", shape), info("y", [ROWS])],
        [numpy_helper.from_array(ints(1), "ax")],
    )  # fmt: skip
    scan = node("Scan", ["h0", "A", "B"], ["hT", "Y"], body=body, num_scan_inputs=2)
    inputs = {"h0": shape, "A": [STEPS, *shape], "B": [STEPS, *shape]}
    assert ops(recovered(model([scan], inputs, ["hT", "Y"]), tmp_path)) == ["Recurrence"]


def test_two_states_that_cross(tmp_path: Path) -> None:
    """Each step's states are both those of the step before."""
    nodes, constants = [], {}
    for t in range(STEPS):
        constants[f"t{t}"] = np.array(t)
        nodes += [
            node("Gather", ["x", f"t{t}"], [f"x{t}"], axis=0),
            node("Mul", [f"p{t}", f"x{t}"], [f"m{t}"]),
            node("Add", [f"m{t}", f"q{t}"], [f"p{t + 1}"]),
            node("Sub", [f"q{t}", f"p{t}"], [f"q{t + 1}"]),
        ]
    inputs = {"x": [STEPS, 5], "p0": [5], "q0": [5]}
    graph = recovered(model(nodes, inputs, [f"p{STEPS}", f"q{STEPS}"], constants), tmp_path)
    assert ops(graph) == ["Recurrence"]


def test_a_state_that_leaves_keeps_the_steps(tmp_path: Path) -> None:
    assert "Recurrence" not in ops(recovered(unrolled("gather", peek=True), tmp_path))


def test_few_steps_stay(tmp_path: Path) -> None:
    assert "Recurrence" not in ops(recovered(unrolled("gather", 7), tmp_path))


def test_a_weight_product_stays_a_kernel(tmp_path: Path) -> None:
    nodes, constants = [], {"w": f32(COLS, COLS)}
    for t in range(STEPS):
        constants[f"t{t}"] = np.array(t)
        nodes += [
            node("Gather", ["x", f"t{t}"], [f"x{t}"], axis=0),
            node("MatMul", [f"h{t}", "w"], [f"m{t}"]),
            node("Add", [f"m{t}", f"x{t}"], [f"h{t + 1}"]),
        ]
    proto = model(nodes, {"x": [STEPS, ROWS, COLS], "h0": [ROWS, COLS]}, [f"h{STEPS}"], constants)
    assert "Recurrence" not in ops(recovered(proto, tmp_path))


def test_work_is_that_of_all_steps_and_state_is_touched_once(tmp_path: Path) -> None:
    graph = recovered(unrolled("gather"), tmp_path)
    work = work_of(graph.nodes[0])
    state, sequence = ROWS * COLS, STEPS * ROWS * COLS
    assert work.vector is not None
    assert dict(work.vector.ops) == {"add": 2 * sequence, "mul": sequence}
    assert work.vector.steps == STEPS
    assert work.nbytes == 4 * (2 * sequence + state + STEPS * ROWS + state)


def test_formats_reach_the_body(tmp_path: Path) -> None:
    graph = recovered(unrolled("gather"), tmp_path)
    narrow = with_precision(graph, Precision(BFLOAT16, BFLOAT16, BFLOAT16, FLOAT32))
    body = narrow.nodes[0].attrs["body"]
    assert {v.type.bits for n in body.graph.nodes for v in n.outputs} == {16}  # type: ignore[union-attr]
