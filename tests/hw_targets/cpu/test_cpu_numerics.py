"""How processors round: storage formats exactly, int8 products within the error of their scales."""

from __future__ import annotations

import numpy as np
import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.numerics import CpuArithmetic, arithmetic_of, precision_of
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ir.graph import Kind, TensorType
from tetrasim.sim.precision import BFLOAT16, FLOAT32, INT8


def config(precision: str) -> CpuConfig:
    found = find_preset("cpu/epyc-9654")[1].config
    assert isinstance(found, CpuConfig)
    return with_overrides(found, {"precision": precision})


def test_formats_of_each_precision() -> None:
    assert precision_of(config("float32")).weights == FLOAT32
    assert precision_of(config("bfloat16")).state == BFLOAT16
    int8 = precision_of(config("int8"))
    assert (int8.weights, int8.activations) == (INT8, FLOAT32)


def test_storage_rounds_to_nearest_even() -> None:
    arithmetic = arithmetic_of(config("bfloat16"))
    x = np.array([1.0, 1.00390625, 1.01171875, np.inf, -3.14159], np.float32)
    stored = arithmetic.store(x, TensorType((5,), Kind.BFLOAT, 16))
    assert stored.tolist()[:4] == [1.0, 1.0, 1.015625, np.inf]
    assert stored[4] == pytest.approx(-3.140625)
    half = arithmetic.store(np.array([65536.0, 1 + 2**-11], np.float32), TensorType((2,), Kind.FLOAT, 16))
    assert half.tolist() == [np.inf, 1.0]
    ids = np.arange(3)
    assert arithmetic.store(ids, TensorType((3,), Kind.INT, 64)) is ids


def test_int8_products_are_those_of_integers_and_scales() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, 256), np.float32), rng.standard_normal((256, 16), np.float32)
    got = CpuArithmetic("int8").matmul(a, b)
    # independent: integers accumulate exactly, one scale for a and one per column of b
    a_scale, b_scale = np.abs(a).max() / 127, np.abs(b).max(axis=0) / 127
    integers = np.rint(a / a_scale).astype(np.int64) @ np.rint(b / b_scale).astype(np.int64)
    assert got == pytest.approx(integers * a_scale * b_scale, rel=1e-5)
    error = np.abs(got.astype(np.float32) - a @ b).max()
    # half a step of each operand per term, adding like a random walk
    assert 0 < error < 4 * np.sqrt(256) * (0.5 * a_scale * 1 + 0.5 * b_scale.max() * 1)


def test_int8_leaves_products_of_activations_and_other_formats_alone() -> None:
    rng = np.random.default_rng(1)
    q, k = rng.standard_normal((2, 4, 8), np.float32), rng.standard_normal((2, 8, 4), np.float32)
    assert np.array_equal(CpuArithmetic("int8").matmul(q, k), np.matmul(q, k))
    assert np.array_equal(CpuArithmetic("float32").matmul(q[0], k[0]), q[0] @ k[0])
    zeros = np.zeros((3, 3), np.float32)
    assert np.array_equal(CpuArithmetic("int8").matmul(zeros, zeros), zeros)
