"""GEMM pricing equals a slow reference candidate by candidate, and a tile-by-tile simulation of one wave."""

import math
from dataclasses import replace
from wave import wave_cycles, wave_program

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.hw_targets.gpu.calibration import calibration
from tetrasim.hw_targets.gpu.device import HALF, Device, device_of
from tetrasim.hw_targets.gpu.kernels import gemm
from tetrasim.hw_targets.gpu.kernels.records import records, row
from tetrasim.hw_targets.gpu.kernels.tiles import simt_tiles, tensor_tiles
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.hw_targets.gpu.residency import Operands, dram_traffic
from tetrasim.sim.engine.static import run_static

H100 = device_of(preset_config("h100-sxm"))
FIT = calibration("h100-sxm").gemm[HALF]
RATES = ("l2_bytes_per_us", "dram_bytes_per_us", "peaks")


def price(m: int, n: int, k: int, device: Device = H100, fit: gemm.GemmFit = FIT) -> gemm.GemmTime:
    rows = gemm.GemmRows(np.array([[1, m, n, k]]), np.array([[16, 16]]), np.array([HALF]), np.array([True]))
    sizes = [np.array([2.0 * x]) for x in (m * k, n * k, m * n)]
    traffic = dram_traffic(Operands(*sizes), device.l2_bytes, fit.l2_share, fit.l2_onset, None)
    return row(gemm.GemmTime, gemm.time_gemms(rows, traffic, device, records(gemm.GemmFit, [fit] * 5)), 0)


def reference_us(m: int, n: int, k: int, fit: gemm.GemmFit) -> float:
    """The formula of the module text, one candidate at a time, without pruning."""
    d, a, b, c = H100, 2.0 * m * k, 2.0 * n * k, 2.0 * m * n
    own, limit = a + b + c, H100.l2_bytes * fit.l2_share
    near, far = (min(max((x / limit - fit.l2_onset) / (1 - fit.l2_onset), 0), 1) for x in (own, own + 4 * b))
    dram = (a * near + b * far) / (d.dram_bytes_per_us * fit.read_efficiency)
    dram += c * near / (d.dram_bytes_per_us * fit.write_efficiency)
    per_tile = []
    for tm, tn in tensor_tiles("hopper").tolist():
        grid = math.ceil(m / tm) * math.ceil(n / tn)
        resident = min(max(32768 / (tm * tn), 1), 3)
        rate = d.peaks[HALF] / d.sm_count * fit.compute_efficiency
        step = 2 * tm * tn * 64 / (rate * min(1, math.sqrt(tm * tn) / 128) ** fit.tile_exponent)
        times = []
        for split in gemm.SPLITS.tolist():
            steps = math.ceil(math.ceil(k / 64) / split)
            if math.ceil(math.ceil(k / 64) / steps) != split or (split > 1 and steps < 2):
                continue
            blocks = grid * split
            rounds = math.ceil(blocks / d.sm_count)
            stages = min(fit.stages, d.shared_bytes / (min(resident, rounds) * (tm + tn) * 128))
            load = (fit.latency_us + fit.dram_latency_us * far) / max(stages - 1, 1)
            full = math.floor(blocks / (d.sm_count * resident))
            rest = math.ceil((blocks - full * d.sm_count * resident) / d.sm_count)
            compute = steps * (full * max(resident * step, load) + (max(rest * step, load) if rest else 0))
            l2 = blocks * steps * (tm + tn) * 128 / (d.l2_bytes_per_us * fit.l2_efficiency)
            last = rest or resident
            fixed = fit.start_us + fit.wave_us * (full - (0 if rest else 1))
            fixed += fit.epilogue_us * (last + fit.epilogue_exposed * (rounds - last)) * tm * tn / 16384
            if split > 1:
                fixed += fit.split_us + m * n * 8 * split / (d.l2_bytes_per_us * fit.reduce_efficiency)
            p = fit.overlap
            times.append(fixed + (compute**p + l2**p + dram**p) ** (1 / p))
        per_tile.append(min(times))
    best = min(per_tile)
    if fit.choice >= gemm.ALWAYS_BEST:
        return best
    near = np.array([t for t in per_tile if t < 2 * best])
    weights = (best / near) ** fit.choice
    return float(weights @ near / weights.sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 9000))
def test_equals_the_slow_reference(m: int, n: int, k: int) -> None:
    assert price(m, n, k).time_us == pytest.approx(reference_us(m, n, k, FIT), rel=1e-9)


@pytest.mark.parametrize("choice", [3.0, 20.0])
def test_expected_time_over_tiles_equals_the_reference(choice: float) -> None:
    fit = replace(FIT, choice=choice)
    found = price(4097, 1024, 4096, fit=fit).time_us
    # pruning skips tiles slower than twice the best so far, which may be tiles that the final best admits
    assert found == pytest.approx(reference_us(4097, 1024, 4096, fit), rel=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 50), st.integers(0, 200))
def test_one_wave_tile_by_tile_equals_the_closed_form(
    steps: int, resident: int, step: int, load: int
) -> None:
    program = wave_program(resident, steps, step, load)
    assert run_static(program).total_ps == wave_cycles(resident, steps, step, load) * 1000
    closed = steps * max(resident * step, load)  # what price_gemms charges; the drain is part of start_us
    assert 0 <= wave_cycles(resident, steps, step, load) - closed <= max(load, resident * step)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(RATES),
)
def test_a_faster_device_is_never_slower(m: int, n: int, k: int, what: str) -> None:
    faster = replace(H100, **{what: getattr(H100, what) * 1.5})
    assert price(m, n, k, faster).time_us <= price(m, n, k).time_us * (1 + 1e-12)


def test_wave_quantisation_costs_a_wave() -> None:
    one, two = (price(m, 128, 8192).compute_us for m in (128 * 132, 128 * 132 + 128))
    assert two > one


def test_split_k_is_used_only_where_blocks_are_few() -> None:
    assert price(16, 256, 16384).split > 1
    # where partial sums cost their L2 traffic; as fitted, Hopper's kernels also split to fill the last wave
    assert price(8192, 8192, 8192, fit=replace(FIT, reduce_efficiency=1.0)).split == 1


def test_simt_tiles_know_the_layout_and_fall_back() -> None:
    assert simt_tiles("ampere", batched=True).tolist() == [[128, 128]]
    assert (
        simt_tiles("never heard of", batched=False).tolist() == simt_tiles("ampere", batched=False).tolist()
    )


def test_each_architecture_has_its_instruction_s_tiles() -> None:
    ampere, hopper = (set(map(tuple, tensor_tiles(name).tolist())) for name in ("ampere", "hopper"))
    assert (192, 128) in hopper - ampere
    assert (16, 16) in ampere - hopper
    assert tensor_tiles("ada").tolist() == tensor_tiles("never heard of").tolist()
