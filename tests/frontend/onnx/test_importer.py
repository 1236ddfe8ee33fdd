"""The importer: dims bound, shape arithmetic folded, weights lazy, states paired."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import f32, ints, model, node, saved

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_family, import_onnx, symbolic_dims
from tetrasim.sim.ir.graph import Kind, Role
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.work import WorkKind


def test_symbolic_dims_are_bound_and_expressions_evaluated(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": ["batch", "past + seq", 4]}, ["y"])
    path = saved(proto, tmp_path)
    assert symbolic_dims(path) == {"batch": ("x",), "past": ("x",), "seq": ("x",)}
    graph = import_onnx(path, {"batch": 2, "past": 3, "seq": 1})
    assert graph.inputs[0].type.shape == (2, 4, 4)
    assert dict(graph.dims) == {"batch": 2, "past": 3, "seq": 1}


def test_unbound_dim_names_itself_and_its_inputs(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "z"], ["y"])], {"x": ["batch", 4], "z": ["batch", 4]}, ["y"])
    with pytest.raises(UserError, match=r"dim 'batch' \(in 'x', 'z'\) is not bound"):
        import_onnx(saved(proto, tmp_path))


def test_unknown_dim_gets_the_nearest_name(tmp_path: Path) -> None:
    path = saved(model([node("Relu", ["x"], ["y"])], {"x": ["batch", 4]}, ["y"]), tmp_path)
    with pytest.raises(UserError) as error:
        import_onnx(path, {"batch": 1, "btach": 2})
    assert "did you mean 'batch'?" in error.value.hint


def test_shape_arithmetic_leaves_no_integer_nodes(tmp_path: Path) -> None:
    """Reshape to [batch, seq, heads, width/heads] computed from Shape, Gather, Div and Concat."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["b"]),
        node("Gather", ["shape", "one"], ["s"]),
        node("Unsqueeze", ["b", "axis"], ["b1"]),
        node("Unsqueeze", ["s", "axis"], ["s1"]),
        node("Concat", ["b1", "s1", "heads", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["split"]),
        node("Transpose", ["split"], ["y"], perm=[0, 2, 1, 3]),
    ]
    weights = {
        "zero": np.array(0),
        "one": np.array(1),
        "axis": ints(0),
        "heads": ints(2),
        "rest": ints(-1),
    }
    path = saved(model(nodes, {"x": ["b", "s", 8]}, ["y"], weights), tmp_path)
    graph = import_onnx(path, {"b": 2, "s": 3})
    assert [n.op for n in graph.nodes] == ["Reshape", "Transpose"]
    assert graph.outputs[0].type.shape == (2, 2, 3, 4)


def test_constant_mask_is_folded_from_range_and_compare(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["shape"], start=0, end=1),
        node("Squeeze", ["shape"], ["n"]),
        node("Range", ["zero", "n", "one"], ["index"]),
        node("Unsqueeze", ["index", "last"], ["rows"]),
        node("GreaterOrEqual", ["rows", "index"], ["mask"]),
        node("Where", ["mask", "x", "low"], ["y"]),
    ]
    weights = {"zero": np.array(0), "one": np.array(1), "last": ints(1), "low": np.float32(-1)}
    path = saved(model(nodes, {"x": ["n", "n"]}, ["y"], weights), tmp_path)
    graph = import_onnx(path, {"n": 3})
    assert [n.op for n in graph.nodes] == ["Where"]
    x = f32(3, 3)
    np.testing.assert_array_equal(interpret(graph, {"x": x})["y"], np.where(np.tri(3, dtype=bool), x, -1))


def test_tied_weight_counts_once_and_its_transpose_is_an_attribute(tmp_path: Path) -> None:
    table = f32(10, 4)
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Transpose", ["table"], ["t"], perm=[1, 0]),
        node("MatMul", ["e", "t"], ["y"]),
    ]
    proto = model(nodes, {"ids": [2]}, ["y"], {"table": table}, types={"ids": TensorProto.INT64})
    graph = import_onnx(saved(proto, tmp_path))
    assert graph.weight_bytes == table.nbytes
    assert graph.nodes[1].attrs == {"transB": 1}
    expected = table[[3, 7]] @ table.T
    np.testing.assert_allclose(interpret(graph, {"ids": np.array([3, 7])})["y"], expected, rtol=1e-6)


def test_initializer_that_is_also_an_input_is_its_default(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4], "w": [4, 4]}, ["y"], {"w": f32(4, 4)})
    graph = import_onnx(saved(proto, tmp_path))
    assert [v.name for v in graph.inputs] == ["x"]


