"""`tetrasim calibrate cpu`: measure this machine and write the preset `cpu/host`.

Order: clock and multiply-add peak, bandwidth per level and thread count, cost per run, value and node,
vector ops, products; then the model's parameters are fitted to them. Every time is the best of several runs,
and the load before and after is written beside the numbers: on a busy machine they are too slow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.cpu.calibration.fit import fit_gemm, fit_vector, predict
from tetrasim.hw_targets.cpu.calibration.hostinfo import HostInfo, load_average, read_host
from tetrasim.hw_targets.cpu.calibration.onnx_bench import chain_model, op_seconds, session, wide_model
from tetrasim.hw_targets.cpu.calibration.preset_file import host_values
from tetrasim.hw_targets.cpu.calibration.probe import Bandwidth, bandwidth, best_seconds, clock_hz, mac_peak
from tetrasim.hw_targets.cpu.calibration.samples import (
    GemmSample,
    VectorSample,
    best_gemms,
    best_vectors,
    cold_chain,
    cold_samples,
    empty_run_seconds,
    gemm_case,
    measure_gemms,
    measure_vectors,
)
from tetrasim.hw_targets.cpu.config import CpuConfig

PASSES = 3
BUDGET_S = 50.0  # no further pass that would end after this
Progress = Callable[[str, float], None]  # what is measured, and the fraction done


@dataclass(frozen=True, slots=True)
class Overheads:
    """Seconds of onnxruntime around the arithmetic."""

    node: float
    run: float
    value: float
    fork_join: float


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured, before any fit."""

    host: HostInfo
    load_before: float
    load_after: float
    seconds: float
    clock_hz: float
    peak_one: float
    peak_all: float
    levels_one: tuple[Bandwidth, ...]
    levels_all: tuple[Bandwidth, ...]
    l3_reach_bytes: int
    overheads: Overheads
    vectors: tuple[VectorSample, ...]
    gemms: tuple[GemmSample, ...]
    stream_all_bytes_per_s: float  # weights through products of one row, all threads


@dataclass(frozen=True)
class Calibration:
    """The measurements, the fitted configuration, and how well it reproduces them."""

    measured: Measurements
    config: CpuConfig
    gemm_error: float  # mean absolute relative error over the products measured


def calibrate(
    progress: Progress | None = None, passes: int = PASSES, budget_s: float = BUDGET_S
) -> Calibration:
    """Measure and fit this machine: under a minute with the default `passes` and `budget_s`; on a busy
    machine, more of both find more quiet moments."""
    measured = measure(progress or (lambda _what, _fraction: None), passes, budget_s)
    config = CpuConfig.model_validate(host_values(measured))
    vector = config.vector.model_copy(update=fit_vector(measured.vectors, config.core.single_clock_hz))
    config = config.model_copy(update={"vector": vector, "threads": 1})
    gemm = config.gemm.model_copy(update=fit_gemm(measured.gemms, config))
    fitted = config.model_copy(update={"gemm": gemm})
    errors = [abs(predict(s, fitted) / s.seconds - 1) for s in measured.gemms]
    return Calibration(measured, fitted.model_copy(update={"threads": 0}), float(np.mean(errors)))


