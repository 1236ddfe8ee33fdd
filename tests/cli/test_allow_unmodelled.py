"""`--allow-unmodelled`: an op without semantics is refused by default; with the flag it is a loud zero."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import tiny_onnx
from onnx import TensorProto, helper

from tetrasim import facade
from tetrasim.cli import main
from tetrasim.errors import UserError
from tetrasim.reports.lock import read

TARGETS = ("gpu/t4", "cpu/xeon-6154", "pim/pim-gpt", "fpga/u280")
RUN = ["run", "custom.onnx", "--dim", "rows=4", "--on", *TARGETS, "--quiet", "--no-cache"]
NAMED = "forward/relu (my.ops::Mystery)"


def custom(rows: int | str = "rows") -> onnx.ModelProto:
    """The MLP block with an op of a custom domain for its Relu; `h3`, its result, has a stated type."""
    model = tiny_onnx.mlp()
    node = model.graph.node[2]
    node.op_type, node.domain = "Mystery", "my.ops"
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("h3", TensorProto.FLOAT, [rows, 32]))
    return model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    onnx.save(custom(), "custom.onnx")


def test_refused_without_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 2
    told = capsys.readouterr().err
    assert "op 'Mystery' of domain 'my.ops' is not supported" in told
    assert "node 'relu'" in told
    assert "--allow-unmodelled" in told
    assert not Path("out").exists()


def test_runs_on_every_target_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--allow-unmodelled", "-o", "first"]) == 0
    assert f"1 node has no cost model and counts as zero: {NAMED}" in capsys.readouterr().out
    text = Path("first/report.json").read_text(encoding="utf-8")
    results = json.loads(text)["results"]
    assert [r["preset"] for r in results] == list(TARGETS)
    for r in results:
        cover = r["coverage"]
        assert cover["unmodelled"] == [NAMED]
        assert cover["nodes_modelled"] == cover["nodes"] - 1
        assert 0 < cover["macs_fraction"] < 1
        assert 0 < cover["bytes_fraction"] < 1
        assert r["warnings"][0].endswith(f"counts as zero: {NAMED}")
        assert not r["numerics"]["checked"]
        assert "my.ops::Mystery" in r["numerics"]["note"]
        (row,) = [op for op in r["ops"] if op["op"] == "Unmodelled"]
        assert (row["onnx"], row["time_ns"], row["macs"]) == (["relu"], 0.0, 0)
        assert r["latency"]["value"] > 0
        assert r["provenance"]["command"].endswith("--allow-unmodelled")
        page = Path("first", r["preset"].replace("/", "-"), "index.html").read_text(encoding="utf-8")
        assert f"counts as zero: {NAMED}" in page
    assert main([*RUN, "--allow-unmodelled", "-o", "second"]) == 0
    assert Path("second/report.json").read_text(encoding="utf-8") == text


def test_the_lock_carries_the_flag() -> None:
    assert main([*RUN, "--allow-unmodelled", "-o", "first"]) == 0
    assert read(Path("first/config.lock.yaml")).allow_unmodelled
    assert main(["run", "--lock", "first/config.lock.yaml", "--quiet", "-o", "again"]) == 0
    assert Path("again/report.json").read_bytes() == Path("first/report.json").read_bytes()
    assert main(["whatif", "first", "gpu/t4:clock_hz=2x"]) == 0


def test_a_cached_result_does_not_hide_the_refusal() -> None:
    run = facade.simulate("custom.onnx", "gpu/t4", dims={"rows": 4}, allow_unmodelled=True)
    assert run.results[0].coverage.unmodelled == (NAMED,)
    with pytest.raises(UserError, match="Mystery"):
        facade.simulate("custom.onnx", "gpu/t4", dims={"rows": 4})


def test_the_zero_is_the_op_alone() -> None:
    """The other nodes cost what they cost in the same model with the op known to cost nothing: a reshape."""
    plain = custom()
    node = plain.graph.node[2]
    node.op_type, node.domain = "Reshape", ""
    node.input.append("shape")
    plain.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 32]))
    plain.graph.node[2].input[0] = "h2"
    onnx.save(plain, "plain.onnx")
    hidden = facade.simulate("custom.onnx", "gpu/t4", dims={"rows": 4}, allow_unmodelled=True)
    known = facade.simulate("plain.onnx", "gpu/t4", dims={"rows": 4})
    assert hidden.results[0].phases[0].macs == known.results[0].phases[0].macs
    assert hidden.results[0].latency.value == pytest.approx(known.results[0].latency.value)


def test_no_measured_range_covers_a_model_without_some_of_its_ops() -> None:
    onnx.save(tiny_onnx.mlp(), "mlp.onnx")
    whole = facade.simulate("mlp.onnx", "gpu/t4", dims={"rows": 4}).results[0]
    partial = facade.simulate("custom.onnx", "gpu/t4", dims={"rows": 4}, allow_unmodelled=True).results[0]
    assert whole.latency.validated
    assert not partial.latency.validated
    assert not partial.phases[0].latency.validated


def test_any_number_of_inputs_runs_on_every_kind_of_target() -> None:
    """No input at all, or several that meet: a target sees an op that costs nothing."""
    model = custom()
    model.graph.node[2].input.extend(["x", "made"])
    model.graph.node.insert(0, helper.make_node("Make", [], ["made"], name="make", domain="my.ops"))
    model.graph.value_info.append(helper.make_tensor_value_info("made", TensorProto.FLOAT, [32]))
    onnx.save(model, "wide.onnx")
    targets = [*TARGETS, "pim/aim", "fpga/vu13p", "gpu/l4"]
    run = facade.simulate("wide.onnx", targets, dims={"rows": 4}, allow_unmodelled=True)
    for result in run.results:
        assert [name.partition(" ")[0] for name in result.coverage.unmodelled] == [
            "forward/make",
            "forward/relu",
        ]
        assert result.warnings[0].startswith("2 nodes have no cost model and count as zero: ")
        assert result.latency.value > 0


def test_import_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["import", "custom.onnx", "--dim", "rows=4", "--quiet"]
    assert main(arguments) == 2
    assert "--allow-unmodelled" in capsys.readouterr().err
    assert main([*arguments, "--allow-unmodelled"]) == 0
    told = capsys.readouterr().out
    assert "NOT MODELLED, counted as zero: custom/relu (my.ops::Mystery)" in told
    assert "coverage: 66.7 % of nodes (2 of 3)" in told
    assert "not checked (the model has ops without semantics here (my.ops::Mystery)" in told
