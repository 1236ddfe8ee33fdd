"""ORT's group norms and gates, which its CPU provider does not run, against their documented formulas."""

from __future__ import annotations

from math import erf
from pathlib import Path

import numpy as np
import pytest
from random_operators import Drawn

from tetrasim.frontend.onnx import import_onnx
from tetrasim.sim.ir.interpreter import interpret

RANDOM = np.random.default_rng(0)


def computed(drawn: Drawn, tmp_path: Path) -> dict[str, np.ndarray]:
    path = tmp_path / "op.onnx"
    path.write_bytes(drawn.model().SerializeToString())
    return interpret(import_onnx(path), dict(drawn.feeds))


def group_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int) -> np.ndarray:
    """x [n, c, h, w]."""
    flat = x.reshape(x.shape[0], groups, -1)
    normed = (flat - flat.mean(-1, keepdims=True)) / np.sqrt(flat.var(-1, keepdims=True) + 1e-5)
    return normed.reshape(x.shape) * gamma[:, None, None] + beta[:, None, None]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("silu", [0, 1])
@pytest.mark.parametrize("skip", [False, True])
def test_group_norms(tmp_path: Path, last: int, silu: int, skip: bool) -> None:
    x = RANDOM.standard_normal((2, 6, 3, 4)).astype(np.float32)
    gamma, beta, other = (RANDOM.standard_normal(s).astype(np.float32) for s in ((6,), (6,), (2, 6)))
    wanted = group_norm(x + other[:, :, None, None] if skip else x, gamma, beta, 3)
    wanted = wanted / (1 + np.exp(-wanted)) if silu else wanted
    feeds = {"x": np.moveaxis(x, 1, -1) if last else x, "g": gamma, "b": beta} | (
        {"s": other} if skip else {}
    )
    attrs = {"groups": 3, "activation": silu, "channels_last": last}
    op = "SkipGroupNorm" if skip else "GroupNorm"
    got = computed(Drawn(op, feeds, attrs, domain="com.microsoft"), tmp_path)["y0"]
    np.testing.assert_allclose(np.moveaxis(got, -1, 1) if last else got, wanted, rtol=1e-4, atol=1e-4)


def test_bias_split_gelu(tmp_path: Path) -> None:
    x, bias = (
        RANDOM.standard_normal((2, 3, 8)).astype(np.float32),
        RANDOM.standard_normal(8).astype(np.float32),
    )
    got = computed(Drawn("BiasSplitGelu", {"x": x, "b": bias}, domain="com.microsoft"), tmp_path)["y0"]
    left, right = np.split(x + bias, 2, axis=-1)
    gelu = right * 0.5 * (1 + np.vectorize(erf)(right / np.sqrt(2)))
    np.testing.assert_allclose(got, left * gelu, rtol=1e-4, atol=1e-5)


def test_bias_add(tmp_path: Path) -> None:
    x, skip = (RANDOM.standard_normal((2, 3, 4)).astype(np.float32) for _ in range(2))
    bias = RANDOM.standard_normal(4).astype(np.float32)
    got = computed(Drawn("BiasAdd", {"x": x, "b": bias, "s": skip}, domain="com.microsoft"), tmp_path)["y0"]
    np.testing.assert_allclose(got, x + bias + skip, rtol=1e-5)
