"""Measure this machine and write the preset `cpu/host` (under a minute; best on an idle machine).

stdout gets what was measured and where the preset is; progress goes to stderr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from tetrasim.hw_targets.cpu.calibration.calibrate import Calibration

app = _options.new_app()


@app.command()
def calibrate(
    target: Annotated[str, typer.Argument(help="What to calibrate: cpu.")] = "cpu",
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Measure peaks, bandwidths and onnxruntime's kernels on this machine, and write `cpu/host`."""
    if target not in ("cpu", "cpu/host"):
        raise UserError(f"'{target}' cannot be calibrated", hint=nearest(target, ("cpu",)))
    from tetrasim.hw_targets.cpu.calibration.calibrate import calibrate as run
    from tetrasim.hw_targets.cpu.calibration.preset_file import write_host_preset

    with progress(quiet) as step:
        done = run(step)
    file = write_host_preset(done)
    _options.out(_as_json(done, file) if json else _as_text(done, file))


def _as_text(done: Calibration, file: Path) -> str:
    from tetrasim.units import si

    m, o = done.measured, done.measured.overheads
    rows = [
        ("machine", f"{m.host.name}, {m.host.cores} cores"),
        ("multiply-add peak", f"{si(2 * m.peak_one, 'flop/s')} one core, {si(2 * m.peak_all, 'flop/s')} all"),
    ]
    for name, one, every in zip(("L1", "L2", "L3", "DRAM"), m.levels_one, m.levels_all, strict=True):
        rows.append(
            (
                f"{name} read",
                f"{si(one.read_bytes_per_s, 'B/s')} one, {si(every.read_bytes_per_s, 'B/s')} all",
            )
        )
    rows += [
        ("per run, value, node", f"{o.run * 1e6:.2f}, {o.value * 1e6:.2f}, {o.node * 1e6:.2f} us"),
        ("fork and join", f"{o.fork_join * 1e6:.1f} us"),
        ("model error on products", f"{done.gemm_error:.1%} (mean absolute)"),
        ("load", f"{m.load_before:.1f} before, {m.load_after:.1f} after, {m.seconds:.0f} s"),
        ("preset", f"{file}  (used by --on cpu/host)"),
    ]
    if m.load_before > 0.5:
        rows.append(("note", "the machine was busy: calibrate again when it is idle"))
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
        "load_before": m.load_before,
        "load_after": m.load_after,
        "seconds": m.seconds,
        "preset": str(file),
    }
    return json.dumps(values, indent=2)
