"""A branch that run-time data choose: the dearer one is priced, and the graph says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import f32, model, node, saved

from tetrasim.flow.numerics import check_numerics
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.analysis.coverage import coverage
from tetrasim.sim.ops.rounding import EXACT

OUT = helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4])


def branch(name: str, *nodes: object) -> object:
    return helper.make_graph(list(nodes), name, [], [OUT])


def choosing(then: object, other: object) -> object:
    choice = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=other)
    weights = {"w": f32(8, 4), "wide": f32(8, 64), "down": f32(64, 4)}
    return model([choice], {"x": [1, 8], "c": []}, ["y"], weights, types={"c": TensorProto.BOOL})


SMALL = (node("MatMul", ["x", "w"], ["r"]),)
LARGE = (node("MatMul", ["x", "wide"], ["h"]), node("MatMul", ["h", "down"], ["r"]))


@pytest.mark.parametrize("swap", [False, True])
def test_the_dearer_branch_is_priced_and_named(tmp_path: Path, swap: bool) -> None:
    parts = [branch("small", *SMALL), branch("large", *LARGE)]
    path = saved(choosing(*(parts[::-1] if swap else parts)), tmp_path)
    graph = import_onnx(path)
    assert [n.op for n in graph.nodes] == ["MatMul", "MatMul"]
    (text,) = graph.assumptions
    assert "node 'choice'" in text
    assert f"the dearer one ({'then' if swap else 'else'}" in text
    assert coverage((graph,)).macs_fraction == 1.0
    found = check_numerics(graph, graph, path, EXACT)
    assert not found.checked
    assert "run-time data" in found.note


def test_a_branch_that_is_left_out_assumes_nothing(tmp_path: Path) -> None:
    inner = helper.make_node(
        "If", ["c"], ["r"], name="inner", then_branch=branch("a", *SMALL), else_branch=branch("b", *SMALL)
    )
    graph = import_onnx(saved(choosing(branch("nested", inner), branch("large", *LARGE)), tmp_path))
    assert len(graph.assumptions) == 1
    assert "choice" in graph.assumptions[0]


def test_a_known_condition_assumes_nothing(tmp_path: Path) -> None:
    proto = choosing(branch("small", *SMALL), branch("large", *LARGE))
    del proto.graph.input[1]  # type: ignore[attr-defined]
    from onnx import numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))  # type: ignore[attr-defined]
    graph = import_onnx(saved(proto, tmp_path))
    assert graph.assumptions == ()
    assert len(graph.nodes) == 1
