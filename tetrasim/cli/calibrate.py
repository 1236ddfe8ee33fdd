"""Measure this machine and write the preset `cpu/host`, or fit the GPU model to tables of measured kernels.

The machine takes under a minute and is best idle. stdout gets what was measured or fitted and where it is;
progress goes to stderr.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    from tetrasim.hw_targets.cpu.calibration.calibrate import Calibration

UNSURE = (
    "the times of several threads were disturbed by other programs, or do not fit one model (see the error on"
    " all threads): their results carry no error range; calibrate again when the machine is idle"
)
app = _options.new_app()


@app.command()
def calibrate(
    target: Annotated[str, typer.Argument(help="What to calibrate: cpu or gpu.")] = "cpu",
    tables: Annotated[
        Path | None,
        typer.Option("--from", help="gpu: the folder of the measured tables.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="gpu: a folder for the files of the fit.", show_default=False),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="gpu: evaluations per table.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(help="gpu: processes; the result does not depend on it.", min=1)] = 2,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Measure this machine's kernels and write `cpu/host`; or, with gpu, fit the model to measured tables.

    `calibrate gpu --from TABLES` prints the error on kernels left out of the fit; with --out it writes the
    calibration, its error ranges and the rows that were left out.
    """
    if target not in ("cpu", "cpu/host", "gpu"):
        raise UserError(f"'{target}' cannot be calibrated", hint=nearest(target, ("cpu", "gpu")))
    if target == "gpu":
        _gpu(tables, out, budget, jobs, json=json, quiet=quiet)
        return
    for option, value in (("--from", tables), ("--out", out), ("--budget", budget)):
        if value is not None:
            raise UserError(f"{option} is for `calibrate gpu`", where=option, hint="leave it out")
    from tetrasim.hw_targets.cpu.calibration.calibrate import calibrate as run
    from tetrasim.hw_targets.cpu.calibration.preset_file import write_host_preset

    with progress(quiet) as step:
        done = run(step)
    file = write_host_preset(done)
    _options.out(_as_json(done, file) if json else _as_text(done, file))


def _gpu(
    tables: Path | None, out: Path | None, budget: int | None, jobs: int, *, json: bool, quiet: bool
) -> None:
    import json as json_text

    from tetrasim.hw_targets.gpu.fit.calibrate import BUDGET, fit
    from tetrasim.hw_targets.gpu.fit.files import write
    from tetrasim.hw_targets.gpu.fit.tables import check_tables

    if tables is None:
        raise UserError(
            "a GPU is calibrated from measured tables", where="--from", hint="give the folder of the tables"
        )
    check_tables(tables)
    if out is not None and not out.is_dir():
        raise UserError(f"there is no folder '{out}'", where="--out", hint="make it first")
    if budget is not None and budget < 1:
        raise UserError("the budget is less than one evaluation", where="--budget", hint=f"{BUDGET} is usual")
    with progress(quiet) as step:
        found = fit(tables, budget or BUDGET, jobs=jobs, progress=step)
    files = [] if out is None else [str(file) for file in write(found, tables, out)]
    if json:
        _options.out(json_text.dumps({"left_out": found.lines, "files": files}, indent=2))
        return
    _options.out("\n".join([*found.lines, *(f"wrote {file}" for file in files)]))


def _as_text(done: Calibration, file: Path) -> str:
    from tetrasim.units import si

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


def _as_json(done: Calibration, file: Path) -> str:
    import json

    m = done.measured
    values = {
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
    return json.dumps(values, indent=2)
