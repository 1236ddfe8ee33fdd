"""The interpreter checks its feeds and rounds every result through the arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import f32, model, node, saved

from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Graph, TensorType
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.rounding import EXACT


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Exp", ["h"], ["y"])]
    return import_onnx(saved(model(nodes, {"x": (2, 3)}, ["y"], {"w": f32(3, 4)}), tmp_path))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is not fed"),
        ({"x": np.zeros((3, 2))}, r"shape \(3, 2\), not \(2, 3\)"),
        ({"x": np.zeros((2, 3)), "z": np.zeros(1)}, "there is no input 'z'"),
    ],
)
def test_wrong_feeds_are_named(graph: Graph, feeds: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        interpret(graph, feeds)


def test_every_value_and_product_goes_through_the_arithmetic(graph: Graph) -> None:
    stored: list[tuple[int, ...]] = []
    calls: list[str] = []

    class Recording:
        def store(self, x: np.ndarray, type: TensorType) -> np.ndarray:
            stored.append(type.shape)
            return EXACT.store(x, type)

        def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
            calls.append("matmul")
            return EXACT.matmul(a, b)

        def function(self, name: str, x: np.ndarray) -> np.ndarray:
            calls.append(name)
            return EXACT.function(name, x)

    x = f32(2, 3)
    out = interpret(graph, {"x": x}, Recording())["y"]
    np.testing.assert_allclose(out, np.exp(x @ f32(3, 4)), rtol=1e-6)
    assert sorted(stored) == [(2, 3), (2, 4), (2, 4), (3, 4)]  # x, h, y, w
    assert calls == ["matmul", "exp"]
