"""Calibration: fits recover known parameters, the file it writes is read back, probes give sane figures."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.presets import load_preset, with_overrides
from tetrasim.hw_targets.common.user_presets import user_preset_file
from tetrasim.hw_targets.cpu.calibration import hostinfo
from tetrasim.hw_targets.cpu.calibration.calibrate import Calibration, Measurements
from tetrasim.hw_targets.cpu.calibration.fit import descend, fit_gemm, fit_threads, fit_vector, predict
from tetrasim.hw_targets.cpu.calibration.hostinfo import read_host
from tetrasim.hw_targets.cpu.calibration.machine_probes import Level, Levels, level_sizes, levels_of, sweeps
from tetrasim.hw_targets.cpu.calibration.onnx_bench import chain_model, op_model, session
from tetrasim.hw_targets.cpu.calibration.preset_file import host_values, to_yaml, write_host_preset
from tetrasim.hw_targets.cpu.calibration.rounds import Drift, Timings
from tetrasim.hw_targets.cpu.calibration.samples import (
    COLS,
    HOT,
    PACKED,
    ROWS,
    SHARED,
    SHARED_COLD_ROWS,
    VECTOR_OPS,
    GemmSample,
    Kernel,
    VectorSample,
    gemm_samples,
    integer_case,
    vector_case,
)
from tetrasim.hw_targets.cpu.calibration.small_runs import Overheads
from tetrasim.hw_targets.cpu.config import CpuConfig
from tetrasim.hw_targets.cpu.errors import error_range
from tetrasim.hw_targets.registry import find_preset
from tetrasim.sim.ops.work import Gemm


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TETRASIM_CONFIG", str(tmp_path / "config"))


def shipped() -> CpuConfig:
    config = find_preset("cpu/host")[1].config
    assert isinstance(config, CpuConfig)
    return with_overrides(config, {"threads": 1})


def samples(config: CpuConfig) -> tuple[GemmSample, ...]:
    """What a machine that follows the model exactly would measure."""
    shapes = [GemmSample(Gemm(1, m, n, k, True), False, 1.0) for m, k, n in HOT[::2]]
    shapes += [GemmSample(Gemm(1, m, n, k, False), False, 1.0) for m, k, n in PACKED[::2]]
    shapes += [GemmSample(Gemm(1, m, 3072, 768), True, 1.0) for m in (1, 2, 4, 12, 32, 128)]
    return tuple(replace(s, seconds=predict(s, config)) for s in shapes)


def test_fit_recovers_the_parameters_of_a_machine_that_follows_the_model() -> None:
    truth = with_overrides(
        shipped(),
        {"gemm.efficiency": 0.8, "gemm.step_floor_cycles": 5.0, "gemm.stream_slowdown": 0.4,
         "gemm.pack_bytes_per_cycle": 5.0, "gemm.dram_overlap": 0.3},
    )  # fmt: skip
    measured = samples(truth)
    found = with_overrides(shipped(), {f"gemm.{k}": v for k, v in fit_gemm(measured, shipped()).items()})
    errors = [abs(predict(s, found) / s.seconds - 1) for s in measured]
    assert np.mean(errors) < 0.02
    assert found.gemm.efficiency == pytest.approx(0.8, rel=0.05)
    assert found.gemm.stream_slowdown == pytest.approx(0.4, abs=0.05)


def test_vector_fit_reproduces_what_it_was_given() -> None:
    clock, n = 4e9, ROWS * COLS
    cycles = {
        "Relu": 0.3, "Identity": 0.2, "Add": 0.45, "Mul": 0.45, "Div": 1.0, "Sqrt": 1.2, "Exp": 0.6,
        "Erf": 1.5, "Tanh": 1.1, "Log": 6.0, "Pow": 2.0, "Sin": 5.0, "Less": 0.6, "Cast": 0.4, "Where": 1.4,
        "Gelu": 2.0, "GeluTanh": 1.9, "Softmax": 0.9, "LayerNormalization": 1.6, "Concat": 0.25,
        "Transpose": 1.5, "TransposeOdd": 0.6, "SkipLayerNormalization": 16.0,
    }  # fmt: skip
    assert set(cycles) == set(VECTOR_OPS)
    found = fit_vector([VectorSample(op, c * n / clock) for op, c in cycles.items()], clock)
    access = found["access_cycles"]
    assert access == pytest.approx(0.1)
    assert 2 * access + found["erf"] == pytest.approx(1.5, rel=1e-3)
    assert 3 * access + found["div"] == pytest.approx(1.0, rel=1e-3)
    assert 2 * access + 4 * found["reduce_add"] + 3 * found["mul"] == pytest.approx(1.6, rel=1e-3)
    assert found["softmax"] == pytest.approx(0.9)
    assert found["residual_norm"] == pytest.approx(16.0)
    assert all(v >= 0 for v in found.values())


def test_descent_finds_a_minimum_inside_its_bounds() -> None:
    best = descend(
        lambda v: abs(v["a"] - 0.3) + abs(np.log(v["b"] / 50)),
        {"a": 0.9, "b": 1.0},
        {"a": (0.0, 1.0), "b": (0.1, 1000.0)},
    )
    assert best["a"] == pytest.approx(0.3, abs=0.01)
    assert best["b"] == pytest.approx(50, rel=0.05)
    edge = descend(lambda v: v["a"], {"a": 0.5}, {"a": (0.2, 1.0)})
    assert edge["a"] == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize(
    ("flags", "bf16", "fp16"),
    [
        ({"avx2"}, 1, 1),
        ({"avx512f", "avx512_bf16"}, 2, 1),
        ({"amx_bf16", "avx512_bf16", "avx512_fp16"}, 16, 2),
        ({"asimdhp", "asimddp", "bf16", "i8mm"}, 4, 2),
    ],
)
def test_rates_of_16_bit_formats_follow_from_the_instruction_sets(
    flags: set[str], bf16: int, fp16: int
) -> None:
    m = measurements()
    m = replace(m, host=replace(m.host, flags=frozenset(flags)))
    core = CpuConfig.model_validate(host_values(m)).core
    assert (core.bf16_rate, core.fp16_rate) == (bf16, fp16)


def test_the_fit_on_all_threads_finds_handing_out_and_the_common_bandwidth() -> None:
    truth = with_overrides(
        shipped(),
        {"threads": 4, "overhead.fork_join_ns": 7000, "dram.bandwidth_bytes_per_s": 60e9,
         "dram.core_bandwidth_bytes_per_s": 30e9, "gemm.shared_stream_slowdown": 0.4},
    )  # fmt: skip
    shapes = [GemmSample(Gemm(1, m, n, k), False, 1.0) for m, k, n in SHARED]
    for m in SHARED_COLD_ROWS:
        shapes += [GemmSample(Gemm(1, m, n, k), True, 1.0) for n, k in ((3072, 768), (768, 3072))]
    measured = [replace(s, seconds=predict(s, truth)) for s in shapes]
    start = with_overrides(truth, {"overhead.fork_join_ns": 0, "dram.bandwidth_bytes_per_s": 30e9})
    found = fit_threads(measured, start)
    assert found.overhead.fork_join_ns == pytest.approx(7000, rel=0.05)
    assert found.dram.bandwidth_bytes_per_s == pytest.approx(60e9, rel=0.02)
    assert found.gemm.shared_stream_slowdown == pytest.approx(0.4, abs=0.05)
    assert fit_threads((), start) == start


def test_more_rows_bound_the_time_of_fewer_and_a_run_of_nothing_is_taken_off() -> None:
    best = {
        Kernel("empty"): 1e-6,
        Kernel("hot", (4, 768, 768)): 9e-6,  # disturbed: eight rows took less
        Kernel("hot", (8, 768, 768)): 6e-6,
        Kernel("hot", (64, 64, 64), constant=False): 3e-6,
        Kernel("cold", (2, 10)): 60e-6,
        Kernel("cold", (2, 10), "copy 2"): 50e-6,  # better placed
    }
    found = {(s.gemm.m, s.cold): s.seconds for s in gemm_samples(best, 1)}
    assert found == pytest.approx({(4, False): 5e-6, (8, False): 5e-6, (64, False): 2e-6, (2, True): 5e-6})


def test_a_near_level_is_never_slower_than_a_far_one() -> None:
    host = replace(read_host(), cores=2, l3_bytes=0)
    rates = (50e9, 80e9, 40e9, 10e9)  # L1 was disturbed
    best = {
        Kernel(kind, (size, level)): sweeps(size) * (size // 8 * 8) / rates[level]
        for kind in ("read", "copy")
        for level, size in enumerate(level_sizes(host))
    }
    levels = levels_of(host, best)
    assert [level.one for level in levels.levels] == pytest.approx([80e9, 80e9, 40e9, 10e9])
    assert levels.l3_reach_bytes == 0


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 3), ("250000 100000", 2), ("5000 100000", 1)])
def test_a_container_counts_the_cores_whose_time_it_may_use(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n", encoding="ascii")
    monkeypatch.setattr(hostinfo, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 5}, raising=False)
    assert hostinfo.available_cores() == cores


def measurements() -> Measurements:
    config = shipped()
    rates = [200e9 / 2**i for i in range(4)]
    levels = Levels(tuple(Level(1 << (14 + 3 * i), r, r, r, r) for i, r in enumerate(rates)), 16 << 20)
    vectors = tuple(VectorSample(op, 5e-6) for op in VECTOR_OPS)
    timings: Timings[Kernel] = Timings({}, 9, frozenset(), frozenset(), 0.1, Drift(9, 1e-5, 1.0, 0.0))
    return Measurements(
        read_host(), 0.1, 0.2, 20.0, timings, 3.9e9, 117e9, 117e9 * read_host().cores, 3.7, levels,
        Overheads(3e-7, 2e-6, 6e-7), vectors, samples(config), (),
    )  # fmt: skip


def test_the_written_preset_is_read_back_and_takes_precedence() -> None:
    m = measurements()
    config = CpuConfig.model_validate(host_values(m))
    before = find_preset("cpu/host")[1]
    assert isinstance(before.config, CpuConfig)
    assert before.config.uncalibrated
    file = write_host_preset(Calibration(m, config, 0.05, 0.1))
    assert file == user_preset_file("cpu/host")
    assert [p.name for p in file.parent.iterdir()] == ["host.yaml"]
    after = find_preset("cpu/host")[1]
    assert after.config == config
    assert "calibrated" in after.title
    marks = {s.path: s.mark for s in after.sources}
    assert marks["power.limit_w"] == "assumed"
    assert marks["overhead.node_ns"] == ""
    assert (after.config.core.int8_rate, marks["core.int8_rate"]) == (3.7, "")
    assert marks["core.bf16_rate"] == "assumed"
    assert load_preset(file, "cpu/host", CpuConfig).config.overhead.node_ns == pytest.approx(300)


def test_rates_of_several_threads_from_a_disturbed_machine_are_marked_and_carry_no_range() -> None:
    m = measurements()
    m = replace(m, host=replace(m.host, cores=2))
    for timings in (m.timings, replace(m.timings, disturbed=frozenset((Kernel("empty", threads=2),)))):
        found = replace(m, timings=timings)
        config = CpuConfig.model_validate(host_values(found))
        preset = load_preset(write_host_preset(Calibration(found, config, 0.0, 0.0)), "cpu/host", CpuConfig)
        mark = next(s.mark for s in preset.sources if s.path == "overhead.fork_join_ns")
        assert (config.measured_threads, mark) == ((1, "assumed") if timings.disturbed else (2, ""))
        assert error_range(with_overrides(config, {"threads": 1}), "decode") is not None
        if timings.disturbed:
            assert error_range(config, "decode") is None


def test_l3_serves_all_threads_as_a_product_of_one_row_reads_it() -> None:
    m = measurements()
    m = replace(m, host=replace(m.host, cores=2, l2_bytes=1 << 20))
    seconds = 4 * 2000 * 1000 / 300e9  # 8 MB: beyond both L2 caches, within the 16 MB of L3
    sample = GemmSample(Gemm(1, 1, 2000, 1000), False, seconds)
    alone, both = (CpuConfig.model_validate(host_values(replace(m, shared_gemms=g))) for g in ((), (sample,)))
    assert alone.l3.total_bytes_per_s == pytest.approx(50e9)
    assert both.l3.total_bytes_per_s == pytest.approx(300e9)


def test_a_machine_name_cannot_break_the_file() -> None:
    m = measurements()
    odd = replace(m, host=replace(m.host, name='it\'s: {odd} # "name"'))
    config = CpuConfig.model_validate(host_values(odd))
    user_preset_file("cpu/host").parent.mkdir(parents=True)
    user_preset_file("cpu/host").write_text(to_yaml(Calibration(odd, config, 0.0, 0.0)), encoding="utf-8")
    assert 'it\'s: {odd} # "name"' in find_preset("cpu/host")[1].title


def test_only_processors_are_calibrated() -> None:
    from tetrasim.facade import calibrate

    for name in ("pim", "gpu/t4", "cpu/xeon-6154", "cpus"):
        with pytest.raises(UserError, match=f"'{name}' cannot be calibrated") as refusal:
            calibrate(name)
        assert refusal.value.hint


def test_a_stale_preset_of_the_user_is_refused_with_the_way_out() -> None:
    file = user_preset_file("cpu/host")
    file.parent.mkdir(parents=True)
    file.write_text("title: old\nspeed: {value: 3, source: me}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        find_preset("cpu/host")
    assert "host.yaml" in caught.value.where
    assert "tetrasim calibrate cpu" in caught.value.hint


def test_every_vector_case_and_the_chain_run_in_onnxruntime() -> None:
    for op in VECTOR_OPS:
        case = vector_case(op, ROWS, COLS)
        made = session(op_model(case).SerializeToString(), 1)
        feeds = {name: a for name, a in case.inputs if name not in case.constant}
        assert len(made.run(None, feeds)) == 1
    whole = integer_case(4, 8, 4)
    fed = {"a": whole.inputs[0][1]}
    expected = whole.inputs[0][1].astype(int) @ whole.inputs[1][1].astype(int)
    assert np.array_equal(session(op_model(whole).SerializeToString(), 1).run(None, fed)[0], expected)
    made = session(chain_model(5, 4).SerializeToString(), 1)
    assert made.run(None, {"x0": np.ones(4, np.float32)})[0].tolist() == [13.0] * 4  # 1 2 3 5 8 13
