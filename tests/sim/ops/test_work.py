"""`Work` is exact: MACs, op counts and bytes of each family against numbers worked out by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import f32, ints, model, node, saved

from tetrasim.errors import UnsupportedOpError, UserError
from tetrasim.frontend.onnx import import_family, import_onnx
from tetrasim.sim.ir.graph import Graph, Node, Role, TensorType, Value
from tetrasim.sim.ops.registry import find_op, supported_ops, work_of
from tetrasim.sim.ops.single import attention_work, matmul_work, vector_op_names, vector_work
from tetrasim.sim.ops.work import AttentionShape, Gemm, WorkKind
from tetrasim.sim.precision import BFLOAT16, FLOAT16, FLOAT32, INT8


def only(tmp_path: Path, *args: object, **kwargs: object) -> Node:
    """The single node of a one-op model."""
    graph: Graph = import_onnx(saved(model(*args, **kwargs), tmp_path))  # type: ignore[arg-type]
    (found,) = graph.nodes
    return found


@pytest.mark.parametrize(
    ("a", "b", "weight", "expected"),
    [
        ((5, 8), (8, 3), True, Gemm(1, 5, 3, 8)),
        ((2, 5, 8), (8, 3), True, Gemm(1, 10, 3, 8)),  # batch folds into m: the weight is read once
        ((2, 4, 5, 8), (2, 4, 8, 3), False, Gemm(8, 5, 3, 8, weight_is_b=False)),
        ((2, 4, 5, 8), (2, 1, 8, 3), False, Gemm(2, 20, 3, 8, weight_is_b=False)),
        ((8,), (8, 3), True, Gemm(1, 1, 3, 8)),
    ],
)
def test_gemm_dimensions(tmp_path: Path, a: tuple, b: tuple, weight: bool, expected: Gemm) -> None:
    inputs = {"a": a} if weight else {"a": a, "b": b}
    found = only(
        tmp_path, [node("MatMul", ["a", "b"], ["y"])], inputs, ["y"], {"b": f32(*b)} if weight else {}
    )
    work = work_of(found)
    assert work.gemm == expected
    assert work.macs == expected.macs
    elements = np.prod(a) + np.prod(b) + np.prod(found.outputs[0].type.shape)
    assert work.nbytes == 4 * elements
    assert work.weight_bytes == (4 * np.prod(b) if weight else 0)


def test_constant_left_operand_is_the_transposed_product(tmp_path: Path) -> None:
    found = only(tmp_path, [node("MatMul", ["w", "x"], ["y"])], {"x": (8, 5)}, ["y"], {"w": f32(3, 8)})
    assert work_of(found).gemm == Gemm(1, 5, 3, 8, weight_is_b=True)


@pytest.mark.parametrize(
    ("x", "w", "attrs", "expected"),
    [
        ((1, 3, 8, 8), (16, 3, 4, 4), {"strides": [4, 4]}, Gemm(1, 4, 16, 48, taps=1)),  # patch embedding
        ((2, 8, 10), (8, 1, 3), {"group": 8, "pads": [1, 1]}, Gemm(8, 20, 1, 3, taps=3)),  # depthwise
        ((1, 4, 6, 6), (5, 4, 3, 3), {"strides": [2, 2]}, Gemm(1, 4, 5, 36, taps=4)),
    ],
)
def test_convolution_is_an_implicit_gemm(
    tmp_path: Path, x: tuple, w: tuple, attrs: dict, expected: Gemm
) -> None:
    found = only(tmp_path, [node("Conv", ["x", "w"], ["y"], **attrs)], {"x": x}, ["y"], {"w": f32(*w)})
    assert work_of(found).gemm == expected


@given(
    q=st.integers(1, 6), past=st.integers(0, 6), window=st.integers(0, 5), heads=st.sampled_from([1, 2, 4])
)
def test_attention_macs_are_the_visible_pairs(q: int, past: int, window: int, heads: int) -> None:
    shape = AttentionShape(2, q, heads, 1, 3, 5, past + q, True, window)
    pairs = sum(
        1
        for i in range(q)
        for j in range(past + q)
        if j <= past + i and (not window or j > past + i - window)
    )
    assert shape.visible_pairs == pairs
    assert shape.macs == 2 * heads * pairs * (3 + 5)


def test_gather_touches_the_rows_it_picks(tmp_path: Path) -> None:
    proto_types = {"ids": 7}
    found = only(
        tmp_path, [node("Gather", ["t", "ids"], ["y"])], {"ids": (1, 5)}, ["y"], {"t": f32(100, 8)},
        types=proto_types,
    )  # fmt: skip
    work = work_of(found)
    assert work.kind is WorkKind.GATHER
    assert work.weight_bytes == 5 * 8 * 4
    assert work.nbytes == 2 * 5 * 8 * 4 + 5 * 8


@pytest.mark.parametrize(
    ("nodes", "weights", "shape", "kind", "nbytes"),
    [
        ([node("Reshape", ["x", "s"], ["y"])], {"s": ints(-1)}, (2, 6), WorkKind.VIEW, 0),
        ([node("Transpose", ["x"], ["y"], perm=[1, 0])], {}, (2, 6), WorkKind.MOVE, 96),
        ([node("Transpose", ["x"], ["y"], perm=[1, 0])], {}, (1, 6), WorkKind.VIEW, 0),
        ([node("Slice", ["x", "a", "b", "z"], ["y"])], {"a": ints(1), "b": ints(3), "z": ints(0)},
         (4, 6), WorkKind.VIEW, 0),
        ([node("Slice", ["x", "a", "b", "z"], ["y"])], {"a": ints(1), "b": ints(3), "z": ints(1)},
         (4, 6), WorkKind.MOVE, 2 * 4 * 2 * 4),
        ([node("Concat", ["x", "x"], ["y"], axis=0)], {}, (2, 6), WorkKind.MOVE, 48 + 96),
        ([node("Expand", ["x", "s"], ["y"])], {"s": ints(3, 2, 6)}, (2, 6), WorkKind.MOVE, 48 + 144),
    ],
)  # fmt: skip
def test_movement(
    tmp_path: Path, nodes: list, weights: dict, shape: tuple, kind: WorkKind, nbytes: int
) -> None:
    work = work_of(only(tmp_path, nodes, {"x": shape}, ["y"], weights))
    assert (work.kind, work.nbytes) == (kind, nbytes)


@pytest.mark.parametrize(
    ("op", "per_element", "per_row"),
    [
        ("add", {"add": 1}, {}),
        ("relu", {"max": 1}, {}),
        ("gelu", {"erf": 1, "mul": 3, "add": 1}, {}),
        ("gelu_tanh", {"tanh": 1, "mul": 5, "add": 2}, {}),
        ("silu", {"exp": 1, "add": 1, "div": 1}, {}),
        ("softmax", {"max": 1, "add": 2, "exp": 1, "mul": 1}, {"div": 1}),
        ("layernorm", {"add": 4, "mul": 3}, {"mul": 2, "add": 1, "sqrt": 1, "div": 1}),
        ("rmsnorm", {"add": 1, "mul": 3}, {"mul": 1, "add": 1, "sqrt": 1, "div": 1}),
    ],
)
def test_vector_op_counts(op: str, per_element: dict, per_row: dict) -> None:
    work = vector_work(op, 6, 10, FLOAT16)
    assert work.vector is not None
    counts = {k: 60 * per_element.get(k, 0) + 6 * per_row.get(k, 0) for k in {*per_element, *per_row}}
    assert dict(work.vector.ops) == counts
    assert work.vector_ops == sum(counts.values())
    assert (work.vector.rows, work.vector.cols) == (6, 10)
    assert work.vector.reduces == bool(per_row)


def test_single_ops_equal_the_same_ops_in_a_model(tmp_path: Path) -> None:
    found = only(tmp_path, [node("MatMul", ["a", "b"], ["y"])], {"a": (7, 8)}, ["y"], {"b": f32(8, 3)})
    work = matmul_work(7, 3, 8, FLOAT32)
    assert (work.gemm, work.nbytes) == (work_of(found).gemm, work_of(found).nbytes)
    assert matmul_work(7, 3, 8, INT8, batch=4).gemm == Gemm(4, 7, 3, 8)
    attention = attention_work(2, 3, 8, 2, 16, 10, True, BFLOAT16)
    assert attention.attention == AttentionShape(2, 3, 8, 2, 16, 16, 10, True)
    assert attention.state_bytes == 2 * 2 * 2 * 10 * 16 * 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: matmul_work(0, 1, 1, FLOAT32), "m = 0"),
        (lambda: vector_work("sofmax", 1, 1, FLOAT32), "unknown op 'sofmax'"),
        (lambda: attention_work(1, 1, 3, 2, 8, 8, False, FLOAT32), "not a multiple"),
        (lambda: attention_work(1, 4, 2, 2, 8, 3, True, FLOAT32), "causal attention"),
    ],
)
def test_impossible_single_ops_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(UserError, match=message):
        build()


def test_every_named_vector_op_is_priced() -> None:
    assert all(vector_work(name, 2, 8, FLOAT32).vector_ops > 0 for name in vector_op_names())


def test_no_op_costs_silently_zero() -> None:
    """Every op has all three functions; an unknown one is an error with the nearest name."""
    assert len(supported_ops()) > 130
    with pytest.raises(UnsupportedOpError, match="op 'LayerNorm' is not supported") as error:
        find_op("LayerNorm")
    assert "LayerNormalization" in error.value.hint


def test_equal_content_gives_the_same_object() -> None:
    def add(name: str) -> Node:
        x = Value(name, TensorType((2, 3)), Role.INPUT)
        return Node(name, "Relu", (x,), (Value(name + "y", TensorType((2, 3))),))

    assert work_of(add("a")) is work_of(add("b"))


def test_pricing_a_generation_is_fast(tmp_path: Path) -> None:
    """A step graph of 300 nodes at 128 contexts in well under a second (the budget is 0.5 s)."""
    nodes, inputs, outputs, weights = [], {"x": (1, 64)}, ["x60"], {"w": f32(64, 64)}
    nodes.append(node("MatMul", ["x", "w"], ["x0"]))
    for i in range(60):
        inputs[f"past_key.{i}"] = (1, 1, "past", 64)
        outputs.append(f"present_key.{i}")
        nodes += [
            node("Reshape", [f"x{i}", "s4"], [f"n{i}"]),
            node("Concat", [f"past_key.{i}", f"n{i}"], [f"present_key.{i}"], axis=2),
            node("ReduceSum", [f"present_key.{i}", "a2"], [f"r{i}"]),
            node("Reshape", [f"r{i}", "s2"], [f"f{i}"]),
            node("Relu", [f"f{i}"], [f"x{i + 1}"]),
        ]
    weights |= {"s4": ints(1, 1, 1, 64), "s2": ints(1, 64), "a2": ints(2)}
    path = saved(model(nodes, inputs, outputs, weights), tmp_path)
    family = import_family(path, symbol="past", contexts=range(8, 136))
    graphs = [family.at(c) for c in range(8, 136)]
    start = time.perf_counter()
    assert sum(work_of(n).nbytes for g in graphs for n in g.nodes) > 0
    assert time.perf_counter() - start < 2.0  # 0.2 s measured; the margin is for busy machines
