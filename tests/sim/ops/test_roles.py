"""Operands have roles: one tensor may fill two of them, on every target."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx import numpy_helper as nh

from tetrasim import facade
from tetrasim.sim.ir.graph import Kind, Node, Role, TensorType, Value
from tetrasim.sim.ops.registry import work_of

TARGETS = ("cpu/xeon-6154", "gpu/a100-sxm4-80gb", "pim/pim-gpt", "pim/hbm-pim", "fpga/u280")


def _value(name, *shape, role=Role.ACTIVATION):
    return Value(name, TensorType(shape, Kind.FLOAT, 32), role)


def _node(op, inputs, shape, **attrs):
    return Node("n", op, tuple(inputs), (_value("y", *shape),), attrs)


def test_one_tensor_fills_two_roles_and_is_counted_once():
    x = _value("x", 64, 64)
    work = work_of(_node("MatMul", (x, x), (64, 64)))
    assert work.operand("a") is work.operand("b")
    assert work.read_bytes == 64 * 64 * 4
    assert work.position("bias") == -1
    with pytest.raises(KeyError, match="bias"):
        work.operand("bias")


def test_keys_and_values_of_one_tensor():
    q, z = _value("q", 1, 2, 8, 16), _value("z", 1, 2, 8, 16)
    work = work_of(_node("Attention", (q, z, z), (1, 2, 8, 16)))
    assert work.operand("q") is not work.operand("k")
    assert work.operand("k") is work.operand("v")
    assert work.besides(*"qkv") == ()
    mask = _value("mask", 8, 8)
    masked = work_of(_node("Attention", (q, z, z, mask), (1, 2, 8, 16)))
    assert masked.besides(*"qkv") == (masked.operand("mask"),)


def test_a_constant_first_factor_is_the_weight():
    w, x = _value("w", 32, 64, role=Role.WEIGHT), _value("x", 64, 8)
    work = work_of(_node("MatMul", (w, x), (32, 8)))
    assert work.gemm.weight_is_b
    assert work.operand("b").role is Role.WEIGHT
    assert work.operand("a").elements == 64 * 8


def test_a_quantised_product_has_its_weight_in_role_b():
    a, w = _value("a", 4, 8), _value("w", 8, 16, role=Role.WEIGHT)
    scale, zero = _value("s", role=Role.CONSTANT), _value("z", role=Role.CONSTANT)
    work = work_of(_node("QLinearMatMul", (a, scale, zero, w, scale, zero, scale, zero), (4, 16)))
    assert work.operand("b").elements == 8 * 16
    assert work.operand("a").elements == 4 * 8


def _onnx(nodes, inputs, shape, weights=()):
    value = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, s)  # noqa: E731
    graph = helper.make_graph(
        nodes,
        "g",
        [value(n, s) for n, s in inputs.items()],
        [value("y", shape)],
        [nh.from_array(a, n) for n, a in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _softmax(q, k, v):
    """Attention of tensors [1, 2, 16, 8] by name."""
    n = helper.make_node
    return [
        n("Transpose", [k], ["kt"], perm=[0, 1, 3, 2]),
        n("MatMul", [q, "kt"], ["s"]),
        n("Softmax", ["s"], ["p"], axis=-1),
        n("MatMul", ["p", v], ["y"]),
    ]


_HEADS = [1, 2, 16, 8]
_N = helper.make_node
CASES = {
    "matmul": ([_N("MatMul", ["x", "x"], ["y"])], {"x": [1, 16, 16]}, [1, 16, 16], ()),
    "gemm": ([_N("Gemm", ["x", "x", "x"], ["y"])], {"x": [16, 16]}, [16, 16], ()),
    "gemm_own_bias": ([_N("Gemm", ["x", "b", "b"], ["y"])], {"x": [16, 16], "b": [16, 16]}, [16, 16], ()),
    "einsum": (
        [_N("Einsum", ["x", "x"], ["y"], equation="bij,bkj->bik")],
        {"x": [2, 16, 8]},
        [2, 16, 16],
        (),
    ),
    "add": ([_N("Add", ["x", "x"], ["y"])], {"x": [16, 32]}, [16, 32], ()),
    "mul": ([_N("Mul", ["x", "x"], ["y"])], {"x": [16, 32]}, [16, 32], ()),
    "concat": ([_N("Concat", ["x", "x"], ["y"], axis=0)], {"x": [16, 32]}, [32, 32], ()),
    "conv": ([_N("Conv", ["x", "x"], ["y"])], {"x": [4, 4, 3, 3]}, [4, 4, 1, 1], ()),
    "norm": ([_N("LayerNormalization", ["x", "x", "x"], ["y"], axis=-1)], {"x": [32]}, [32], ()),
    "where": (
        [_N("Greater", ["x", "x"], ["c"]), _N("Where", ["c", "x", "x"], ["y"])],
        {"x": [16, 32]},
        [16, 32],
        (),
    ),
    "tied_qkv": (_softmax("x", "x", "x"), {"x": _HEADS}, _HEADS, ()),
    "tied_kv": (_softmax("q", "x", "x"), {"q": _HEADS, "x": _HEADS}, _HEADS, ()),
    "tied_qk": (_softmax("x", "x", "v"), {"x": _HEADS, "v": _HEADS}, _HEADS, ()),
    "tied_qv": (_softmax("x", "k", "x"), {"x": _HEADS, "k": _HEADS}, _HEADS, ()),
    "constant_first": (
        [_N("MatMul", ["w", "x"], ["y"])],
        {"x": [16, 8]},
        [32, 8],
        [("w", np.ones((32, 16), np.float32))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_target_prices_a_tensor_in_two_roles(name, tmp_path):
    nodes, inputs, shape, weights = CASES[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(_onnx(nodes, inputs, shape, weights).SerializeToString())
    for result in facade.simulate(path, on=TARGETS, numerics=False).results:
        assert result.latency.value > 0
