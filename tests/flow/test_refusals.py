"""A target that refuses the model is listed with its reason; only when all of them refuse is it an error."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tetrasim import facade
from tetrasim.cli import main
from tetrasim.errors import CapacityError, UserError
from tetrasim.reports.document import parse

SMALL = {"fpga/vu13p:fabric.lut": 10, "fpga/vu13p:fabric.bram18": 1, "fpga/vu13p:fabric.uram": 0}


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [32, 32], [0.01] * 1024)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 32])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "forward", [x], [y], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, "mlp.onnx")


def test_the_other_targets_run() -> None:
    run = facade.simulate("mlp.onnx", ["fpga/vu13p", "cpu/xeon-6154"], settings=SMALL)
    assert [r.preset for r in run.results] == ["cpu/xeon-6154"]
    (no,) = run.document.refusals
    assert no.preset == "fpga/vu13p"
    assert no.where == "mlp.onnx on fpga/vu13p"
    assert "the model needs" in no.what
    assert "fpga/u280" in no.hint
    assert [t.preset for t in run.lock.targets] == ["cpu/xeon-6154"]
    assert parse(run.to_json(), "here").refusals == run.document.refusals
    assert f"refused fpga/vu13p: {no.what}; {no.hint}" in str(run)
    assert "fpga/vu13p refused" in run.to_html()


def test_one_target_that_refuses_is_an_error() -> None:
    with pytest.raises(CapacityError, match=r"mlp\.onnx on fpga/vu13p: the model needs"):
        facade.simulate("mlp.onnx", "fpga/vu13p", settings=SMALL)


def test_all_refusals_are_listed_when_nothing_runs() -> None:
    settings = SMALL | {"gpu/t4:dram.bytes": 2000}
    with pytest.raises(UserError) as no:
        facade.simulate("mlp.onnx", ["fpga/vu13p", "gpu/t4"], settings=settings)
    assert no.value.where == "mlp.onnx"
    assert "mlp.onnx on fpga/vu13p: the model needs" in no.value.what
    assert "mlp.onnx on gpu/t4: state" in no.value.what


def test_the_command_ends_well_unless_all_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [f"{path}={value}" for path, value in SMALL.items()]
    assert main(["run", "mlp.onnx", "--quiet", "--on", "fpga/vu13p", "cpu/xeon-6154", "--set", *pairs]) == 0
    told = capsys.readouterr().out
    assert "refused fpga/vu13p: the model needs" in told
    assert main(["run", "mlp.onnx", "--quiet", "--on", "fpga/vu13p", "--set", *pairs]) == 2
    assert "where: mlp.onnx on fpga/vu13p" in capsys.readouterr().err
