"""`tetrasim hls`: from a graph to a checked hls4ml project in a folder.

Everything is made in a hidden folder beside the target and renamed at the end, so that a mistake leaves
nothing.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from math import prod
from pathlib import Path

import numpy as np

from tetrasim.errors import CapacityError, UserError
from tetrasim.files.write import check_free, new_folder
from tetrasim.hw_targets.fpga.hls import plan as p
from tetrasim.hw_targets.fpga.hls.build import compile_project, predict
from tetrasim.hw_targets.fpga.hls.calibrate import Widths, calibrate
from tetrasim.hw_targets.fpga.hls.check import compare, outputs_of
from tetrasim.hw_targets.fpga.hls.convert import convert
from tetrasim.hw_targets.fpga.hls.emit import PROJECT, model_graph
from tetrasim.hw_targets.fpga.hls.emulate import run_fixed
from tetrasim.hw_targets.fpga.hls.estimate import Estimate, estimate, with_fitting_reuse
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.pipeline import Pipeline, reuse_of, simulate_pipeline
from tetrasim.hw_targets.fpga.hls.plan import Floats, Ints, Plan, Shape
from tetrasim.hw_targets.fpga.hls.relu import clip_relus
from tetrasim.hw_targets.fpga.hls.report import HlsReport, text
from tetrasim.hw_targets.fpga.hls.search import find_widths
from tetrasim.hw_targets.fpga.hls.stream import streamed
from tetrasim.hw_targets.fpga.hls.testbench import write_testbench
from tetrasim.hw_targets.fpga.hls.vendor import ESTIMATE
from tetrasim.onnx_runtime import open_session
from tetrasim.sim.ir.graph import Graph
from tetrasim.sim.ir.interpreter import interpret

__all__ = ["HlsReport", "generate", "reference_outputs", "sample_inputs"]


def generate(
    graph: Graph,
    folder: Path,
    options: HlsOptions,
    *,
    onnx_path: Path | None = None,
    feeds: Mapping[str, Floats] | None = None,
    force: bool = False,
    check: bool = True,
) -> HlsReport:
    """Write the project of `graph` to `folder`; `feeds` are sample inputs by name ([N, …]; random when None).

    Raises:
        UserError: bad options, nodes without an HLS layer, an existing folder, a failed compilation, or a C
            simulation that differs from the emulation.
    """
    options.check()
    named, folder = folder, folder.absolute()  # the C simulation runs in another working folder
    check_free(named, ESTIMATE, force=force)
    plan = clip_relus(convert(graph))
    if options.io == "stream":
        plan = streamed(plan)
    samples = sample_inputs(graph, plan, options) if feeds is None else _named(graph, plan, feeds)
    reference, source = reference_outputs(graph, samples, onnx_path)
    by_layer = {
        layer.name: samples[value.name] for layer, value in zip(plan.inputs, graph.inputs, strict=True)
    }
    head = {k: v[: options.calibration] for k, v in by_layer.items()}
    widths = Widths(options.bits, options.guard_bits)
    if options.bits == 0:
        widths = find_widths(plan, head, reference[: options.calibration], options.budget, options.guard_bits)
    plan = calibrate(plan, head, widths)
    bits = max(t.result.bits for t in plan.types.values())
    options = with_fitting_reuse(graph, options, bits)
    pipeline = simulate_pipeline(plan, options) if plan.streamed else None
    found = estimate(graph, options, bits)
    if found is not None and not (found.fits or options.oversize):
        raise _too_large(found, options, graph.name)
    with new_folder(folder, replace=True) as scratch:
        quiet_write(plan, options, scratch, pipeline)
        simulated = None
        if check:
            library = compile_project(scratch, options)
            with tempfile.TemporaryDirectory() as outside:
                simulated = predict(library, plan, by_layer, options, Path(outside))
        numerics = compare(plan, by_layer, reference, source, simulated)
        if numerics.bit_exact is False:
            raise UserError(
                f"the C simulation differs from the emulation in {numerics.bit_differences} values",
                where=graph.name,
                hint="this is a defect of tetrasim: please report it with the model",
            )
        if found is not None and pipeline is not None:
            cycles = (pipeline.latency_cycles, pipeline.interval_cycles)
            found = replace(found, latency_cycles=cycles[0], interval_cycles=cycles[1])
        parts = (len(plan.layers), options, widths, numerics, found, pipeline)
        report = HlsReport(str(named), graph.name, *parts)
        _write_extras(scratch, folder, plan, by_layer, reference, report)
        for made in (scratch / "firmware").glob("*.so"):
            made.unlink()  # it holds the path it was built in
    return report


def _too_large(found: Estimate, options: HlsOptions, model: str) -> CapacityError:
    """What does not fit, and what to try next."""
    share = f"{found.share:.0%} of" if found.share < 10 else f"{found.share:,.0f} times"
    needs = f"at reuse {options.reuse} it needs {share} the usable {found.limiting}"
    if found.reuse_that_fits:
        hint = f"--reuse {found.reuse_that_fits} fits (0 finds it)"
    else:
        hint = "no reuse factor fits: fewer --bits, a larger --part, or a smaller model"
    what = f"the design does not fit {options.part}: {needs}"
    return CapacityError(what, where=model, hint=f"{hint}; --oversize writes it all the same")


def sample_inputs(graph: Graph, plan: Plan, options: HlsOptions) -> dict[str, Floats]:
    """Seeded normal inputs (token ids uniform), [N, …] by graph input name."""
    rng = np.random.default_rng(options.seed)
    rows = max(options.samples, options.calibration)
    out: dict[str, Floats] = {}
    for layer, value in zip(plan.inputs, graph.inputs, strict=True):
        shape = (rows, *value.type.shape[1:])
        if layer.integers:
            ids = _vocabulary(plan, layer.name)
            made = rng.integers(0, ids, shape) if ids else _padding_masks(rng, shape)
            out[value.name] = made.astype(np.float64)
        else:
            # the reference runs in float32: give both the same numbers
            out[value.name] = rng.normal(size=shape).astype(np.float32).astype(np.float64)
    return out


def _vocabulary(plan: Plan, name: str) -> int:
    """Ids that the tables hold; 0 for integers that no table reads: a mask."""
    readers = {name}
    for layer in plan.layers:  # regrouped ids are ids
        if isinstance(layer, p.Select) and layer.inputs[0] in readers:
            readers.add(layer.name)
    tables = [len(x.table) for x in plan.layers if isinstance(x, p.Embed) and x.inputs[0] in readers]
    return min(tables, default=0)


def _padding_masks(rng: np.random.Generator, shape: Shape) -> Ints:
    """1 for the first few tokens (at least one), 0 for the padding after them."""
    length = rng.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return np.asarray(np.arange(shape[-1]) < length, np.int64)


def _named(graph: Graph, plan: Plan, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    out: dict[str, Floats] = {}
    for layer, value in zip(plan.inputs, graph.inputs, strict=True):
        if value.name not in feeds:
            raise UserError(f"the sample inputs lack '{value.name}'", hint=f"shape [N, {layer.shape}]")
        array = np.asarray(feeds[value.name], np.float64)
        if not array.ndim or not len(array) or array[0].size != prod(layer.shape):
            raise UserError(
                f"the samples of '{value.name}' have shape {list(array.shape)}",
                hint=f"give one or more rows: [N, {', '.join(map(str, layer.shape))}]",
            )
        if not np.isfinite(array).all():
            raise UserError(f"the samples of '{value.name}' hold NaN or infinity", hint="remove those rows")
        out[value.name] = array.reshape(len(array), *value.type.shape[1:])
    rows = {name: len(array) for name, array in out.items()}
    if len(set(rows.values())) > 1:
        raise UserError(f"the inputs have different numbers of samples: {rows}", hint="give as many of each")
    return out


def reference_outputs(
    graph: Graph, samples: Mapping[str, Floats], onnx_path: Path | None
) -> tuple[Floats, str]:
    """Outputs [N, …] of onnxruntime where there is an ONNX file, of the graph interpreter otherwise."""
    rows = len(next(iter(samples.values())))
    kinds = {v.name: np.int64 if v.type.kind in ("int", "uint") else np.float32 for v in graph.inputs}
    feeds = [{k: v[i : i + 1].astype(kinds[k]) for k, v in samples.items()} for i in range(rows)]
    if onnx_path is None:
        made = [np.concatenate([y.reshape(-1) for y in interpret(graph, feed).values()]) for feed in feeds]
        return np.array(made, np.float64), "tetrasim interpreter"
    session = open_session(onnx_path)
    made = [np.concatenate([y.reshape(-1) for y in session.run(None, feed)]) for feed in feeds]
    return np.array(made, np.float64), "onnxruntime"


def quiet_write(plan: Plan, options: HlsOptions, folder: Path, pipeline: Pipeline | None) -> None:
    """hls4ml writes its project; what it prints is dropped."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        model_graph(plan, options, folder.resolve(), pipeline).write()


