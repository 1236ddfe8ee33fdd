"""Quantised ONNX files are taken as given: their integers are the firmware's types, or they are refused."""

from __future__ import annotations

import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

sys.path.insert(0, str(Path(__file__).parent))

from qdq_files import Writer, qdq_encoder, qdq_mlp

from tetrasim.cli import main
from tetrasim.cli.hls import load_graph
from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.calibrate import EXACT_BITS, Widths, calibrate, exact_type
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_fixed
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.plan import Fixed
from tetrasim.hw_targets.fpga.hls.project import generate, reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.rtl.flow import write_rtl

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@needs_compiler
@pytest.mark.parametrize(("strategy", "reuse"), [("latency", 1), ("resource", 2)])
def test_a_quantised_mlp_equals_onnxruntime_bit_for_bit(tmp_path: Path, strategy: str, reuse: int) -> None:
    graph, file = load_graph(str(qdq_mlp(tmp_path / "m.onnx")))
    options = HlsOptions(samples=300, calibration=50, strategy=strategy, reuse=reuse)
    numerics = generate(graph, tmp_path / "p", options, onnx_path=file).numerics
    assert numerics.reference == "onnxruntime"
    assert numerics.bit_exact is True
    assert numerics.max_error == 0
    assert numerics.output_range > 10
    types = [row.type for row in numerics.layers]
    assert types == [
        "fixed<8,4,RND_CONV,SAT>",  # int8 at 2**-4
        "ufixed<8,4,RND_CONV,SAT>",  # uint8 at 2**-4, which is the ReLU as well
        "fixed<8,6,RND_CONV,SAT>",  # int8 at 2**-2
    ]


@needs_compiler
def test_a_quantised_encoder_differs_from_onnxruntime_in_few_steps(tmp_path: Path) -> None:
    """Its softmax and norm use tables, whose errors may turn a rounding; everything else is exact."""
    graph, file = load_graph(str(qdq_encoder(tmp_path / "e.onnx")))
    options = HlsOptions(samples=200, calibration=50)
    report = generate(graph, tmp_path / "p", options, onnx_path=file)
    numerics = report.numerics
    assert numerics.reference == "onnxruntime"
    assert numerics.bit_exact is True
    assert numerics.conversion_error == 0
    step = 2.0**-4
    assert numerics.max_error <= 2 * step
    assert numerics.mean_error < 0.1 * step
    assert numerics.argmax >= 0.99
    assert all("<8," in row.type or (row.op == "MatMul" and "<9," in row.type) for row in numerics.layers)
    errors = {row.layer: row.max_error for row in numerics.layers}
    assert errors["scores"] == 0
    assert errors["rows"] <= 2.0**-8


