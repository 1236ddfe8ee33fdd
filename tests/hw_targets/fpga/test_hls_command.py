"""`tetrasim hls`: what it prints and refuses, and that ONNX files become checked projects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tetrasim.cli import main


def mlp_file(path: Path) -> Path:
    """4 -> 6 -> 3 with ReLU and softmax, as ONNX."""
    rng = np.random.default_rng(0)
    weights = {"w1": rng.normal(size=(4, 6)), "b1": rng.normal(size=6), "w2": rng.normal(size=(6, 3))}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["s"], name="second"),
        helper.make_node("Softmax", ["s"], ["y"], name="scores", axis=-1),
    ]
    shapes = [("x", 4), ("y", 3)]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in shapes)
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "mlp", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_an_onnx_file_becomes_a_checked_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = mlp_file(tmp_path / "m.onnx"), tmp_path / "p"
    np.savez(tmp_path / "in.npz", x=np.random.default_rng(1).normal(size=(30, 4)))
    common = [str(file), "--dim", "batch=1", "--bits", "0", "--samples", "30", "-q", "-o", str(out)]
    assert main(["hls", *common, "--inputs", str(tmp_path / "in.npz"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["numerics"]["bit_exact"] is True
    assert said["numerics"]["reference"] == "onnxruntime"
    assert said["numerics"]["max_error"] <= 0.02 * said["numerics"]["output_range"]
    assert said["estimate"]["preset"] == "fpga/vu13p"
    names = {p.name for p in out.iterdir()}
    assert {
        "firmware",
        "tb_data",
        "build_prj.tcl",
        "hls4ml_config.yml",
        "estimate.json",
        "numerics.csv",
    } <= names
    assert f"OutputDir: {out}" in (out / "hls4ml_config.yml").read_text()
    assert len((out / "tb_data" / "tb_input_features.dat").read_text().splitlines()) == 30
    assert main(["hls", *common]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jet-btag"], "error: no output folder"),
        (["report"], "error: no project folder"),
        (["report", "nowhere"], "error: 'nowhere' has no estimate.json"),
        (["jet-btag", "stray", "-o", "x"], "error: unexpected argument 'stray'"),
        (["jet-btag", "--strategy", "quick", "-o", "x"], "error: unknown --strategy 'quick'"),
        (["m.onnx", "--dim", "batch", "-o", "x"], "error: 'batch' is not NAME=VALUE"),
        (
            ["m.onnx", "--dim", "batch=1", "--inputs", "m.onnx", "-o", "x"],
            "error: no archive of arrays",
        ),
        (["m.onnx", "--dim", "batch=1", "--flow", "vhdl", "-o", "x"], "error: unknown --flow 'vhdl'"),
        (["m.onnx", "--dim", "batch=3", "-o", "x"], "has batch 3"),
    ],
)
def test_mistakes_end_with_two_and_leave_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    mlp_file(tmp_path / "m.onnx")
    assert main(["hls", *arguments, "-q"]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