def _write_extras(
    scratch: Path, folder: Path, plan: Plan, feeds: Mapping[str, Floats], reference: Floats, report: HlsReport
) -> None:
    """Testbench with its data, configuration with the final path, estimate and numerics.

    hls4ml's `link_existing_project` compiles in the folder that the configuration names: an absolute path, so
    that it may be called from anywhere.
    """
    config = scratch / "hls4ml_config.yml"
    if config.exists():
        config.write_text(config.read_text().replace(str(scratch.resolve()), str(folder.resolve())))
    fixed = run_fixed(plan, feeds)
    rows = np.concatenate([fixed[x.name].reshape(len(reference), -1) for x in plan.inputs], axis=1)
    write_testbench(scratch, PROJECT, rows, outputs_of(fixed, plan))
    (scratch / ESTIMATE).write_text(json.dumps(_plain(report), indent=1, sort_keys=True) + "\n")
    (scratch / "report.txt").write_text(text(report) + "\n", encoding="utf-8")
    with (scratch / "numerics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "node", "op", "type", "range", "max_error", "mean_error", "reuse"])
        for row, layer in zip(report.numerics.layers, plan.layers, strict=True):
            numbers = (f"{row.real_range:.6g}", f"{row.max_error:.6g}", f"{row.mean_error:.6g}")
            reuse = reuse_of(layer, report.options)
            writer.writerow([row.layer, row.node, row.op, row.type, *numbers, reuse])
    if report.pipeline is not None:
        with (scratch / "fifos.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["layer", "copy", "bits", "depth"])
            writer.writerows([f.layer, f.copy, f.bits, f.depth] for f in report.pipeline.fifos)


def _plain(report: HlsReport) -> dict[str, object]:
    plain = asdict(report)
    plain["numerics"].pop("layers")
    plain["folder"] = Path(report.folder).name
    return plain