def test_constant_if_takes_its_branch(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        return helper.make_graph([node(op, ["x"], ["inner"])], op, [], [out])

    nodes = [node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))]
    graph = import_onnx(saved(model(nodes, {"x": [3]}, ["y"], {"c": np.array(False)}), tmp_path))
    assert [n.op for n in graph.nodes] == ["Neg"]


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [node("Relu", ["a"], ["r"]), node("Add", ["r", "a"], ["out"])]
    function = helper.make_function("local", "Twice", ["a"], ["out"], body, [helper.make_opsetid("", 20)])
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="local")], {"x": [3]}, ["y"])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    assert [n.op for n in import_onnx(saved(proto, tmp_path)).nodes] == ["Relu", "Add"]


def test_output_that_is_an_input_or_a_constant(tmp_path: Path) -> None:
    nodes = [node("Identity", ["x"], ["same"]), node("Constant", [], ["c"], value_float=2.0)]
    graph = import_onnx(saved(model(nodes, {"x": [2]}, ["same", "c"]), tmp_path))
    out = interpret(graph, {"x": np.ones(2, np.float32)})
    assert out["same"].tolist() == [1, 1]
    assert out["c"] == 2


def _step(tmp_path: Path, names: tuple[str, str]) -> Path:
    """A cache that grows by one row per step, read by a product."""
    past, present = names
    nodes = [
        node("Concat", [past, "new"], [present], axis=2),
        node("Transpose", [present], ["t"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "t"], ["y"]),
    ]
    inputs = {"q": [1, 2, 1, 4], "new": [1, 2, 1, 4], past: [1, 2, "past", 4]}
    return saved(model(nodes, inputs, ["y", present]), tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("past_key.0", "present_key.0"),
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.0.key", "present_key_values.0.key"),
    ],
)
def test_growing_cache_is_a_state_and_an_append(tmp_path: Path, names: tuple[str, str]) -> None:
    graph = import_onnx(_step(tmp_path, names), {"past": 5})
    (state,) = graph.states
    assert (state.before.name, state.after.name) == names
    assert state.before.role is state.after.role is Role.STATE
    append = graph.nodes[0]
    assert append.op == "KVAppend"
    work = work_of(append)
    assert work.kind is WorkKind.MOVE
    assert (work.read_bytes, work.write_bytes, work.state_bytes) == (32, 32, 32)
    assert graph.state_bytes == 6 * 32


def test_states_by_manifest_are_checked(tmp_path: Path) -> None:
    path = _step(tmp_path, ("cache_in", "cache_out"))
    assert import_onnx(path, {"past": 5}).states == ()
    assert len(import_onnx(path, {"past": 5}, states={"cache_in": "cache_out"}).states) == 1
    with pytest.raises(UserError, match="no state output 'cache'"):
        import_onnx(path, {"past": 5}, states={"cache_in": "cache"})


def test_family_equals_an_import_at_every_context(tmp_path: Path) -> None:
    path = _step(tmp_path, ("past_key.0", "present_key.0"))
    family = import_family(path, {}, symbol="past", contexts=range(3, 40))
    for context in (3, 4, 17, 39, 100):
        assert family.at(context).to_text() == import_onnx(path, {"past": context}).to_text()


def test_quantised_weight_keeps_its_format_and_its_numbers(tmp_path: Path) -> None:
    q = np.random.default_rng(0).integers(-128, 127, (4, 3)).astype(np.int8)
    scale = np.array([0.5, 0.25, 2.0], np.float32)
    nodes = [
        node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=1),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    weights = {"q": q, "scale": scale, "zero": np.zeros(3, np.int8)}
    graph = import_onnx(saved(model(nodes, {"x": [2, 4]}, ["y"], weights), tmp_path))
    assert [n.op for n in graph.nodes] == ["MatMul"]
    (weight,) = graph.weights
    assert (weight.type.kind, weight.type.bits, weight.type.nbytes) == (Kind.INT, 8, 12)
    x = f32(2, 4)
    np.testing.assert_allclose(interpret(graph, {"x": x})["y"], x @ (q * scale), rtol=1e-6)


