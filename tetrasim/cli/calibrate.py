"""Measure this machine and write the preset `cpu/host`, or fit the GPU model to tables of measured kernels.

The machine takes under a minute and is best idle. stdout gets what was measured or fitted and where it is;
progress goes to stderr.
"""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress

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
    from tetrasim import facade

    with progress(quiet) as step:
        done = facade.calibrate(target, tables=tables, out=out, budget=budget, jobs=jobs, progress=step)
    _options.out(json_text.dumps(dict(done.values), indent=2) if json else done.text)
