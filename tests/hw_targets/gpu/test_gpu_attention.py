"""The split rule, the stream-K grid and the schedules of attention against hand-made truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import HALF, device_of
from tetrasim.hw_targets.gpu.kernels import attention as att
from tetrasim.hw_targets.gpu.kernels.records import records, row
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.sim.ops.mask import Mask, window_mask

A100 = device_of(preset_config("a100-sxm4-80gb"))
FITS = records(att.AttentionFit, calibration("a100-sxm4-80gb").attention)


def price(shape: tuple[int, ...], schedule: int, mask: Mask | None = None) -> att.AttentionTime:
    rows = att.AttentionRows(np.array([shape]), np.array([16]), np.array([HALF]), (mask,))
    b, q, h, kv, d, dv, n = shape[:7]
    dram = np.array([2.0 * b * (q * h * (d + dv) + n * kv * (d + dv))])
    return row(att.AttentionTime, att.time_attentions(rows, dram, (schedule,), A100, FITS), 0)


def rule(units: int, slots: int, tiles: int, most: int) -> int:
    """flash-attention's num_splits_heuristic, from its description."""
    if units >= 0.8 * slots:
        return 1
    limit = min(most, slots, tiles)
    eligible = [
        s for s in range(1, limit + 1) if s == 1 or math.ceil(tiles / s) != math.ceil(tiles / (s - 1))
    ]
    efficiency = {s: (units * s / slots) / math.ceil(units * s / slots) for s in eligible}
    return next(s for s in eligible if efficiency[s] >= 0.85 * max(efficiency.values()))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.sampled_from([80, 216, 264]), st.integers(1, 400), st.sampled_from([32, 128]))
def test_split_count_is_the_librarys_rule(units: int, slots: int, tiles: int, most: int) -> None:
    assert att.split_count(units, slots, tiles, most, 0) == rule(units, slots, tiles, most)


@pytest.mark.parametrize(
    ("units", "slots", "tiles", "splits"),
    [(1, 216, 4, 4), (200, 216, 64, 1), (8, 216, 64, 22), (32, 216, 64, 6)],
)
def test_split_count_examples(units: int, slots: int, tiles: int, splits: int) -> None:
    assert att.split_count(units, slots, tiles, 128, 0) == splits


def test_lean_fills_one_wave_and_no_more() -> None:
    assert att.lean_grid(10_000, 216) == 216
    assert att.lean_grid(100, 216) == 50
    assert att.lean_grid(1, 216) == 1


@pytest.mark.parametrize("keys", [8192, 131072])
def test_long_decode_needs_splitting(keys: int) -> None:
    shape = (1, 1, 12, 12, 64, 64, keys, 1, 0)
    flash, decoding, lean = (price(shape, s).time_us for s in (att.FLASH2, att.FLASH_DECODING, att.LEAN))
    assert decoding < flash
    assert lean < flash


def test_causal_prefill_costs_about_half_when_long() -> None:
    causal, full = (price((1, 16384, 16, 16, 128, 128, 16384, c, 0), att.FLASH2) for c in (1, 0))
    assert causal.ideal_us / full.ideal_us == pytest.approx(0.5, abs=1e-3)
    assert causal.compute_us < 0.75 * full.compute_us


def test_a_window_bounds_the_keys() -> None:
    shape = (1, 1, 32, 8, 128, 128, 65536, 1)
    whole, windowed = (price(shape, att.FLASH_DECODING, m) for m in (None, window_mask(1024)))
    assert windowed.ideal_us == pytest.approx(whole.ideal_us / 64)
