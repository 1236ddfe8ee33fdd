"""Write a checked hls4ml project for a model: types calibrated, C simulation proven, cycles and fabric
estimated."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _arguments, _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


app = _options.new_app()


@app.command()
def hls(
    model: Annotated[
        str, typer.Argument(help="A preset, a model YAML or an ONNX file; `report` to read a build.")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="With `report`: the project folder.", show_default=False)
    ] = None,
    part: Annotated[
        str, typer.Option(help="Part number, or an FPGA preset of your own.")
    ] = "xcvu13p-flga2577-2-e",
    clock_ns: Annotated[float, typer.Option(help="Clock period.")] = 5.0,
    reuse: Annotated[
        int,
        typer.Option(help="Reuse factor: how often a multiplier is used per row; 0: the smallest that fits."),
    ] = 0,
    strategy: Annotated[str, typer.Option(help="latency, resource or distributed_arithmetic.")] = "latency",
    backend: Annotated[str, typer.Option(help="Vitis or Vivado.")] = "Vitis",
    io: Annotated[
        str, typer.Option(help="stream: rows through FIFOs; parallel: whole arrays between loops.")
    ] = "stream",
    bits: Annotated[int, typer.Option(help="Width of values and weights; 0 searches for the smallest.")] = 16,
    budget: Annotated[float, typer.Option(help="With --bits 0: largest error over the output range.")] = 0.02,
    samples: Annotated[int, typer.Option(help="Inputs for calibration and proof.")] = 200,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Sample inputs: an .npz with one array [N, …] per input.", show_default=False),
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds for each of compiling and predicting.")] = 600,
    check: Annotated[bool, typer.Option(help="Compile and compare with the emulation bit for bit.")] = True,
    oversize: Annotated[
        bool, typer.Option("--oversize", help="Write a design that does not fit the part.")
    ] = False,
    flow: Annotated[
        str, typer.Option(help="hls4ml, or da4ml: Verilog of a dense chain, no vendor tools.")
    ] = "hls4ml",
    dim: _options.Dims = None,
    output: _options.Output = None,
    json: _options.Json = False,
    force: _options.Force = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write the hls4ml project of MODEL to -o DIR, or compare a finished build with its estimate."""
    from tetrasim import facade
    from tetrasim.hw_targets.fpga.hls.options import HlsOptions
    from tetrasim.hw_targets.fpga.hls.report import text

    if model == "report":
        _report(folder, json)
        return
    if folder is not None:
        raise UserError(f"unexpected argument '{folder}'", hint=f"tetrasim hls {model} -o {folder}")
    if output is None:
        raise UserError("no output folder", hint=f"tetrasim hls {model} -o build/{Path(model).stem}")
    options = HlsOptions(
        part=part,
        clock_ns=clock_ns,
        reuse=reuse,
        strategy=strategy,
        backend=backend,
        io=io,
        bits=bits,
        budget=budget,
        samples=samples,
        calibration=samples,
        timeout_s=timeout,
        oversize=oversize,
    )
    options.check()
    with progress(quiet) as step:
        step(f"writing {model}", 0.0)
        dims = _arguments.dims(dim or ())
        if flow != "hls4ml":
            from tetrasim.hw_targets.fpga.rtl.flow import write_rtl

            graph, _ = facade.load_forward(model, dims=dims)
            made = write_rtl(graph, output, flow, options, force=force, progress=step)
            _options.out(json_text.dumps(asdict(made), indent=1) if json else made.text())
            return
        feeds = None if inputs is None else _read_inputs(inputs)
        report = facade.generate_hls(
            model, output, options=options, dims=dims, feeds=feeds, force=force, check=check
        )
    _options.out(json_text.dumps(asdict(report), indent=1) if json else text(report))


def _read_inputs(path: Path) -> dict[str, NDArray[np.float64]]:
    import numpy as np

    from tetrasim.files.npz import read_npz

    return {name: np.asarray(array, np.float64) for name, array in read_npz(path).items()}


def _report(folder: Path | None, json: bool) -> None:
    from tetrasim.hw_targets.fpga.hls.vendor import compare_build

    if folder is None:
        raise UserError("no project folder", hint="tetrasim hls report build/jet")
    found = compare_build(folder)
    _options.out(json_text.dumps(asdict(found), indent=1) if json else found.text())