def measure(progress: Progress, passes: int, budget_s: float) -> Measurements:
    """Run every probe once."""
    host, began, before = read_host(), time.perf_counter(), load_average()
    progress("clock and multiply-add peak", 0.0)
    clock = clock_hz()
    peak_one, peak_all = mac_peak(1), mac_peak(host.cores)
    progress("bandwidth per level and thread count", 0.05)
    sizes = level_sizes(host)
    one = tuple(bandwidth(size, 1) for size in sizes)
    every = tuple(bandwidth(max(size // (host.cores if i > 1 else 1), 4096), host.cores)
                  for i, size in enumerate(sizes))  # fmt: skip
    reach = l3_reach(host, one)
    progress("cost per run, value and node in onnxruntime", 0.1)
    empty = empty_run_seconds(1)
    overheads = measure_overheads(host.cores, empty)
    chain = cold_chain(host.l3_bytes, host.memory_bytes, 1)
    vector_passes, gemm_passes = [], []
    for i in range(passes):
        progress(f"ops and matrix products in onnxruntime, pass {i + 1} of {passes}", 0.2 + 0.7 * i / passes)
        vector_passes.append(measure_vectors(1))
        gemm_passes.append(measure_gemms(1, chain))
        empty = min(empty, empty_run_seconds(1))
        if (time.perf_counter() - began) * (i + 2) / (i + 1) > budget_s:
            break
    vectors, gemms = best_vectors(vector_passes, empty), best_gemms(gemm_passes, empty)
    best_product = max(s.gemm.macs / s.seconds for s in gemms if s.seconds > 1e-4)
    peak_one = max(peak_one, best_product)
    progress("matrix products on all threads", 0.9)
    peak_all = max(peak_all, peak_one, _product_rate(host.cores))
    chain = cold_chain(host.l3_bytes, host.memory_bytes, host.cores)
    stream = max(4 * s.gemm.n * s.gemm.k / s.seconds for s in cold_samples(chain, 1))
    return Measurements(
        host, before, load_average(), time.perf_counter() - began, clock, peak_one, peak_all, one, every,
        reach, overheads, vectors, gemms, stream,
    )  # fmt: skip


def level_sizes(host: HostInfo) -> tuple[int, int, int, int]:
    """Working sets well inside L1, L2, L3, and one far beyond the last level."""
    l3 = host.l3_bytes or 4 * host.l2_bytes
    return host.l1_bytes // 2, host.l2_bytes // 2, max(2 * host.l2_bytes, l3 // 4), max(4 * l3, 128 << 20)


def l3_reach(host: HostInfo, levels: tuple[Bandwidth, ...]) -> int:
    """How much of the last cache one core really gets: on a shared machine, less than its size.

    The largest of four sizes that is still read faster than halfway (in ratio) to main memory; none is a
    power of two, as the sizes of tensors often are."""
    near, far = levels[2].read_bytes_per_s, levels[3].read_bytes_per_s
    if not host.l3_bytes:
        return 0
    reach = host.l3_bytes * 3 // 10
    for tenths in (5.5, 8, 10):
        size = round(host.l3_bytes * tenths / 10)
        # Other programs share the cache and come and go: the best of a few tries counts.
        best = max(bandwidth(size, 1).read_bytes_per_s for _ in range(4))
        if best < (near * far) ** 0.5:
            break
        reach = size
    return reach


def measure_overheads(cores: int, empty_s: float) -> Overheads:
    """Slopes over the number of nodes and of values, and the cost of using every thread."""
    long, short, elements = 120, 20, 256
    x = np.ones(elements, np.float32)

    def chain(length: int) -> float:
        made = session(chain_model(length, elements).SerializeToString(), 1)
        return best_seconds(lambda: made.run(None, {"x0": x}), 50, 0.2)

    node = (chain(long) - chain(short)) / (long - short)
    run = max(chain(short) - short * node, empty_s - node)
    wide = 48
    feeds = {f"x{i}": np.ones(4, np.float32) for i in range(wide)}
    made = session(wide_model(wide).SerializeToString(), 1)
    everything = best_seconds(lambda: made.run(None, feeds), 50, 0.2)
    value = max((everything - run - wide * node) / (2 * wide), 0.0)
    return Overheads(max(node, 1e-8), max(run - 2 * value, 0.0), value, _fork_join(cores))


def _fork_join(cores: int) -> float:
    """Time that a product on all threads takes beyond its share of the time on one."""
    if cores == 1:
        return 0.0
    case = gemm_case(96, 256, 256, constant=True)
    one = op_seconds(case, 1, at_least_s=0.1)
    every = op_seconds(case, cores, at_least_s=0.2)
    return min(max(every - one / cores, 0.0), 1e-4)


def _product_rate(cores: int) -> float:
    """Multiply-adds per second of a large product on every core."""
    m = 768
    return m**3 / op_seconds(gemm_case(m, m, m, constant=True), cores, at_least_s=0.5)