def test_absent_weights_have_types_and_a_clear_refusal(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4]}, ["y"], {"w": f32(4, 4)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "nowhere.bin"
    proto.metadata_props.add(key="tetrasim.weights", value="absent")
    graph = import_onnx(saved(proto, tmp_path))
    assert graph.weight_bytes == 64
    with pytest.raises(UserError, match="weight 'w' has no numbers"):
        interpret(graph, {"x": f32(1, 4)})


def test_external_data_is_mapped_lazily(tmp_path: Path) -> None:
    w = f32(8, 8)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], {"w": w})
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    graph = import_onnx(path)
    x = f32(1, 8)
    np.testing.assert_allclose(interpret(graph, {"x": x})["y"], x @ w, rtol=1e-5)


def test_sources_trace_back_to_onnx_and_torch(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    scopes = "['', 'blocks.0.ffn', 'relu']"
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    (only,) = import_onnx(saved(proto, tmp_path)).nodes
    assert only.source.onnx == ("y",)
    assert only.source.module == "blocks.0.ffn"


def test_sixteen_bit_weights_are_read(tmp_path: Path) -> None:
    w = f32(4, 4)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4]}, ["y"], {"w": w.astype(np.float16)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    proto.graph.initializer.append(numpy_helper.from_array(w, "unused"))
    graph = import_onnx(saved(proto, tmp_path))
    assert graph.weight_bytes == 32
    out = interpret(graph, {"x": np.ones((1, 4), np.float32)})["y"]
    np.testing.assert_allclose(out, w.astype(np.float16).astype(np.float32).sum(0)[None], rtol=1e-5)


def test_scan_is_unrolled(tmp_path: Path) -> None:
    """A running sum over time, forwards and backwards, with the last state."""

    def info(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    body = helper.make_graph(
        [node("Add", ["s", "x_t"], ["s_next"]), node("Identity", ["s_next"], ["row"])],
        "body",
        [info("s", 2), info("x_t", 2)],
        [info("s_next", 2), info("row", 2)],
    )
    x = f32(4, 2)
    for backward in (0, 1):
        scan = node("Scan", ["zero", "x"], ["last", "sums"], body=body, num_scan_inputs=1)
        scan.attribute.append(helper.make_attribute("scan_input_directions", [backward]))
        proto = model([scan], {"zero": [2], "x": [4, 2]}, ["last", "sums"])
        graph = import_onnx(saved(proto, tmp_path))
        assert [n.op for n in graph.nodes].count("Add") == 4
        out = interpret(graph, {"zero": np.zeros(2, np.float32), "x": x})
        expected = np.cumsum(x[::-1] if backward else x, axis=0)
        np.testing.assert_allclose(out["sums"], expected, rtol=1e-6)
        np.testing.assert_allclose(out["last"], expected[-1], rtol=1e-6)


def _loop(tmp_path: Path, trips: int, known: bool) -> Path:
    """x doubles at every turn."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["v", "v"], ["v_next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, (3,)),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v_next", TensorProto.FLOAT, (3,)),
        ],
    )
    inputs = {"x": [3]} if known else {"x": [3], "n": []}
    weights = {"n": np.array(trips)} if known else {}
    proto = model(
        [node("Loop", ["n", "", "x"], ["y"], body=body)],
        inputs,
        ["y"],
        weights,
        types={"n": TensorProto.INT64},
    )
    return saved(proto, tmp_path)


def test_loop_with_a_constant_trip_count_is_unrolled(tmp_path: Path) -> None:
    graph = import_onnx(_loop(tmp_path, 5, True))
    assert [n.op for n in graph.nodes] == ["Add"] * 5
    assert interpret(graph, {"x": np.ones(3, np.float32)})["y"].tolist() == [32, 32, 32]


def test_loop_that_data_decide_or_that_never_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="as often as run-time data say"):
        import_onnx(_loop(tmp_path, 5, False))
    with pytest.raises(UserError, match="iterations of 2 nodes are more than"):
        import_onnx(_loop(tmp_path, 2**62, True))


def test_family_dims_may_be_expressions_of_the_symbol(tmp_path: Path) -> None:
    nodes = [
        node("Concat", ["past_key.0", "new"], ["present_key.0"], axis=2),
        node("ReduceSum", ["present_key.0", "axes"], ["s"]),
        node("Mul", ["s", "mask"], ["y"]),
    ]
    inputs = {"past_key.0": [1, 1, "past", 4], "new": [1, 1, 1, 4], "mask": [1, 1, "total"]}
    path = saved(model(nodes, inputs, ["y", "present_key.0"], {"axes": ints(3)}), tmp_path)
    family = import_family(path, {"total": "past + 1"}, symbol="past")
    with pytest.raises(UserError, match="no expression of past"):
        import_family(path, {"total": "seq + 1"}, symbol="past")
    assert family.at(70).inputs[2].type.shape == (1, 1, 71)
