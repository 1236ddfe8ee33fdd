"""Broken and hostile ONNX files end in a message that names the problem, never in a traceback."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_models import f32, model, node, saved

from tetrasim.errors import UnsupportedOpError, UserError
from tetrasim.frontend.onnx import import_onnx


def linear() -> object:
    return model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 4]}, ["y"], {"w": f32(4, 4)})


def external(folder: Path, location: str, **entries: str) -> Path:
    proto = linear()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return saved(proto, folder)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        import_onnx(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no graph"),
        (b"this is text, not a model\n" * 20, "not an ONNX file"),
    ],
)
def test_file_that_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert message in refusal(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")
    assert "a folder" in refusal(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 2000), flip=st.integers(0, 2000))
def test_truncated_or_damaged_files_never_give_a_traceback(tmp_path: Path, cut: int, flip: int) -> None:
    whole = bytearray(linear().SerializeToString())
    whole[flip % len(whole)] ^= 0x5A
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(whole[: max(len(whole) - cut, 0)] if cut % 2 else whole))
    with contextlib.suppress(UserError):
        import_onnx(path)


def test_cycle_is_named(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])]
    assert "cycle through node 'a'" in refusal(saved(model(nodes, {"x": [2]}, ["b"]), tmp_path))


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    nodes = [node("Relu", ["a"], ["b"]), node("Neg", ["x"], ["a"])]
    graph = import_onnx(saved(model(nodes, {"x": [2]}, ["b"]), tmp_path))
    assert [n.op for n in graph.nodes] == ["Neg", "Relu"]


def test_dangling_input_and_output(tmp_path: Path) -> None:
    dangling = model([node("Add", ["x", "ghost"], ["y"])], {"x": [2]}, ["y"])
    assert "reads 'ghost', which nothing computes" in refusal(saved(dangling, tmp_path))
    headless = model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["z"])
    assert "output 'z' is never computed" in refusal(saved(headless, tmp_path))


def test_duplicate_output(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]
    assert "'y', which exists already" in refusal(saved(model(nodes, {"x": [2]}, ["y"]), tmp_path))


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "", "..\\secret.bin", "sub/../../w.bin"],
)
def test_external_data_must_stay_inside(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    assert "leads out of the model's folder" in refusal(external(inside, location))


def test_external_data_through_a_link(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    os.symlink(tmp_path / "secret.bin", inside / "w.bin")
    assert "leads out of the model's folder" in refusal(external(inside, "w.bin"))


@pytest.mark.parametrize(
    ("size", "entries", "message"),
    [
        (63, {}, "too short: 63 bytes, 64 needed"),
        (64, {"offset": "4"}, "too short"),
        (64, {"offset": "-4"}, "64 bytes at -4"),
        (64, {"length": "32"}, "32 bytes at 0, but float32[4,4] takes 64"),
        (64, {"offset": "many"}, "not a number"),
    ],
)
def test_external_data_must_be_whole(
    tmp_path: Path, size: int, entries: dict[str, str], message: str
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(size))
    assert message in refusal(external(tmp_path, "w.bin", **entries))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Softmx", ["x"], ["y"])], "did you mean 'Softmax'?"),
        ([node("NonZero", ["x"], ["y"])], "depends on run-time data"),
        ([node("Reshape", ["x", "x"], ["y"])], "computed at run time"),
        ([node("MatMul", ["x", "x"], ["y"])], "inner dims differ: (2, 3) times (2, 3)"),
        ([node("Unique", ["x"], ["y"])], "depends on run-time data"),
        ([node("Transpose", ["x"], ["y"], perm=[0, 2])], "does not permute"),
        ([node("Concat", ["x", "x"], ["y"], axis=5)], "axis 5 is out of range"),
        ([node("Softmax", ["x"], ["y"], domain="custom.ops")], "domain 'custom.ops'"),
        ([node("LongformerAttention", ["x"], ["y"], domain="com.microsoft")], "has no rule"),
    ],
)
def test_unsupported_graphs_name_node_and_reason(tmp_path: Path, nodes: list, message: str) -> None:
    path = saved(model(nodes, {"x": [2, 3]}, ["y"]), tmp_path)
    text = refusal(path)
    assert message in text
    assert "node 'y'" in text


def test_unsupported_op_is_its_own_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpError):
        import_onnx(saved(model([node("Nonsense", ["x"], ["y"])], {"x": [2]}, ["y"]), tmp_path))


def test_string_tensors_are_refused(tmp_path: Path) -> None:
    proto = model([node("Identity", ["x"], ["y"])], {"x": [2]}, ["y"], types={"x": TensorProto.STRING})
    assert "element type 8 is not supported" in refusal(saved(proto, tmp_path))


def test_input_without_shape(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert "has no shape" in refusal(saved(proto, tmp_path))


def test_huge_constant_shape_is_not_allocated(tmp_path: Path) -> None:
    """A hostile ConstantOfShape must not exhaust memory at import."""
    nodes = [node("ConstantOfShape", ["s"], ["big"]), node("Add", ["x", "big"], ["y"])]
    weights = {"s": np.array([100_000, 100_000], np.int64)}
    graph = import_onnx(saved(model(nodes, {"x": [1]}, ["y"], weights), tmp_path))
    assert graph.outputs[0].type.shape == (100_000, 100_000)
