"""A calibration from end to end: measure, write the preset `cpu/host`, and say what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tetrasim.errors import UserError
from tetrasim.hw_targets.common import abilities
from tetrasim.hw_targets.cpu.calibration.calibrate import Calibration, calibrate
from tetrasim.hw_targets.cpu.calibration.preset_file import write_host_preset
from tetrasim.units import si

if TYPE_CHECKING:
    from pathlib import Path

UNSURE = (
    "the times of several threads were disturbed by other programs, or do not fit one model (see the error on"
    " all threads): their results carry no error range; calibrate again when the machine is idle"
)


def calibrated(wanted: abilities.Calibration, progress: abilities.Progress) -> abilities.Calibrated:
    """Measure this machine and write its preset.

    Raises:
        UserError: options of a fit to tables.
    """
    for option, value in (("--from", wanted.tables), ("--out", wanted.out), ("--budget", wanted.budget)):
        if value is not None:
            raise UserError(f"{option} is for a fit to tables", where=option, hint="leave it out")
    done = calibrate(progress)
    file = write_host_preset(done)
    return abilities.Calibrated(_text(done, file), _values(done, file))


def _text(done: Calibration, file: Path) -> str:
    m, o, t = done.measured, done.measured.overheads, done.measured.timings
    rows = [
        ("machine", f"{m.host.name}, {m.host.cores} cores"),
        ("multiply-add peak", f"{si(2 * m.peak_one, 'flop/s')} one core, {si(2 * m.peak_all, 'flop/s')} all"),
    ]
    for name, level in zip(("L1", "L2", "L3", "DRAM"), m.levels.levels, strict=True):
        rows.append((f"{name} read", f"{si(level.read_one, 'B/s')} one, {si(level.read_all, 'B/s')} all"))
    d = done.config.dram
    weights = f"{si(d.core_bandwidth_bytes_per_s, 'B/s')} one, {si(d.bandwidth_bytes_per_s, 'B/s')} all"
    rows += [
        ("DRAM, weights", weights),
        ("per run, value, node", f"{o.run * 1e6:.2f}, {o.value * 1e6:.2f}, {o.node * 1e6:.2f} us"),
        ("fork and join", f"{done.config.overhead.fork_join_ns * 1e-3:.1f} us"),
        ("model error on products", f"{done.gemm_error:.1%} one thread, {done.shared_error:.1%} all threads"),
        ("rounds", f"{t.rounds} in {m.seconds:.0f} s; {len(t.unsettled)} of {len(t.best_s)} times unsettled"),
        ("other programs", f"used {t.other_cores:.1f} of {m.host.cores} cores"),
        ("one kernel again and again", f"median {t.drift.median_slowdown:.2f} times its best"),
        ("preset", f"{file}  (used by --on cpu/host)"),
    ]
    if done.config.measured_threads < m.host.cores:
        rows.append(("note", UNSURE))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)


def _values(done: Calibration, file: Path) -> dict[str, str | int | float]:
    m = done.measured
    return {
        "machine": m.host.name,
        "cores": m.host.cores,
        "peak_one_flop_per_s": 2 * m.peak_one,
        "peak_all_flop_per_s": 2 * m.peak_all,
        "gemm_error": done.gemm_error,
        "gemm_error_all": done.shared_error,
        "rounds": m.timings.rounds,
        "unsettled": len(m.timings.unsettled),
        "other_cores": round(m.timings.other_cores, 2),
        "reference_median_slowdown": round(m.timings.drift.median_slowdown, 3),
        "measured_threads": done.config.measured_threads,
        "load_before": m.load_before,
        "load_after": m.load_after,
        "seconds": m.seconds,
        "preset": str(file),
    }
