"""The FPGA model's error on committed measurements must not grow; left-out rows decide, not fitted ones."""

from __future__ import annotations

import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dense_model import estimate_dense, resource_rows, rows
from tetrasim.hw_targets.fpga.validate import ValidationRow, board_power, validate
from tetrasim.hw_targets.registry import find_preset


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], ValidationRow]:
    return {(r.quantity, r.left_out): r for r in validate()}


def test_the_rows_are_those_of_the_source() -> None:
    assert len(rows()) == 655
    assert len(resource_rows()) == 600


def test_interval_and_latency_laws(found: dict[tuple[str, str], ValidationRow]) -> None:
    assert found["interval", "law, not fitted"].exact >= 0.95
    assert found["latency", "law, not fitted"].within_one >= 0.90


@pytest.mark.parametrize(("target", "limit"), [("ff", 0.06), ("lut", 0.10), ("dsp", 0.05)])
@pytest.mark.parametrize("left_out", ["1 row in 5, at random", "1 shape in 5"])
def test_mean_error_on_left_out_rows(
    found: dict[tuple[str, str], ValidationRow], target: str, limit: float, left_out: str
) -> None:
    assert found[target, left_out].mean_error <= limit


@pytest.mark.parametrize("left_out", ["1 row in 5, at random", "1 shape in 5"])
def test_bram_within_one_block(found: dict[tuple[str, str], ValidationRow], left_out: str) -> None:
    assert found["bram18", left_out].within_one >= 0.90


@pytest.mark.parametrize(
    ("layer", "inside"),
    [
        ((64, 64, 8, 512), True),
        ((64, 64, 8, 64), False),
        ((16, 64, 8, 512), False),
        ((64, 64, 16, 512), False),
        ((32, 32, 8, 1), True),
        ((256, 256, 8, 1), False),
    ],
)
def test_outside_the_rows_the_estimate_says_so(layer: tuple[int, int, int, int], inside: bool) -> None:
    assert estimate_dense(*layer).in_domain is inside


def test_board_power_is_the_mean_of_the_measurements() -> None:
    for board, watts in board_power().items():
        config = find_preset(f"fpga/{board}")[1].config
        assert isinstance(config, FpgaConfig)
        assert config.power.static_w == pytest.approx(sum(watts) / len(watts), abs=2e-3)
        assert with_overrides(config, {"power.static_w": 9.0}).power.static_w == 9.0
