"""Ops without semantics: what the importer makes of them when it is allowed to, and what it still refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx_models import f32, model, node, saved

from tetrasim.errors import UnsupportedOpError
from tetrasim.frontend.onnx import import_family, import_onnx
from tetrasim.sim.analysis.coverage import coverage, op_table
from tetrasim.sim.ir.family import GraphFamily
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import supported_ops, work_of
from tetrasim.sim.ops.work import WorkKind

Shape = list[int | str] | None


def mystery(inputs: list[str], outputs: list[str], op: str = "Mystery", domain: str = "my.ops") -> NodeProto:
    return helper.make_node(op, inputs, outputs, name="odd", domain=domain, secret=3)


def stated(proto: ModelProto, **shapes: Shape) -> ModelProto:
    for name, shape in shapes.items():
        proto.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return proto


def chain(odd: NodeProto, **shapes: Shape) -> ModelProto:
    """x[n,4] -> odd -> MatMul -> y."""
    nodes = [odd, node("MatMul", ["z", "w"], ["y"])]
    return stated(model(nodes, {"x": ["n", 4]}, ["y"], {"w": f32(8, 2)}), **shapes)


@pytest.mark.parametrize(
    ("op", "domain", "name"),
    [
        ("Mystery", "my.ops", "my.ops::Mystery"),
        ("Mystery", "", "Mystery"),
        ("Mystery", "com.microsoft", "com.microsoft::Mystery"),
        ("NonZero", "", "NonZero"),  # a rule refuses it
        ("Unmodelled", "", "Unmodelled"),  # the file's own op of that name has no way past the flag
    ],
)
def test_stands_in_where_allowed(tmp_path: Path, op: str, domain: str, name: str) -> None:
    path = saved(chain(mystery(["x"], ["z"], op, domain), z=["2*n", 8]), tmp_path)
    with pytest.raises(UnsupportedOpError) as refusal:
        import_onnx(path, {"n": 3})
    assert refusal.value.where == "node 'odd'"
    assert "--allow-unmodelled" in refusal.value.hint
    graph = import_onnx(path, {"n": 3}, allow_unmodelled=True)
    odd, product = graph.nodes
    assert (odd.op, dict(odd.attrs)) == ("Unmodelled", {"op_type": op, "domain": domain})
    assert odd.source.onnx == ("odd",)
    assert odd.outputs[0].type.shape == (6, 8)
    assert work_of(odd).kind is WorkKind.VIEW
    found = coverage([graph])
    assert found.unmodelled == (f"model/odd ({name})",)
    tensors = 4 * (3 * 4 + 6 * 8)
    assert found.bytes_fraction == work_of(product).nbytes / (work_of(product).nbytes + tensors)
    assert found.macs_fraction < 1
    assert {r.op: r.modelled for r in op_table(graph)} == {name: 0, "MatMul": 1}
    with pytest.raises(UnsupportedOpError, match="nothing can be computed"):
        interpret(graph, {"x": f32(3, 4)})


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({}, "does not state the type and shape of 'z'"),
        ({"z": None}, "does not state the type and shape of 'z'"),
        ({"z": ["unknown", 8]}, "gives 'z' a dim 'unknown'"),
        ({"z": [None, 8]}, "gives 'z' a dim '?'"),
    ],
)
def test_needs_the_output_types(tmp_path: Path, shapes: dict[str, Shape], told: str) -> None:
    path = saved(chain(mystery(["x"], ["z"]), **shapes), tmp_path)
    with pytest.raises(UnsupportedOpError) as plain:
        import_onnx(path, {"n": 3})
    assert "--allow-unmodelled" in plain.value.hint
    assert plain.value.hint.endswith("if the file states its output types")
    with pytest.raises(UnsupportedOpError, match="not supported, and the file") as refusal:
        import_onnx(path, {"n": 3}, allow_unmodelled=True)
    assert told in refusal.value.what
    assert refusal.value.where == "node 'odd'"


def test_several_outputs_absent_inputs_and_a_graph_output(tmp_path: Path) -> None:
    """An unwanted output in the middle has no value, and does not become an absent input of a later node."""
    nodes = [
        mystery(["", "x", "w"], ["a", "", "b"]),
        node("Clip", ["b", "", "top"], ["y"]),
    ]
    proto = model(nodes, {"x": [2, 4]}, ["a", "y"], {"w": f32(4, 4), "top": f32(1).reshape(())})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("a", TensorProto.INT64, [5]))
    graph = import_onnx(saved(stated(proto, b=[2, 4]), tmp_path), allow_unmodelled=True)
    odd, clip = graph.nodes
    assert [str(v.type) for v in odd.outputs] == ["int64[5]", "float32[2,4]"]
    assert odd.inputs[0] is None
    assert [v.name for v in graph.weights][:1] == ["w"]
    assert clip.inputs[1] is None
    assert [str(v.type) for v in graph.outputs] == ["int64[5]", "float32[2,4]"]


def test_shapes_move_with_the_context(tmp_path: Path) -> None:
    proto = model(
        [mystery(["x"], ["z"]), node("MatMul", ["z", "w"], ["y"])],
        {"x": ["past", 4]},
        ["y"],
        {"w": f32(8, 2)},
    )
    path = saved(stated(proto, z=["past + 1", 8]), tmp_path)
    family: GraphFamily = import_family(path, contexts=(5, 9), allow_unmodelled=True)
    assert family.at(9).nodes[0].outputs[0].type.shape == (10, 8)


def test_constants_are_not_folded_through_it(tmp_path: Path) -> None:
    nodes = [mystery(["w"], ["z"]), node("Add", ["x", "z"], ["y"])]
    proto = stated(model(nodes, {"x": [4]}, ["y"], {"w": f32(4)}), z=[4])
    graph = import_onnx(saved(proto, tmp_path), allow_unmodelled=True)
    assert [n.op for n in graph.nodes] == ["Unmodelled", "Add"]


def test_a_loop_by_data_is_refused_all_the_same(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Relu", ["v"], ["w"])],
        "b",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
        ],
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)
    proto = model([loop], {"x": [4], "n": []}, ["y"], types={"n": TensorProto.INT64})
    with pytest.raises(UnsupportedOpError, match="Loop runs as often as run-time data say"):
        import_onnx(saved(proto, tmp_path), allow_unmodelled=True)


def test_it_is_no_supported_op() -> None:
    assert "Unmodelled" not in supported_ops()