def test_weights_are_stored_exactly_in_the_bits_of_the_file(tmp_path: Path) -> None:
    graph, _ = load_graph(str(qdq_mlp(tmp_path / "m.onnx")))
    plan = calibrate(convert(graph), {"x": np.zeros((1, 4))}, Widths(6))
    dense = [x for x in plan.layers if isinstance(x, p.Dense)]
    assert len(dense) == 2
    for layer in dense:
        types = plan.types[layer.name]
        assert types.weight is not None
        assert types.bias is not None
        assert (types.weight.quantise(layer.weight) == layer.weight).all()
        assert (types.bias.quantise(layer.bias) == layer.bias).all()
    first, second = (plan.types[x.name].weight for x in dense)
    assert first == Fixed(8, 2)
    assert second is not None
    assert second.bits <= 10  # 8 bits at three scales that are two powers apart


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"scale": 0.1}, "given.q (QuantizeDequantize): its scale 0.1 is not a power of two"),
        ({"zero": 3}, "given.q (QuantizeDequantize): its zero point is 3, not 0"),
        ({"weight_scale": 0.01}, "first (Gemm): 'w1': its scale 0.01 is not a power of two"),
        ({"out": 0.3}, "y.q (QuantizeLinear): its scale 0.3 is not a power of two"),
    ],
)
def test_other_scales_and_zero_points_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, float], line: str
) -> None:
    file = qdq_mlp(tmp_path / "m.onnx", **changes)
    assert main(["hls", str(file), "-q", "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: 1 of 7 nodes have no HLS layer:\n"
        f"  - {line}; quantise it with powers of two and zero points of 0, or convert the float model: "
        "--bits chooses its types\n"
        "  where: m\n"
        "  hint: nothing was written; `tetrasim run … --on fpga/…` still simulates the model on the overlay\n"
    )
    assert not (tmp_path / "out").exists()


def test_scales_too_far_apart_to_store_exactly_are_refused(tmp_path: Path) -> None:
    w = Writer()
    w.op("MatMul", ["x", w.weight("w", (4, 2), [1.0, 2.0**-24])], "y")
    with pytest.raises(UserError, match=r"y \(MatMul\): 'w': its scales lie too far apart"):
        convert(load_graph(str(w.save(tmp_path / "m.onnx", (1, 4), 2)))[0])


def test_a_value_on_two_grids_keeps_a_type_of_its_own(tmp_path: Path) -> None:
    w = Writer()
    coarse, fine = w.grid("x", "coarse", 0.25), w.grid("x", "fine", 2.0**-5)
    w.op("Sub", [fine, coarse], "y")
    graph, file = load_graph(str(w.save(tmp_path / "m.onnx", (1, 4), 4)))
    plan, options = convert(graph), HlsOptions(samples=500, calibration=500)
    feeds = sample_inputs(graph, plan, options)
    reference, _ = reference_outputs(graph, feeds, file)
    plan = calibrate(plan, feeds, Widths(16))
    assert sorted(t.result.bits for t in plan.types.values()) == [8, 8, 16, 16]
    wrong = np.abs(run_fixed(plan, feeds)[plan.outputs[0]] - reference)
    assert wrong.max() <= 0.25  # the input is rounded to 16 bits first: a tie may fall on the other side
    assert (wrong == 0).mean() > 0.98


def test_integers_that_leave_the_model_are_refused(tmp_path: Path) -> None:
    w = Writer()
    scale, zero = w.constant("s", np.float32(0.25)), w.constant("z", np.int8(0))
    w.op("QuantizeLinear", ["x", scale, zero], "y")
    file = w.save(tmp_path / "m.onnx", (1, 4), 4, TensorProto.INT8)
    with pytest.raises(UserError, match=r"y \(QuantizeLinear\): its integers themselves are read"):
        convert(load_graph(str(file))[0])


def test_the_verilog_flow_refuses_rounding_to_even(tmp_path: Path) -> None:
    graph, _ = load_graph(str(qdq_mlp(tmp_path / "m.onnx")))
    with pytest.raises(UserError, match="rounds half to even"):
        write_rtl(graph, tmp_path / "rtl", "da4ml", HlsOptions())
    assert not (tmp_path / "rtl").exists()


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(2**30), 2**30), st.integers(2, 16), st.integers(-4, 18), st.integers(0, 30), st.booleans()
)
def test_rounding_half_to_even_equals_exact_arithmetic(
    raw: int, bits: int, integer: int, fraction: int, signed: bool
) -> None:
    kind = Fixed(bits, integer, signed, even=True)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    wanted = min(max(round(Fraction(raw) / Fraction(2) ** (fraction - kind.fraction)), low), high)
    assert kind.from_raw(np.array([raw]), fraction)[0] == wanted
    assert kind.raw(np.array([raw / 2.0**fraction]))[0] == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-128, 127), min_size=1, max_size=20), st.integers(-20, 10))
def test_the_exact_type_is_exact_and_no_bit_wider_than_needed(integers: list[int], exponent: int) -> None:
    x = np.array(integers) * 2.0**exponent
    kind = exact_type(x)
    if kind is None:
        assert not x.any()
        return
    assert kind.bits <= 8
    assert (kind.quantise(x) == x).all()
    if kind.bits > 2:
        assert (Fixed(kind.bits - 1, kind.integer).quantise(x) != x).any()
        assert (Fixed(kind.bits - 1, kind.integer - 1).quantise(x) != x).any()
    assert exact_type(np.array([1.0, 2.0**-EXACT_BITS])) is None
