"""The host unit's series and the MAC units' rounding stay near the exact functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tetrasim.hw_targets.pim.config import PimConfig
from tetrasim.hw_targets.pim.numerics import PimArithmetic, arithmetic_of
from tetrasim.hw_targets.registry import find_preset


def arithmetic(preset: str) -> PimArithmetic:
    config = find_preset(f"pim/{preset}")[1].config
    assert isinstance(config, PimConfig)
    return arithmetic_of(config)


GPT = arithmetic("pim-gpt")


@pytest.mark.parametrize(
    ("name", "low", "high", "error"),
    [
        ("exp", -20.0, 5.0, 2e-6),
        ("reciprocal", 1e-3, 1e3, 1e-6),
        ("rsqrt", 1e-4, 1e4, 2e-3),
        ("sqrt", 1e-4, 1e4, 2e-3),
    ],
)
def test_series_error(name: str, low: float, high: float, error: float) -> None:
    x = np.geomspace(low, high, 4001, dtype=np.float32) if low > 0 else np.linspace(low, high, 4001)
    x = x.astype(np.float32)
    exact = {"exp": np.exp, "reciprocal": np.reciprocal, "sqrt": np.sqrt, "rsqrt": lambda v: 1 / np.sqrt(v)}
    wanted = exact[name](x.astype(np.float64))
    assert np.max(np.abs(GPT.function(name, x) - wanted) / wanted) < error


def test_tanh_is_bounded() -> None:
    x = np.linspace(-30, 30, 601, dtype=np.float32)
    got = GPT.function("tanh", x)
    assert np.max(np.abs(got - np.tanh(x))) < 1e-5
    assert np.max(np.abs(got)) <= 1


def test_erf_series() -> None:
    """Odd, saturated, continuous to within its own error, and near erf; more terms are nearer."""
    x = np.linspace(-5, 5, 2001, dtype=np.float32)
    exact = np.array([math.erf(v) for v in x.tolist()])
    errors = [np.max(np.abs(replace(GPT, erf_terms=n).function("erf", x) - exact)) for n in (4, 8, 12)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < 0.02
    got = GPT.function("erf", x)
    assert np.allclose(got, -got[::-1])
    assert np.max(np.abs(got)) <= 1


def test_more_terms_are_better() -> None:
    x = np.linspace(-5, 5, 501, dtype=np.float32)
    errors = [
        np.max(np.abs(replace(GPT, exp_terms=n).exp(x) / np.exp(x.astype(np.float64)) - 1)) for n in (2, 4, 6)
    ]
    assert errors[0] > errors[1] > errors[2]
    y = np.geomspace(0.01, 100, 501, dtype=np.float32)
    steps = [
        np.max(np.abs(replace(GPT, rsqrt_steps=n).rsqrt(y) * np.sqrt(y.astype(np.float64)) - 1))
        for n in (1, 2)
    ]
    assert steps[0] > 100 * steps[1]


def test_special_values() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype=np.float32)
    assert GPT.function("exp", x)[:2].tolist() == [1.0, 1.0]
    assert np.isposinf(GPT.function("exp", x)[2])
    assert GPT.function("exp", x)[3] == 0
    assert np.isnan(GPT.function("exp", x)[4])
    assert np.isposinf(GPT.function("reciprocal", x)[0])
    assert np.isneginf(GPT.function("reciprocal", x)[1])
    assert GPT.function("sqrt", x)[0] == 0


def test_products_are_chunked_and_rounded() -> None:
    """One chunk: the exact sum rounded once; two chunks: each rounded, then added in float32."""
    rng = np.random.default_rng(0)
    a = rng.integers(-8, 8, (3, 1500)).astype(np.float32)
    b = rng.integers(-8, 8, (1500, 5)).astype(np.float32)
    got = GPT.matmul(a, b)

    def bfloat16(x: np.ndarray) -> np.ndarray:
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)

    wanted = bfloat16(a[:, :1024] @ b[:1024]) + bfloat16(a[:, 1024:] @ b[1024:])
    assert np.array_equal(got, wanted)


def test_lanes_of_hbm_pim_accumulate_alone() -> None:
    hbm = arithmetic("hbm-pim")
    a = np.ones((1, 64), dtype=np.float32)
    b = np.full((64, 1), 0.1, dtype=np.float32)
    lane = np.float32(np.float16(4 * np.float32(np.float16(0.1))))
    assert hbm.matmul(a, b)[0, 0] == pytest.approx(16 * lane, rel=1e-6)


def exact(op: str) -> Callable[[np.ndarray], np.ndarray]:
    return {
        "Gelu": lambda v: 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2))),
        "Tanh": np.tanh,
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "Swish": lambda v: v / (1 + np.exp(-v)),
        "Relu": lambda v: np.maximum(v, 0),
        "LeakyRelu": lambda v: np.where(v < 0, 0.01 * v, v),
    }[op]


@pytest.mark.parametrize("op", ["Gelu", "Tanh", "Sigmoid", "Swish", "Relu", "LeakyRelu"])
def test_table_error(op: str) -> None:
    """AiM's tables are within a few roundings of bfloat16 (2**-9 each: argument, value, slope, result), far
    outside the table too; twice the intervals are no worse, eight times fewer clearly are."""
    aim = arithmetic("aim")
    x = np.linspace(-40, 40, 20_001, dtype=np.float32)
    wanted = exact(op)(x.astype(np.float64))
    scale = np.maximum(np.abs(wanted), 1)

    def error(intervals: int) -> float:
        got = replace(aim, table_intervals=intervals).activation(op, exact(op), x)
        assert got is not None
        return float(np.max(np.abs(got - wanted) / scale))

    assert error(512) < 5 * 2**-9
    if op in ("Gelu", "Tanh", "Sigmoid", "Swish"):
        assert error(16) > 2 * error(512)


def test_table_special_values() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0], dtype=np.float32)
    got = arithmetic("aim").activation("Relu", exact("Relu"), x)
    assert got is not None
    assert got[0] > 1e38
    assert got[1] == got[3] == 0
    assert np.isnan(got[2])


def test_gelu_is_one_routine_on_the_asic() -> None:
    """PIM-GPT: GELU by the series of erf, whichever form the model is written in; no table, no tanh."""
    x = np.linspace(-6, 6, 2001, dtype=np.float32)
    got = GPT.activation("Gelu", exact("Tanh"), x)
    assert got is not None
    assert np.max(np.abs(got - exact("Gelu")(x.astype(np.float64)))) < 0.02
    assert GPT.activation("Tanh", exact("Tanh"), x) is None
    assert arithmetic("hbm-pim").activation("Gelu", exact("Gelu"), x) is None
