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

from qdq_files import Writer, qdq_cnn, qdq_encoder, qdq_mlp

from tetrasim.errors import UserError
from tetrasim.facade import load_forward
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate, exact_type
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emulate import run_fixed
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.plan import EXACT_BITS, Fixed
from tetrasim.hw_targets.fpga.hls.project import generate, reference_outputs, sample_inputs
from tetrasim.hw_targets.fpga.hls.units import grid_type, multiplier
from tetrasim.hw_targets.fpga.rtl.flow import write_rtl

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@needs_compiler
@pytest.mark.parametrize(("strategy", "reuse"), [("latency", 1), ("resource", 2)])
def test_a_quantised_mlp_equals_onnxruntime_bit_for_bit(tmp_path: Path, strategy: str, reuse: int) -> None:
    graph, file = load_forward(str(qdq_mlp(tmp_path / "m.onnx")))
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
    graph, file = load_forward(str(qdq_encoder(tmp_path / "e.onnx")))
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
    graph, _ = load_forward(str(qdq_mlp(tmp_path / "m.onnx")))
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


@needs_compiler
@pytest.mark.parametrize(
    ("changes", "io"),
    [({"scale": 0.1}, "stream"), ({"scale": 0.037, "zero": -7, "out": 0.21}, "parallel")],
    ids=["decimal", "general"],
)
def test_any_scale_and_zero_point_equals_onnxruntime(
    tmp_path: Path, changes: dict[str, float], io: str
) -> None:
    graph, file = load_forward(str(qdq_mlp(tmp_path / "m.onnx", **changes)))  # type: ignore[arg-type]
    options = HlsOptions(samples=500, calibration=50, io=io)
    numerics = generate(graph, tmp_path / "p", options, onnx_path=file).numerics
    assert numerics.reference == "onnxruntime"
    assert numerics.bit_exact is True
    # with a scale like 0.1, sums lie within float32's error of the middle of two steps: either is right there
    exact = "zero" in changes
    assert numerics.steps <= (0 if exact else 1)
    assert numerics.same_steps >= (1 if exact else 0.99)
    assert numerics.output_range > 10


@needs_compiler
def test_a_quantised_cnn_is_at_most_one_step_from_onnxruntime(tmp_path: Path) -> None:
    """onnxruntime rounds in float32: a sum within its error of the middle of two steps may go either way."""
    graph, file = load_forward(str(qdq_cnn(tmp_path / "c.onnx", per_channel=True)))
    options = HlsOptions(samples=300, calibration=50)
    numerics = generate(graph, tmp_path / "p", options, onnx_path=file).numerics
    assert numerics.bit_exact is True
    assert numerics.steps <= 1
    assert numerics.same_steps >= 0.995


def test_scales_along_a_summed_axis_are_refused(tmp_path: Path) -> None:
    w = Writer()
    w.constant("w.q", w.rng.integers(-128, 128, (4, 2)).astype(np.int8))
    w.constant("w.s", np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    w.constant("w.z", np.zeros(4, np.int8))
    w.op("MatMul", ["x", w.op("DequantizeLinear", ["w.q", "w.s", "w.z"], "w", axis=0)], "y")
    with pytest.raises(
        UserError, match=r"y \(MatMul\): the scales of 'w' differ along an axis that is summed"
    ):
        convert(load_forward(str(w.save(tmp_path / "m.onnx", (1, 4), 2)))[0])


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-20, 8.0), st.integers(-(2**24), 2**24), st.integers(-128, 0), st.integers(1, 255))
def test_a_rescaled_integer_is_the_nearest_step(ratio: float, value: int, low: int, high: int) -> None:
    factor, shift = multiplier(np.array([ratio]), 25)
    head = p.Head("g", ("x",), (1,), "", "")
    kind = grid_type(p.Grid(head, 1.0, low, high))
    made = int(np.clip(kind.from_raw(np.array([value]) * factor, shift), low, high)[0])
    exact = min(max(Fraction(ratio) * value, low), high)
    assert abs(made - exact) <= Fraction(1, 2) + Fraction(abs(value), 2**29) * max(Fraction(ratio), 1)
    assert kind.real(np.array([low]))[0] == kind.quantise(np.array([float(low)]))[0]
    assert kind.quantise(np.array([float(high)]))[0] == high


def test_a_value_on_two_grids_keeps_a_type_of_its_own(tmp_path: Path) -> None:
    w = Writer()
    coarse, fine = w.grid("x", "coarse", 0.25), w.grid("x", "fine", 2.0**-5)
    w.op("Sub", [fine, coarse], "y")
    graph, file = load_forward(str(w.save(tmp_path / "m.onnx", (1, 4), 4)))
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
        convert(load_forward(str(file))[0])


def test_the_verilog_flow_refuses_rounding_to_even(tmp_path: Path) -> None:
    graph, _ = load_forward(str(qdq_mlp(tmp_path / "m.onnx")))
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
