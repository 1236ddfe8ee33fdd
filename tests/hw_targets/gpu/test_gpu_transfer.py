"""A calibration moves to devices never measured: cycles scale with the clock, and nothing else leaks."""

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.gpu.architecture import ARCHITECTURES, architecture
from tetrasim.hw_targets.gpu.calibration import calibration, calibration_of, moved
from tetrasim.hw_targets.gpu.config import GpuConfig
from tetrasim.hw_targets.gpu.device import FLOAT8, FORMATS, HALF
from tetrasim.hw_targets.gpu.measurements import gemms, predict, preset_config
from tetrasim.hw_targets.gpu.transfer import gemm_fit, shared_gemm

UNMEASURED = ("a10", "a30", "a40", "b200", "h20", "h100-pcie", "l40s", "orin-agx-64gb", "rtx-4090")


def changed(config: GpuConfig, **fields: object) -> GpuConfig:
    return config.model_copy(update=fields)


@pytest.mark.parametrize("preset", ["a100-sxm4-80gb", "h100-sxm", "h200-sxm", "t4", "v100-pcie-32gb"])
def test_a_measured_device_keeps_its_own_fit(preset: str) -> None:
    assert calibration_of(preset_config(preset)) == calibration(preset)


def test_twice_the_clock_halves_every_phase_and_keeps_every_fraction() -> None:
    config = preset_config("h100-sxm")
    own = calibration("h100-sxm")
    fast = calibration_of(changed(config, clock_hz=2 * config.clock_hz))
    for one, other in zip(own.gemm, fast.gemm, strict=True):
        assert other.start_us == pytest.approx(one.start_us / 2)
        assert other.latency_us == pytest.approx(one.latency_us / 2)
        assert other.compute_efficiency == one.compute_efficiency
        assert other.overlap == one.overlap
    assert fast.attention[0].tile_us == pytest.approx(own.attention[0].tile_us / 2)
    assert fast.vector == own.vector


def test_fewer_sms_draw_less() -> None:
    config = preset_config("a100-sxm4-80gb")
    half = calibration_of(changed(config, sm_count=54))
    assert half.power.active_w == pytest.approx(calibration("a100-sxm4-80gb").power.active_w / 2)


def test_a_family_takes_the_shared_products_and_its_own_float8() -> None:
    config = changed(preset_config("h20"), clock_hz=1_830_000_000, sm_count=132)
    fit = calibration_of(config)
    assert fit.gemm[HALF] == gemm_fit(shared_gemm(), config)
    assert fit.gemm[FLOAT8] == calibration("h100-sxm").gemm[FLOAT8]
    ada = calibration_of(preset_config("l40s"))
    assert set(ada.shared) == set(FORMATS) - {"float32"}
    assert ada.gemm[FLOAT8].quantise_us > 0


def test_asynchronous_copies_shorten_the_epilogue_and_the_panels() -> None:
    config = preset_config("l40s")
    plain = gemm_fit(shared_gemm(), changed(config, architecture="ampere"))
    copied = gemm_fit(shared_gemm(), changed(config, architecture="hopper"))
    assert copied.epilogue_us < plain.epilogue_us
    assert copied.l2_efficiency > plain.l2_efficiency


def test_parameters_fitted_without_a_device_do_not_use_its_entry() -> None:
    config = preset_config("a100-sxm4-80gb")
    fit = moved(calibration("hopper"), config, "h100-sxm+h200-sxm")
    assert fit.gemm[HALF] == gemm_fit(shared_gemm("h100-sxm+h200-sxm"), config)
    assert fit.gemm[HALF] != calibration("a100-sxm4-80gb").gemm[HALF]


@pytest.mark.parametrize("preset", UNMEASURED)
def test_never_measured_devices_stay_below_their_data_sheet(preset: str) -> None:
    config = preset_config(preset)
    large = {"m": ["8192", "1"], "n": ["8192", "8192"], "k": ["8192", "8192"], "latency_us": ["1", "1"]}
    measured = gemms(preset, "linear half", "half", large)
    square_us, vector_us = predict(measured).latency_us
    reached = 2 * 8192**3 / square_us * 1e6 / config.compute.fp16_flops_per_s
    assert 0.4 < reached < 0.98
    assert 0.6 < 2 * 8192**2 / vector_us * 1e6 / config.dram.bandwidth_bytes_per_s < 3  # L2 may hold it
    assert np.isfinite(square_us)


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UserError, match="hopper"):
        architecture("hoper")
    assert architecture("ada") is ARCHITECTURES["ada"]
