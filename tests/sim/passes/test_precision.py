"""Formats per role: bytes follow, integers and quantised values stay, numbers round to the format."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx_models import f32, model, node, saved

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.graph import Kind, Quant, Role, TensorType
from tetrasim.sim.ir.interpreter import interpret
from tetrasim.sim.ops.rounding import EXACT, RoundedArithmetic, erf, round_to
from tetrasim.sim.passes.precision import with_precision
from tetrasim.sim.precision import BFLOAT16, FLOAT8, FLOAT16, INT8, Format, Precision


def cached_step(tmp_path: Path) -> Path:
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Reshape", ["e", "s"], ["n"]),
        node("Concat", ["past_key.0", "n"], ["present_key.0"], axis=2),
        node("ReduceSum", ["present_key.0"], ["y"]),
    ]
    weights = {"table": f32(10, 4), "s": np.array([1, 1, 1, 4])}
    inputs = {"ids": (1,), "past_key.0": (1, 1, 3, 4)}
    proto = model(nodes, inputs, ["y", "present_key.0"], weights, types={"ids": TensorProto.INT64})
    return saved(proto, tmp_path)


def test_every_role_gets_its_format(tmp_path: Path) -> None:
    graph = import_onnx(cached_step(tmp_path))
    low = with_precision(graph, Precision(weights=INT8, activations=BFLOAT16, state=FLOAT8))
    low.verify()
    by_name = {v.name: v for v in low.values()}
    assert by_name["table"].type.dtype == "int8"
    assert by_name["e"].type.dtype == "bfloat16"
    assert by_name["past_key.0"].type.dtype == by_name["present_key.0"].type.dtype == "float8"
    assert by_name["ids"].type.dtype == "int64"
    assert (low.weight_bytes, low.state_bytes) == (40, 16)
    assert low.states[0].after is low.outputs[1]
    assert by_name["table"].role is Role.WEIGHT


def test_same_precision_is_the_same_graph(tmp_path: Path) -> None:
    graph = import_onnx(cached_step(tmp_path))
    assert with_precision(graph, Precision()) is graph


@given(st.lists(st.floats(-1e5, 1e5, width=32), min_size=1, max_size=20))
def test_rounding_is_that_of_ml_dtypes(numbers: list[float]) -> None:
    x = np.array(numbers, np.float32)
    bf16 = round_to(x, TensorType((), Kind.BFLOAT, 16))
    np.testing.assert_array_equal(bf16, x.astype(ml_dtypes.bfloat16).astype(np.float32))
    fp16 = round_to(x, TensorType((), Kind.FLOAT, 16))
    with np.errstate(over="ignore"):
        expected16 = x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(fp16, expected16)
    fp8 = round_to(x, TensorType((), Kind.FLOAT, 8))
    assert np.abs(fp8).max() <= 448
    inside = np.abs(x) <= 448
    np.testing.assert_array_equal(fp8[inside], x[inside].astype(ml_dtypes.float8_e4m3fn).astype(np.float32))


@given(st.floats(-100, 100), st.integers(4, 18), st.integers(1, 4))
def test_fixed_point_is_a_saturating_grid(x: float, bits: int, integer_bits: int) -> None:
    type = TensorType((), Kind.FIXED, bits, Quant(integer_bits=integer_bits))
    step, top = 2.0 ** (integer_bits - bits), 2.0 ** (integer_bits - 1)
    got = float(round_to(np.array(x, np.float32), type))
    assert got % step == 0
    assert -top <= got <= top - step
    if -top <= x <= top - step:
        assert abs(got - x) <= step / 2 + 1e-6


def test_per_channel_quantisation_rounds_to_its_own_steps() -> None:
    type = TensorType((2, 3), Kind.INT, 8, Quant((1.0, 0.5, 0.25), (), 1))
    x = np.array([[0.6, 0.6, 0.6], [300, 300, 300]], np.float32)
    expected = [[1.0, 0.5, 0.5], [127.0, 63.5, 31.75]]
    np.testing.assert_array_equal(round_to(x, type), expected)


@pytest.mark.parametrize(
    ("format", "bound"), [(FLOAT16, 2e-3), (BFLOAT16, 2e-2), (Format(Kind.FIXED, 16, 6), 2e-2)]
)
def test_rounded_arithmetic_is_near_and_not_exact(tmp_path: Path, format: Format, bound: float) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=-1)]
    graph = import_onnx(saved(model(nodes, {"x": (3, 8)}, ["y"], {"w": 0.3 * f32(8, 5)}), tmp_path))
    x = f32(3, 8)
    exact = interpret(graph, {"x": x})["y"]
    low = with_precision(graph, Precision(format, format, format))
    rounded = interpret(low, {"x": x}, RoundedArithmetic(accumulate=format))["y"]
    error = np.abs(rounded - exact).max()
    assert 0 < error < bound


def test_erf_is_accurate() -> None:
    import math

    x = np.linspace(-6, 6, 4001)
    assert np.abs(erf(x) - np.vectorize(math.erf)(x)).max() < 2e-7
    assert EXACT.function("erf", np.float32([0.0]))[0] == pytest.approx(0, abs=2e-7)


def test_integer_formats_without_a_scale_take_one_from_the_tensor(tmp_path: Path) -> None:
    """Real inputs and states of an int8 graph are rounded, not truncated to integers."""
    graph = import_onnx(cached_step(tmp_path))
    low = with_precision(graph, Precision(INT8, INT8, INT8))
    past = np.array([[[[0.1, 0.2, -0.3, 0.4]] * 3]], np.float32)
    feeds = {"ids": np.array([2]), "past_key.0": past}
    exact = interpret(graph, feeds)["present_key.0"]
    rounded = interpret(low, feeds, RoundedArithmetic())["present_key.0"]
    step = np.abs(exact).max() / 127
    error = np.abs(rounded - exact).max()
    assert 0 < error <= 1.01 * step
