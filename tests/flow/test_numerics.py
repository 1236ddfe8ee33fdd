"""The comparison with a reference: every output, typed inputs, equal NaN, refusals that go on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tetrasim.cli import main
from tetrasim.flow.feeds import seeded_feeds
from tetrasim.flow.numerics import headline, output_error, summary
from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.result import NumericsResult


def saved(
    folder: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int]]], outputs: list[str],
    *, opset: int = 21, kind: int = TensorProto.FLOAT,
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, type, shape) for name, (type, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def imported(file: Path, capsys: pytest.CaptureFixture[str]) -> NumericsResult:
    assert main(["import", str(file), "--json", "-q"]) == 0

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is not JSON")

    return NumericsResult(**json.loads(capsys.readouterr().out, parse_constant=refuse)["numerics"])


FLOATS = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16]
INTEGERS = [
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32,
    TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64, TensorProto.BOOL,
]  # fmt: skip


@pytest.mark.parametrize("kind", FLOATS)
def test_every_float_type_is_fed_as_it_is(
    kind: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "y"], ["z"])]
    found = imported(
        saved(tmp_path, nodes, {"x": (kind, [3, 4]), "y": (kind, [4, 5])}, ["z"], kind=kind), capsys
    )
    assert found.checked, found.note
    assert found.max_abs_error is not None
    assert found.max_abs_error <= 0.02 * found.output_range


@pytest.mark.parametrize("kind", INTEGERS)
def test_every_integer_type_is_fed_over_its_range(
    kind: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    file = saved(tmp_path, nodes, {"x": (kind, [64, 8])}, ["y"])
    found = imported(file, capsys)
    assert found.checked, found.note
    assert found.max_abs_error == 0
    small = {
        TensorProto.INT8: 256,
        TensorProto.UINT8: 256,
        TensorProto.INT16: 65536,
        TensorProto.UINT16: 65536,
    }
    (feed,) = seeded_feeds(import_onnx(file, {})).values()
    spread = int(feed.max()) - int(feed.min())
    assert spread > 0.8 * small[kind] if kind in small else spread <= 1


@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND"])
def test_ids_stay_within_their_table(op: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node(op, ["table", "ids"], ["y"])]
    shapes = {"table": (TensorProto.FLOAT, [5, 3]), "ids": (TensorProto.INT64, [4, 1])}
    found = imported(saved(tmp_path, nodes, shapes, ["y"]), capsys)
    assert found.checked, found.note
    assert found.max_abs_error == 0


def test_nan_and_infinities_in_the_same_places_are_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Log", ["x"], ["nan"]),
        helper.make_node("Sub", ["x", "x"], ["zero"]),
        helper.make_node("Div", ["x", "zero"], ["infinite"]),
    ]
    found = imported(saved(tmp_path, nodes, {"x": (TensorProto.FLOAT, [4, 4])}, ["nan", "infinite"]), capsys)
    assert found.checked
    assert found.outputs == 2
    assert found.max_abs_error is not None
    assert found.max_abs_error < 1e-5


def test_what_no_reference_runs_is_not_checked_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(
        tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": (TensorProto.FLOAT, [2, 2])}, ["y"]
    )
    model = onnx.load(file)
    model.ir_version = 99
    file.write_bytes(model.SerializeToString())
    found = imported(file, capsys)
    assert found.checked or "onnxruntime does not run it" in found.note
    assert main(["run", str(file), "--on", "gpu/t4", "-o", str(tmp_path / "out"), "-q"]) == 0


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=8),
    st.lists(st.floats(width=32), min_size=1, max_size=8),
)
def test_the_error_is_finite_or_says_that_it_is_not(left: list[float], right: list[float]) -> None:
    size = min(len(left), len(right))
    found = output_error("y", np.array(left[:size]), np.array(right[:size]))
    assert found is not None
    assert np.isfinite([found.max_abs, found.mean_abs, found.span]).all()
    same = all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=False))
    assert (found.relative == 0) == same
    assert json.dumps(summary([found]).max_abs_error, allow_nan=False)


def test_the_output_that_is_furthest_off_stands_for_all() -> None:
    good = output_error("good", np.arange(4.0), np.arange(4.0))
    bad = output_error("bad", np.arange(4.0), np.zeros(4))
    assert good is not None
    assert bad is not None
    found = summary([good, bad])
    assert (found.output, found.outputs, found.max_abs_error) == ("bad", 2, 3.0)
    assert "output error of 100 %" in headline(found)
    assert headline(summary([good])) == ""


def test_one_entry_per_row_has_no_ranking() -> None:
    found = output_error("y", np.zeros((4, 1)), np.ones((4, 1)))
    assert found is not None
    assert found.top1 is None


def test_equal_choices_are_counted_apart_from_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    k = helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(np.array([3], np.int64)))
    nodes = [k, helper.make_node("TopK", ["x", "k"], ["values", "indices"])]
    file = saved(tmp_path, nodes, {"x": (TensorProto.FLOAT, [16, 64])}, ["values"])
    assert imported(file, capsys).equal_choices == 1.0
    settings = ["--set", "numbers.bits=4", "numbers.integer_bits=3"]
    out = tmp_path / "out"
    assert main(["run", str(file), "--on", "fpga/zcu102", "-o", str(out), "-q", *settings]) == 0
    (result,) = json.loads((out / "report.json").read_text())["results"]
    assert 0 < result["numerics"]["equal_choices"] < 1
