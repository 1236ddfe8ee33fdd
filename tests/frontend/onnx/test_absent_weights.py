"""Shapes and prices need no numbers: a model whose weight file is not there is read, and computes nothing."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from onnx_models import f32, model, node, saved

from tetrasim.errors import UserError
from tetrasim.flow.numerics import check_numerics
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ops.registry import work_of
from tetrasim.sim.ops.rounding import EXACT


def stored_outside(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 16]}, ["y"], {"w": f32(16, 8)})
    onnx.save_model(proto, path, save_as_external_data=True, location="model.data", size_threshold=0)
    return path


def test_a_missing_weight_file_is_priced_but_not_computed(tmp_path: Path) -> None:
    path = stored_outside(tmp_path)
    (tmp_path / "model.data").unlink()
    graph = import_onnx(path)
    assert work_of(graph.nodes[0]).macs == 16 * 8
    assert graph.weight_bytes == 16 * 8 * 4
    found = check_numerics(graph, graph, path, EXACT)
    assert not found.checked
    assert "their file is not there" in found.note


def test_a_short_weight_file_is_damaged(tmp_path: Path) -> None:
    path = stored_outside(tmp_path)
    (tmp_path / "model.data").write_bytes(b"1234")
    with pytest.raises(UserError, match="too short"):
        import_onnx(path)


def test_a_weight_without_numbers_is_damaged(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 16]}, ["y"], {"w": f32(16, 8)})
    proto.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=1, dims=[16, 8]))
    with pytest.raises(UserError, match="has no numbers"):
        import_onnx(saved(proto, tmp_path))


def test_a_constant_in_a_side_file_is_refused(tmp_path: Path) -> None:
    tensor = TensorProto(name="c", data_type=1, dims=[16, 8], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../outside.bin")
    nodes = [node("Constant", [], ["w"], value=tensor), node("MatMul", ["x", "w"], ["y"])]
    with pytest.raises(UserError, match="side file"):
        import_onnx(saved(model(nodes, {"x": [1, 16]}, ["y"]), tmp_path))
