"""QONNX quantisers: values against their definition, formats of weights and activations, a price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_operators import Drawn

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.registry import work_of

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32) * 3
DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def imported(op: str, tmp_path: Path, attrs: dict, domain: str = DOMAINS[0], **constants: float) -> Graph:
    path = tmp_path / "quantiser.onnx"
    known = {name: number(value) for name, value in constants.items()}
    drawn = Drawn(op, {"x": X}, attrs, known, opset=13, domain=domain)
    path.write_bytes(drawn.model().SerializeToString())
    graph = import_onnx(path)
    assert all(work_of(node).vector_ops for node in graph.nodes)
    return graph


def result(graph: Graph) -> np.ndarray:
    return np.asarray(interpret(graph, {"x": X})["y0"])


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("signed", "narrow", "bits"), [(1, 0, 4), (1, 1, 4), (0, 0, 3), (0, 1, 8), (1, 0, 2)]
)
def test_quant_rounds_and_saturates(tmp_path: Path, domain: str, signed: int, narrow: int, bits: int) -> None:
    attrs = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
    graph = imported("Quant", tmp_path, attrs, domain, s=0.25, z=0.0, b=bits)
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    np.testing.assert_array_equal(result(graph), np.clip(np.rint(X / 0.25), low, high) * 0.25)
    assert graph.outputs[0].type.bits == bits


@pytest.mark.parametrize(
    ("mode", "rounded"),
    [("FLOOR", np.floor), ("CEIL", np.ceil), ("DOWN", np.trunc), ("ROUND", np.rint)],
)
def test_rounding_modes(tmp_path: Path, mode: str, rounded: object) -> None:
    attrs = {"signed": 1, "narrow": 0, "rounding_mode": mode}
    got = result(imported("Quant", tmp_path, attrs, s=0.5, z=0.0, b=8.0))
    np.testing.assert_array_equal(got, rounded(X / 0.5) * 0.5)  # type: ignore[operator]


def test_zero_point_shifts_the_range(tmp_path: Path) -> None:
    got = result(imported("Quant", tmp_path, {"signed": 0, "narrow": 0}, s=0.5, z=3.0, b=3.0))
    np.testing.assert_array_equal(got, (np.clip(np.rint(X / 0.5 + 3), 0, 7) - 3) * 0.5)


def test_bipolar(tmp_path: Path) -> None:
    got = result(imported("BipolarQuant", tmp_path, {}, s=0.5))
    np.testing.assert_array_equal(got, np.where(X >= 0, 0.5, -0.5))


def test_trunc_drops_low_bits(tmp_path: Path) -> None:
    got = result(imported("Trunc", tmp_path, {"rounding_mode": "FLOOR"}, s=0.25, z=0.0, i=8.0, o=6.0))
    np.testing.assert_array_equal(got, np.floor(np.rint(X / 0.25) / 4) * 0.25)


def test_an_unknown_rounding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rounding mode 'SIDEWAYS'"):
        imported("Quant", tmp_path, {"rounding_mode": "SIDEWAYS"}, s=0.5, z=0.0, b=8.0)


def test_weights_take_the_narrow_format(tmp_path: Path) -> None:
    """A product of a quantised activation and a quantised weight has operands of the file's widths."""
    from onnx import TensorProto, helper, numpy_helper

    w = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)
    scales = np.array([0.25, 0.5], np.float32)
    known = {"w": w, "s": scales, "z": number(0), "b": number(4), "sx": number(0.25), "bx": number(8)}
    nodes = [
        helper.make_node("Quant", ["x", "sx", "z", "bx"], ["xq"], domain=DOMAINS[0], signed=1, narrow=0),
        helper.make_node("Quant", ["w", "s", "z", "b"], ["wq"], domain=DOMAINS[0], signed=1, narrow=1),
        helper.make_node("MatMul", ["xq", "wq"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])],
        [numpy_helper.from_array(a, n) for n, a in known.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAINS[0], 1)]
    path = tmp_path / "product.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    found = import_onnx(path)
    product = found.nodes[-1]
    assert [v.type.bits for v in product.inputs if v is not None] == [8, 4]
    wanted = (np.rint(X / 0.25) * 0.25) @ (np.clip(np.rint(w / scales), -7, 7) * scales)
    np.testing.assert_allclose(interpret(found, {"x": X})["y"], wanted, rtol=1e-5)
