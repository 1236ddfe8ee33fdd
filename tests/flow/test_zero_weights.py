"""Many zeros among the weights are said in the headline, since no target skips them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tetrasim


def saved(folder: Path, zeros: float) -> Path:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64)).astype(np.float32)
    weight[rng.random(weight.shape) < zeros] = 0
    shape = [4, 64]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(("zeros", "said"), [(0.0, False), (0.1, False), (0.5, True), (0.9, True)])
def test_the_headline_says_that_zeros_are_not_skipped(zeros: float, said: bool, tmp_path: Path) -> None:
    run = tetrasim.simulate(saved(tmp_path, zeros), on=["gpu/t4", "fpga/u280"], numerics=False)
    for result in run.results:
        assert any("are zeros" in note for note in result.warnings) is said
