"""`tetrasim calibrate cpu`: measure this machine and write the preset `cpu/host`.

Clock, multiply-add peak, bandwidth per level, cost per run, value and node, vector ops and products are all
probes that are timed in rounds (`rounds.py`) until the time is spent or every one has settled; then the
model's parameters are fitted to the best times. What other programs used is written beside the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tetrasim.hw_targets.cpu.calibration.fit import fit_gemm, fit_threads, fit_vector, predict
from tetrasim.hw_targets.cpu.calibration.hostinfo import HostInfo, load_average, read_host
from tetrasim.hw_targets.cpu.calibration.machine_probes import (
    Levels,
    levels_of,
    machine_probes,
    rate_of,
    reference_kernel,
)
from tetrasim.hw_targets.cpu.calibration.preset_file import host_values
from tetrasim.hw_targets.cpu.calibration.rounds import Probe, Timings, time_in_rounds
from tetrasim.hw_targets.cpu.calibration.samples import (
    COLD_ROWS,
    SHARED,
    SHARED_COLD_ROWS,
    GemmSample,
    Kernel,
    VectorSample,
    chain_weights,
    cold_chains,
    cold_probes,
    gemm_samples,
    integer_rate,
    op_probes,
    shared_probes,
    vector_rows,
    vector_samples,
)
from tetrasim.hw_targets.cpu.calibration.small_runs import Overheads, overhead_probes, overheads_of
from tetrasim.hw_targets.cpu.config import CpuConfig

CHAINS = 3
MOST_SHARED_ERROR = 0.15  # on all threads; beyond it the times contradict each other: they were disturbed
BUDGET_S = 45.0  # of measuring, setting up included; the fits take a few seconds more
Progress = Callable[[str, float], None]  # what is measured, and the fraction done


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured, before any fit."""

    host: HostInfo
    load_before: float
    load_after: float
    seconds: float
    timings: Timings[Kernel]
    clock_hz: float
    peak_one: float  # multiply-adds per second
    peak_all: float
    integer_rate: float  # int8 relative to float32
    levels: Levels
    overheads: Overheads
    vectors: tuple[VectorSample, ...]
    gemms: tuple[GemmSample, ...]
    shared_gemms: tuple[GemmSample, ...]  # on all threads; none on a machine of one core

    @property
    def quiet_threads(self) -> int:
        """Up to how many threads this can be believed: 1 when other programs held cores all the time."""
        return 1 if self.timings.disturbed else self.host.cores


@dataclass(frozen=True)
class Calibration:
    """The measurements, the fitted configuration, and how well it reproduces them."""

    measured: Measurements
    config: CpuConfig
    gemm_error: float  # mean absolute relative error over the products measured on one thread
    shared_error: float  # the same on all threads


def calibrate(progress: Progress | None = None, budget_s: float = BUDGET_S) -> Calibration:
    """Measure and fit this machine: under a minute with the default budget; on a busy machine, more of it
    finds more quiet moments."""
    measured = measure(progress or (lambda _what, _fraction: None), budget_s)
    config = CpuConfig.model_validate(host_values(measured))
    vector = config.vector.model_copy(update=fit_vector(measured.vectors, config.core.single_clock_hz))
    config = config.model_copy(update={"vector": vector, "threads": 1})
    gemm = config.gemm.model_copy(update=fit_gemm(measured.gemms, config))
    fitted = config.model_copy(update={"gemm": gemm})
    error = _mean_error(measured.gemms, fitted)
    fitted = fitted.model_copy(update={"threads": 0})
    if measured.quiet_threads > 1:
        fitted = fit_threads(measured.shared_gemms, fitted)
    shared = _mean_error(measured.shared_gemms, fitted)
    if shared > MOST_SHARED_ERROR:
        fitted = fitted.model_copy(update={"measured_threads": 1})
    return Calibration(measured, fitted, error, shared)


def _mean_error(samples: tuple[GemmSample, ...], config: CpuConfig) -> float:
    return float(np.mean([abs(predict(s, config) / s.seconds - 1) for s in samples])) if samples else 0.0


def measure(progress: Progress, budget_s: float) -> Measurements:
    """Set every probe up and time them in rounds."""
    host, began, before = read_host(), time.perf_counter(), load_average()
    progress("setting up", 0.0)
    probes = all_probes(host)
    left = max(budget_s - (time.perf_counter() - began), budget_s / 4)
    what = "peaks, bandwidths, ops and products, in rounds"
    timings = time_in_rounds(probes, reference_kernel(), left, lambda part: progress(what, 0.1 + 0.8 * part))
    progress("fitting", 0.95)
    best = timings.best_s
    gemms = gemm_samples(best, 1)
    shared = gemm_samples(best, host.cores) if host.cores > 1 else ()
    # The library's own loops are the peak where they beat the probe's.
    peak_one = max(rate_of(best, "multiply-add"), *(s.gemm.macs / s.seconds for s in gemms))
    gain = float(host.cores)
    if host.cores > 1 and not timings.disturbed:
        large = Kernel("hot", SHARED[-1], threads=host.cores)
        gain = min(max(best[Kernel("hot", SHARED[-1])] / best[large], 1.0), gain)
    return Measurements(
        host, before, load_average(), time.perf_counter() - began, timings,
        rate_of(best, "clock"), peak_one, peak_one * gain, integer_rate(best), levels_of(host, best),
        overheads_of(best), vector_samples(best), gemms, shared,
    )  # fmt: skip


def all_probes(host: HostInfo) -> list[Probe[Kernel]]:
    """Those of several threads last: they leave threads spinning. Weights are streamed from several copies:
    where the system puts one decides how fast it is."""
    shared = (host.cores,) if host.cores > 1 else ()
    chains = cold_chains(chain_weights(host), (*(1,) * CHAINS, *shared))
    found = [*machine_probes(host, 1), *overhead_probes(), *op_probes(vector_rows(host))]
    found += cold_probes(chains[0], COLD_ROWS, 1)
    for i, chain in enumerate(chains[1:CHAINS]):
        found += cold_probes(chain, COLD_ROWS[:1], 1, f"copy {i + 2}")
    if shared:
        found += machine_probes(host, host.cores)
        found += shared_probes(host.cores)
        found += cold_probes(chains[-1], SHARED_COLD_ROWS, host.cores)
    return found
