"""Inputs whose value decides the graph, and shapes that data decide: the user says them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tetrasim.cli import main
from tetrasim.errors import UserError
from tetrasim.frontend.onnx import import_onnx

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def saved(
    folder: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int]]], output: str
) -> Path:
    infos = [helper.make_tensor_value_info(name, *of) for name, of in inputs.items()]
    end = helper.make_tensor_value_info(output, F, None)
    weight = onnx.numpy_helper.from_array(np.ones((8, 64), np.float32), "w")
    rate = onnx.numpy_helper.from_array(np.array(16000, np.int64), "high")
    graph = helper.make_graph(nodes, "g", infos, [end], [weight, rate])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def switched(folder: Path) -> Path:
    """`sr` of 16,000 takes the product, any other rate only a Relu."""

    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], F, None)])

    then = branch("yes", helper.make_node("MatMul", ["x", "w"], ["a"]))
    other = branch("no", helper.make_node("Concat", ["x"] * 8, ["b"], axis=1))
    nodes = [
        helper.make_node("Equal", ["sr", "high"], ["fast"]),
        helper.make_node("If", ["fast"], ["y"], then_branch=then, else_branch=other),
    ]
    return saved(folder, nodes, {"x": (F, [4, 8]), "sr": (I64, [])}, "y")


@pytest.mark.parametrize(("rate", "op"), [("16000", "MatMul"), ("8000", "Concat"), ("16000.0", "MatMul")])
def test_an_input_decides_the_branch(rate: str, op: str, tmp_path: Path) -> None:
    graph = import_onnx(switched(tmp_path), values={"sr": rate}, rewrites=False)
    assert [node.op for node in graph.nodes] == [op]
    assert [value.name for value in graph.inputs] == ["x"]


def test_the_command_runs_and_checks_it_and_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    switched(tmp_path)
    assert main(["import", "m.onnx", "--input", "sr=16000", "--json", "-q"]) == 0
    numerics = json.loads(capsys.readouterr().out)["numerics"]
    assert numerics["checked"], numerics["note"]
    assert main(["run", "m.onnx", "--on", "gpu/t4", "--input", "sr=16000", "-o", "out", "-q"]) == 0
    assert main(["run", "--lock", "out/config.lock.yaml", "-o", "again", "-q"]) == 0
    assert Path("out/report.json").read_bytes() == Path("again/report.json").read_bytes()
    assert main(["run", "m.onnx", "--on", "gpu/t4", "--input", "sr=8000", "-o", "slow", "-q"]) == 0
    assert Path("out/report.json").read_bytes() != Path("slow/report.json").read_bytes()


def test_mistakes_are_said(tmp_path: Path) -> None:
    file = switched(tmp_path)
    with pytest.raises(UserError, match="no input 'rs'"):
        import_onnx(file, values={"rs": "1"})
    with pytest.raises(UserError, match="no value of input 'sr'"):
        import_onnx(file, values={"sr": "fast"})


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (helper.make_node("NonZero", ["x"], ["rows"]), (2, 5)),
        (helper.make_node("Compress", ["x", "keep"], ["rows"], axis=0), (5, 8)),
        (helper.make_node("Unique", ["x"], ["rows"], axis=0), (5, 8)),
        (helper.make_node("Unique", ["x"], ["rows"]), (5,)),
    ],
)
def test_expected_rows_price_what_follows(
    node: onnx.NodeProto, shape: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node, helper.make_node("Cast", ["rows"], ["y"], to=F)]
    file = saved(tmp_path, nodes, {"x": (F, [12, 8]), "keep": (BOOL, [12])}, "y")
    with pytest.raises(UserError) as refusal:
        import_onnx(file)
    assert "--expect rows=ROWS" in refusal.value.hint
    graph = import_onnx(file, allow_unmodelled=True, rows={"rows": 5})
    assert graph.outputs[0].type.shape == shape
    words = ["--allow-unmodelled", "--expect", "rows=5", "-o", str(tmp_path / "out"), "-q"]
    assert main(["run", str(file), "--on", "gpu/t4", *words]) == 0
    assert "count as zero" in capsys.readouterr().out.replace("counts", "count")
