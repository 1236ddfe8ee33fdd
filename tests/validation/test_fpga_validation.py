"""The FPGA model's error on committed measurements must not grow; left-out rows decide, not fitted ones."""

from __future__ import annotations

import pytest

from tetrasim.hw_targets.common.presets import with_overrides
from tetrasim.hw_targets.fpga.config import FpgaConfig
from tetrasim.hw_targets.fpga.dense_model import estimate_dense
from tetrasim.hw_targets.fpga.dense_rows import rows, shared_rows
from tetrasim.hw_targets.fpga.unrolled_dense import digits, dsp_share
from tetrasim.hw_targets.fpga.validate import ValidationRow, board_power, validate
from tetrasim.hw_targets.registry import find_preset

RESOURCE, LATENCY = "csynth, Resource", "csynth, Latency"


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str, str], ValidationRow]:
    return {(r.measured, r.quantity, r.left_out): r for r in validate()}


def test_the_rows_are_those_of_the_source() -> None:
    assert len(rows()) == 655
    assert sum(r.layer.strategy == "resource" for r in rows()) == 600
    assert len(shared_rows()) == 581


def test_interval_and_latency_laws(found: dict[tuple[str, str, str], ValidationRow]) -> None:
    assert found[RESOURCE, "interval", "1 row in 5"].exact == 1
    assert found[RESOURCE, "latency", "1 row in 5"].within_one == 1
    assert found[LATENCY, "latency", "1 row in 5"].mean_error <= 0.01
    assert found[LATENCY, "latency", "each shape"].mean_error <= 0.03


@pytest.mark.parametrize("left_out", ["1 row in 5", "each shape", "each width", "each reuse"])
@pytest.mark.parametrize(("target", "limit"), [("ff", 0.01), ("lut", 0.01), ("dsp", 0.01)])
def test_mean_error_on_left_out_resource_rows(
    found: dict[tuple[str, str, str], ValidationRow], target: str, limit: float, left_out: str
) -> None:
    assert found[RESOURCE, target, left_out].mean_error <= limit
    assert found[RESOURCE, "bram18", left_out].within_one >= 0.98


@pytest.mark.parametrize(
    ("target", "row", "shape", "width"),
    [("ff", 0.04, 0.12, 0.11), ("lut", 0.03, 0.05, 0.09), ("dsp", 0.01, 0.05, 0.05)],
)
def test_mean_error_on_left_out_latency_rows(
    found: dict[tuple[str, str, str], ValidationRow], target: str, row: float, shape: float, width: float
) -> None:
    assert found[LATENCY, target, "1 row in 5"].mean_error <= row
    assert found[LATENCY, target, "each shape"].mean_error <= shape
    assert found[LATENCY, target, "each width"].mean_error <= width


def test_whole_networks_of_another_tool_version(found: dict[tuple[str, str, str], ValidationRow]) -> None:
    def row(quantity: str) -> ValidationRow:
        return found["vsynth, Vitis 2023.2", quantity + ", 3 layers", "not fitted"]

    assert row("latency").mean_error <= 0.001
    assert row("lut").mean_error <= 0.2  # logic of the placed netlist is below what csynth says


@pytest.mark.parametrize(
    ("layer", "inside"),
    [
        ((64, 64, 8, 512), True),
        ((64, 64, 8, 64), False),
        ((64, 64, 8, 500), False),
        ((16, 64, 8, 512), False),
        ((64, 64, 16, 512), False),
        ((32, 32, 8, 1), True),
        ((256, 256, 8, 1), False),
        ((32, 32, 8, 512, "latency"), True),
        ((256, 256, 8, 512, "latency"), False),
    ],
)
def test_outside_the_rows_the_estimate_says_so(layer: tuple[int, int, int, int], inside: bool) -> None:
    assert estimate_dense(*layer).in_domain is inside


def test_weights_of_three_digits_take_a_dsp() -> None:
    assert [digits(w) for w in (0, 1, -8, 3, 7, 11, -11, 22, 43)] == [0, 1, 1, 2, 2, 3, 3, 3, 4]
    assert dsp_share(32, 32, 6) == 0  # no weight reaches 11 / 32
    shares = [dsp_share(32, 32, bits) for bits in (8, 10, 12, 14)]
    assert shares == sorted(shares)
    assert shares[0] > 0.2


def test_board_power_is_the_mean_of_the_measurements() -> None:
    for board, watts in board_power().items():
        config = find_preset(f"fpga/{board}")[1].config
        assert isinstance(config, FpgaConfig)
        assert config.power.static_w == pytest.approx(sum(watts) / len(watts), abs=2e-3)
        assert with_overrides(config, {"power.static_w": 9.0}).power.static_w == 9.0
