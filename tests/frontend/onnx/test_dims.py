"""Open dims: any spelling can be bound, all that are missing are named at once, 0 is a size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import tetrasim
from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.frontend.onnx.dim_groups import open_dims_of
from tetrasim.frontend.onnx.dims import evaluate, names_in

TARGETS = ["gpu/t4", "cpu/xeon-6154", "pim/aim", "fpga/u280"]


def saved(folder: Path, nodes: list[onnx.NodeProto], inputs: dict[str, list[object]], *outputs: str) -> Path:
    """A file of float inputs; a dim None has neither size nor name, -1 stays -1."""
    infos = []
    for name, dims in inputs.items():
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1 if d == -1 else d for d in dims])
        for axis, dim in enumerate(dims):
            if dim == -1:
                info.type.tensor_type.shape.dim[axis].dim_value = -1
        infos.append(info)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weight = onnx.numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    graph = helper.make_graph(nodes, "g", infos, ends, [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        folder / "m.onnx",
    )
    return folder / "m.onnx"


MATMUL = [helper.make_node("MatMul", ["x", "w"], ["y"])]


@pytest.mark.parametrize(
    ("dim", "name"),
    [
        ("seq", "seq"), ("seq-len", "seq-len"), ("None", "None"), ("?", "?"), ("True", "True"),
        ("unk__12", "unk__12"), ("batch size", "batch size"), ("1x", "1x"), ("x.y", "x.y"), ("a b", "a b"),
        ("seq*2.5", "seq*2.5"), ("f(x)", "f(x)"), (None, "x.0"), (-1, "x.0"), ("seq", "x.0"), ("Ü", "Ü"),
        ("a-b-c", "a-b-c"),
        ("past + seq", "past + seq"), ("past + seq", "x.0"),
    ],
)  # fmt: skip
def test_any_spelling_can_be_bound(dim: object, name: str, tmp_path: Path) -> None:
    graph = import_onnx(saved(tmp_path, MATMUL, {"x": [dim, 8]}, "y"), {name: 3})
    assert graph.inputs[0].type.shape == (3, 8)
    assert graph.outputs[0].type.shape == (3, 4)


def test_all_missing_dims_are_named_at_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", list("abcd"), ["y"], axis=0)]
    inputs: dict[str, list[object]] = {"a": ["s0", 8], "b": ["s1", 8], "c": [None, 8], "d": ["s0 + s2", 8]}
    with pytest.raises(UserError) as refusal:
        import_onnx(saved(tmp_path, nodes, inputs, "y"), {"s1": 2})
    said = str(refusal.value)
    assert all(name in said for name in ("s0", "s2", "c.0"))
    assert "'s1'" not in said


def test_a_dim_that_does_not_exist_or_divides_by_zero(tmp_path: Path) -> None:
    file = saved(tmp_path, MATMUL, {"x": ["seq // (seq - 4)", 8]}, "y")
    with pytest.raises(UserError, match="divides by zero"):
        import_onnx(file, {"seq": 4})
    assert import_onnx(file, {"seq": 5}).inputs[0].type.shape == (5, 8)
    with pytest.raises(UserError, match="no dim 'sek'"):
        import_onnx(file, {"seq": 5, "sek": 1})
    with pytest.raises(UserError, match="comes out as -"):
        import_onnx(file, {"seq": 3})


@given(st.text(max_size=12))
def test_no_text_is_a_traceback(text: str) -> None:
    for name in names_in(text):
        assert isinstance(name, str)
    assert evaluate(text, {}) is None or isinstance(evaluate(text, {}), int)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Softmax", ["x"], ["y"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0]),
        helper.make_node("Concat", ["x", "x"], ["y"], axis=0),
        helper.make_node("ReduceSum", ["x"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_zero_rows_cost_nothing_and_crash_nothing(node: onnx.NodeProto, target: str, tmp_path: Path) -> None:
    file = saved(tmp_path, [node], {"x": ["rows", 8]}, "y")
    run = tetrasim.simulate(file, on=target, dims={"rows": 0})
    assert run.results[0].latency.value <= 1e6
    assert run.to_json()


def test_dims_that_must_be_equal_are_found(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Mul", ["sum", "c"], ["y"]),
        helper.make_node("Relu", ["d"], ["z"]),
    ]
    inputs: dict[str, list[object]] = {"a": ["p", 8], "b": ["q", 8], "c": ["r", 8], "d": ["free", 8]}
    found = {dim.name: dim for dim in open_dims_of(saved(tmp_path, nodes, inputs, "y", "z"))}
    assert found["p"].equal_to == ("q", "r")
    assert found["free"].equal_to == ()
    assert found["free"].outputs == ("z",)
    assert found["q"].inputs == ("b",)
