"""Norms, activations, gates, rotary and linear layers are recovered from every spelling, value for value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import f32, ints, model, node, saved

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Graph, GraphError
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.passes import attention, linear
from tetrasim.sim.passes.contract import Note
from tetrasim.sim.passes.pipeline import run_passes, standard


def missed(notes: tuple[Note, ...]) -> list[Note]:
    """Near misses only."""
    return [note for note in notes if not note.applied]


CONSTANTS = {
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "minus_half": -0.5,
    "root2": math.sqrt(2),
    "inv_root2": 1 / math.sqrt(2),
    "c": math.sqrt(2 / math.pi),
    "a": 0.044715,
    "quick": 1.702,
    "eps": 1e-5,
}


def rewritten(
    tmp_path: Path, nodes: list[onnx.NodeProto], inputs: dict, outputs: list[str], weights: dict | None = None
) -> tuple[Graph, tuple[Note, ...]]:
    """Import, rewrite, and check that the outputs stay what they were."""
    used = {i for n in nodes for i in n.input}
    constants = {k: np.float32(v) for k, v in CONSTANTS.items() if k in used}
    proto = model(nodes, inputs, outputs, {**constants, **(weights or {})})
    raw = import_onnx(saved(proto, tmp_path), rewrites=False)
    graph, notes = standard(raw)
    feeds = {v.name: 3 * f32(*v.type.shape, seed=i) for i, v in enumerate(raw.inputs)}
    before, after = interpret(raw, feeds), interpret(graph, feeds)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=2e-5, atol=2e-6)
    again, _ = standard(graph)
    assert again.to_text() == graph.to_text()
    return graph, notes


def n(op: str, out: str, *ins: str, **attrs: object) -> onnx.NodeProto:
    return node(op, ins, [out], **attrs)


GELU_TAIL = [n("Erf", "e", "d"), n("Add", "e1", "e", "one")]
ACTIVATIONS = {
    "gelu: x (1 + erf(x / sqrt 2)) / 2": (
        [n("Div", "d", "x", "root2"), *GELU_TAIL, n("Mul", "m", "x", "e1"), n("Mul", "y", "m", "half")],
        ("Gelu", {"approximate": "none"}),
    ),
    "gelu: half first": (
        [n("Mul", "h", "x", "half"), n("Mul", "d", "x", "inv_root2"), *GELU_TAIL, n("Mul", "y", "h", "e1")],
        ("Gelu", {"approximate": "none"}),
    ),
    "gelu: half on the sum": (
        [n("Mul", "d", "x", "inv_root2"), *GELU_TAIL, n("Mul", "h", "half", "e1"), n("Mul", "y", "h", "x")],
        ("Gelu", {"approximate": "none"}),
    ),
    "gelu tanh by Pow": (
        [
            n("Pow", "x3", "x", "three"),
            n("Mul", "ax3", "a", "x3"),
            n("Add", "s", "x", "ax3"),
            n("Mul", "cs", "s", "c"),
            n("Tanh", "t", "cs"),
            n("Add", "t1", "one", "t"),
            n("Mul", "h", "x", "half"),
            n("Mul", "y", "h", "t1"),
        ],
        ("Gelu", {"approximate": "tanh"}),
    ),
    "gelu tanh factored": (
        [
            n("Mul", "x2", "x", "x"),
            n("Mul", "ax2", "x2", "a"),
            n("Add", "s", "one", "ax2"),
            n("Mul", "xs", "x", "s"),
            n("Mul", "cs", "c", "xs"),
            n("Tanh", "t", "cs"),
            n("Add", "t1", "t", "one"),
            n("Mul", "xt", "x", "t1"),
            n("Mul", "y", "half", "xt"),
        ],
        ("Gelu", {"approximate": "tanh"}),
    ),
    "silu": ([n("Sigmoid", "s", "x"), n("Mul", "y", "s", "x")], ("Swish", {})),
    "silu by exp": (
        [n("Neg", "m", "x"), n("Exp", "e", "m"), n("Add", "e1", "e", "one"), n("Div", "y", "x", "e1")],
        ("Swish", {}),
    ),
    "quick gelu": (
        [n("Mul", "q", "x", "quick"), n("Sigmoid", "s", "q"), n("Mul", "y", "x", "s")],
        ("QuickGelu", {"alpha": 1.702}),
    ),
    "mish": ([n("Softplus", "p", "x"), n("Tanh", "t", "p"), n("Mul", "y", "x", "t")], ("Mish", {})),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_recognised_by_value(tmp_path: Path, name: str) -> None:
    nodes, (op, attrs) = ACTIVATIONS[name]
    graph, notes = rewritten(tmp_path, nodes, {"x": (3, 5)}, ["y"])
    assert [(k.op, dict(k.attrs)) for k in graph.nodes] == [(op, attrs)]
    assert all(note.applied for note in notes)


def test_almost_gelu_is_left_alone_with_a_reason(tmp_path: Path) -> None:
    nodes = [n("Div", "d", "x", "two"), *GELU_TAIL, n("Mul", "m", "x", "e1"), n("Mul", "y", "m", "half")]
    graph, notes = rewritten(tmp_path, nodes, {"x": (3, 5)}, ["y"])
    assert "Gelu" not in {k.op for k in graph.nodes}
    assert ["y", "activations"] in [[k.node, k.rule] for k in notes]
    assert "no known activation function" in notes[-1].reason


def test_activation_with_a_second_reader_inside_is_left_alone(tmp_path: Path) -> None:
    graph, notes = rewritten(tmp_path, ACTIVATIONS["silu"][0], {"x": (3, 5)}, ["y", "s"])
    assert [k.op for k in graph.nodes] == ["Sigmoid", "Mul"]
    assert "'s' inside the activation is also read elsewhere" in missed(notes)[0].reason


def layer_norm(divide: str, square: str, affine: bool) -> list[onnx.NodeProto]:
    nodes = [
        n("ReduceMean", "mean", "x", "axes"),
        n("Sub", "d", "x", "mean"),
        n("Pow", "sq", "d", "two") if square == "pow" else n("Mul", "sq", "d", "d"),
        n("ReduceMean", "var", "sq", "axes"),
        n("Add", "ve", "var", "eps"),
    ]
    nodes += division(divide, "d")
    if affine:
        nodes += [n("Mul", "g", "gamma", "core"), n("Add", "y", "g", "beta")]
    return nodes


def division(how: str, x: str) -> list[onnx.NodeProto]:
    if how == "pow":
        return [n("Pow", "r", "ve", "minus_half"), n("Mul", "core", "r", x)]
    root = n("Sqrt", "sd", "ve")
    if how == "div":
        return [root, n("Div", "core", x, "sd")]
    if how == "reciprocal":
        return [root, n("Reciprocal", "r", "sd"), n("Mul", "core", x, "r")]
    return [root, n("Div", "r", "one", "sd"), n("Mul", "core", x, "r")]


PARAMS = {"axes": ints(-1), "gamma": f32(6, seed=8), "beta": f32(6, seed=9)}


@pytest.mark.parametrize("divide", ["div", "reciprocal", "one_over", "pow"])
@pytest.mark.parametrize("square", ["pow", "mul"])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(tmp_path: Path, divide: str, square: str, affine: bool) -> None:
    nodes = layer_norm(divide, square, affine)
    graph, _ = rewritten(tmp_path, nodes, {"x": (2, 3, 6)}, ["y" if affine else "core"], PARAMS)
    (only,) = graph.nodes
    assert only.op == "LayerNormalization"
    assert [v.name for v in only.inputs if v] == (["x", "gamma", "beta"] if affine else ["x"])
    assert only.attrs["axis"] == -1
    assert only.attrs["epsilon"] == pytest.approx(1e-5)
    assert len(only.source.onnx) == len(nodes)


@pytest.mark.parametrize("divide", ["div", "reciprocal", "one_over", "pow"])
def test_rms_norm(tmp_path: Path, divide: str) -> None:
    nodes = [
        n("Mul", "sq", "x", "x"),
        n("ReduceMean", "ms", "sq", "axes"),
        n("Add", "ve", "eps", "ms"),
        *division(divide, "x"),
        n("Mul", "y", "gamma", "core"),
    ]
    graph, _ = rewritten(tmp_path, nodes, {"x": (2, 3, 6)}, ["y"], PARAMS)
    assert [k.op for k in graph.nodes] == ["RMSNormalization"]


def test_norm_over_a_middle_axis_says_why_not(tmp_path: Path) -> None:
    nodes = layer_norm("div", "mul", False)
    graph, notes = rewritten(tmp_path, nodes, {"x": (2, 6, 3)}, ["core"], {"axes": ints(1)})
    assert "LayerNormalization" not in {k.op for k in graph.nodes}
    assert "the mean is over axes [1] of 3" in missed(notes)[0].reason


def test_norm_whose_variance_is_an_output_says_why_not(tmp_path: Path) -> None:
    nodes = layer_norm("div", "mul", True)
    nodes.append(n("Neg", "v2", "var"))
    graph, notes = rewritten(tmp_path, nodes, {"x": (2, 6)}, ["y", "v2"], PARAMS)
    assert "LayerNormalization" not in {k.op for k in graph.nodes}
    assert "'var' inside the normalisation is also read elsewhere" in missed(notes)[0].reason


@pytest.mark.parametrize(("gate", "op"), [("silu", "SwiGLU"), ("gelu: half first", "GeGLU")])
def test_gated_product(tmp_path: Path, gate: str, op: str) -> None:
    nodes = [*ACTIVATIONS[gate][0], n("Mul", "z", "up", "y")]
    graph, _ = rewritten(tmp_path, nodes, {"x": (3, 5), "up": (3, 5)}, ["z"])
    (only,) = graph.nodes
    assert only.op == op
    assert [v.name for v in only.inputs if v] == ["x", "up"]


def halves(split: bool) -> list[onnx.NodeProto]:
    if split:
        return [node("Split", ["x"], ["x1", "x2"], axis=-1, num_outputs=2)]
    return [n("Slice", "x1", "x", "at0", "at4", "last"), n("Slice", "x2", "x", "at4", "far", "last")]


ROTARY = {
    "at0": ints(0),
    "at1": ints(1),
    "at4": ints(4),
    "far": ints(2**62),
    "last": ints(-1),
    "step": ints(2),
    "cos": f32(1, 1, 3, 8, seed=1),
    "sin": f32(1, 1, 3, 8, seed=2),
}


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_rotary_embedding_by_halves(tmp_path: Path, split: bool, transposed: bool) -> None:
    nodes = [n("Transpose", "x", "raw", perm=[0, 2, 1, 3])] if transposed else []
    nodes += [
        *halves(split),
        n("Neg", "m", "x2"),
        n("Concat", "r", "m", "x1", axis=-1),
        n("Mul", "rs", "r", "sin"),
        n("Mul", "xc", "cos", "x"),
        n("Add", "y", "xc", "rs"),
    ]
    inputs = {"raw": (1, 3, 2, 8)} if transposed else {"x": (1, 2, 3, 8)}
    graph, _ = rewritten(tmp_path, nodes, inputs, ["y"], ROTARY)
    (only,) = graph.nodes
    assert only.op == "RotaryEmbedding"
    assert only.attrs == ({"x_layout": "bshd"} if transposed else {})


def test_rotary_embedding_by_pairs(tmp_path: Path) -> None:
    nodes = [
        n("Slice", "even", "x", "at0", "far", "last", "step"),
        n("Slice", "odd", "x", "at1", "far", "last", "step"),
        n("Neg", "m", "odd"),
        n("Unsqueeze", "m1", "m", "last"),
        n("Unsqueeze", "e1", "even", "last"),
        n("Concat", "st", "m1", "e1", axis=-1),
        n("Reshape", "r", "st", "shape"),
        n("Mul", "rs", "r", "sin"),
        n("Mul", "xc", "x", "cos"),
        n("Add", "y", "xc", "rs"),
    ]
    weights = {**ROTARY, "shape": ints(1, 2, 3, 8)}
    graph, _ = rewritten(tmp_path, nodes, {"x": (1, 2, 3, 8)}, ["y"], weights)
    assert [(k.op, dict(k.attrs)) for k in graph.nodes] == [("RotaryEmbedding", {"interleaved": 1})]


def test_linear_layers_take_their_bias_and_lose_their_reshapes(tmp_path: Path) -> None:
    nodes = [
        n("MatMul", "h", "x", "w1"),
        n("Add", "hb", "b1", "h"),
        n("Reshape", "flat", "hb", "two_axes"),
        n("Gemm", "g", "flat", "w2", "b2"),
        n("Reshape", "y", "g", "three_axes"),
    ]
    weights = {
        "w1": f32(4, 6),
        "b1": f32(6),
        "w2": f32(6, 5),
        "b2": f32(5),
        "two_axes": ints(-1, 6),
        "three_axes": ints(2, 3, 5),
    }
    graph, _ = rewritten(tmp_path, nodes, {"x": (2, 3, 4)}, ["y"], weights)
    assert [(k.op, k.outputs[0].type.shape) for k in graph.nodes] == [
        ("Gemm", (2, 3, 6)),
        ("Gemm", (2, 3, 5)),
    ]


def test_bias_of_a_shared_product_stays(tmp_path: Path) -> None:
    nodes = [n("MatMul", "h", "x", "w"), n("Add", "y", "h", "b"), n("Relu", "z", "h")]
    weights = {"w": f32(4, 6), "b": f32(6)}
    graph, _ = rewritten(tmp_path, nodes, {"x": (2, 4)}, ["y", "z"], weights)
    assert [k.op for k in graph.nodes] == ["MatMul", "Add", "Relu"]


def test_views_are_merged(tmp_path: Path) -> None:
    nodes = [
        n("Reshape", "r1", "x", "s1"),
        n("Reshape", "r2", "r1", "s2"),
        n("Transpose", "t1", "r2", perm=[1, 0, 2]),
        n("Transpose", "t2", "t1", perm=[1, 0, 2]),
        n("Relu", "y", "t2"),
    ]
    weights = {"s1": ints(24), "s2": ints(4, 3, 2)}
    graph, _ = rewritten(tmp_path, nodes, {"x": (2, 3, 4)}, ["y"], weights)
    assert [k.op for k in graph.nodes] == ["Reshape", "Relu"]


def test_pass_out_of_place_is_our_defect(tmp_path: Path) -> None:
    graph = import_onnx(saved(model([n("Relu", "y", "x")], {"x": (2,)}, ["y"]), tmp_path))
    with pytest.raises(GraphError, match="requires views"):
        run_passes(graph, (attention.PASS, linear.PASS))
