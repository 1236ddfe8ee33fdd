"""Check an ONNX file: what it holds, how much of it has a cost model, and whether our numbers agree.

The interpreter runs the imported graph on seeded inputs and is compared with onnxruntime on the file.
"""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _arguments, _options, _tables
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from tetrasim.sim.ir.graph import Graph
    from tetrasim.sim.result import CoverageResult, NumericsResult

app = _options.new_app()


@app.command()
def import_(
    file: Annotated[Path, typer.Argument(help="An .onnx file.")],
    dim: _options.Dims = None,
    value: _options.Values = None,
    expect: _options.Rows = None,
    check: Annotated[bool, typer.Option(help="Compare the interpreter with onnxruntime.")] = True,
    allow_unmodelled: _options.AllowUnmodelled = False,
    explain_rewrites: Annotated[
        bool,
        typer.Option(
            "--explain-rewrites", help="Show the graph before and after each pass, and what stopped a match."
        ),
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="With --explain-rewrites: as an HTML page on stdout.")
    ] = False,
    list_dims: Annotated[
        bool, typer.Option("--dims", help="List the open dims, and which of them must be equal.")
    ] = False,
    graph_text: Annotated[
        bool, typer.Option("--text", help="Print the imported graph, one line per node.")
    ] = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Import FILE and print what it contains, its coverage, and its error against onnxruntime."""
    from tetrasim.flow.loading import import_file
    from tetrasim.flow.numerics import check_numerics
    from tetrasim.reports.rewrites import rewrites_html, rewrites_text
    from tetrasim.sim.analysis.coverage import coverage
    from tetrasim.sim.ops.rounding import EXACT
    from tetrasim.sim.passes.pipeline import steps
    from tetrasim.sim.result import NumericsResult

    if file.suffix != ".onnx":
        raise UserError(
            f"'{file}' is not an .onnx file", where="import", hint="give the path of an .onnx file"
        )
    if html and not explain_rewrites:
        raise UserError("--html shows rewrites", where="import", hint="add --explain-rewrites")
    if list_dims:
        _list_dims(file, allow_unmodelled, json)
        return
    with progress(quiet) as step:
        step(f"importing {file.name}", 0.0)
        dims = _arguments.dims(dim or ())
        values = _arguments.pairs(value or (), "--input")
        raw, graph, notes = import_file(
            file,
            dims,
            allow_unmodelled=allow_unmodelled,
            values=values,
            rows=_arguments.dims(expect or (), "--expect"),
        )
        step("comparing with onnxruntime", 0.5)
        numerics = (
            check_numerics(raw, graph, file, EXACT, tuple(values.items()))
            if check
            else NumericsResult(False, "not asked for")
        )
    covered = coverage((graph,))
    if json:
        report = {
            "file": str(file),
            "dims": dict(graph.dims),
            "coverage": asdict(covered),
            "numerics": asdict(numerics),
            "assumptions": list(graph.assumptions),
        }
        _options.out(json_text.dumps({**report, "rewrites": list(notes)}, indent=1, ensure_ascii=False))
        return
    if graph_text:
        _options.out(graph.to_text())
        return
    if html:
        _options.out(rewrites_html(file.name, steps(raw)))
        return
    _options.out(_summary(file, graph, covered, numerics))
    if explain_rewrites:
        _options.out("\nrewrites:\n" + rewrites_text(steps(raw)))


def _list_dims(file: Path, allow_unmodelled: bool, json: bool) -> None:
    from tetrasim.frontend.onnx import open_dims_of

    found = open_dims_of(file, allow_unmodelled=allow_unmodelled)
    if json:
        _options.out(json_text.dumps([asdict(dim) for dim in found], indent=1, ensure_ascii=False))
        return
    rows: list[_tables.Row] = [
        {
            "dim": dim.name,
            "of inputs": ", ".join(dim.inputs),
            "must equal": ", ".join(dim.equal_to),
            "changes outputs": ", ".join(dim.outputs),
        }
        for dim in found
    ]
    if not found:
        _options.out("every dim of the inputs is a number")
        return
    _options.out(_tables.text(rows))
    if not all(dim.probed for dim in found):
        _options.out("no size of all dims at once gave a graph: what must be equal is not known")


def _summary(file: Path, graph: Graph, covered: CoverageResult, numerics: NumericsResult) -> str:
    from tetrasim.sim.analysis.coverage import op_table
    from tetrasim.units import si, si_bytes

    rows: list[_tables.Row] = [
        {
            "op": r.op,
            "nodes": r.nodes,
            "modelled": r.modelled,
            "MACs": si(r.macs, ""),
            "bytes": si_bytes(r.nbytes),
        }
        for r in op_table(graph)
    ]
    parameters = sum(v.type.elements for v in graph.weights)
    inputs = ", ".join(f"{v.name} {v.type}" for v in graph.inputs[:6])
    more = f", … ({len(graph.inputs)} in all)" if len(graph.inputs) > 6 else ""
    share = 100 * covered.nodes_modelled / covered.nodes if covered.nodes else 100.0
    cover = f"coverage: {share:.1f} % of nodes ({covered.nodes_modelled} of {covered.nodes})"
    cover += f", {100 * covered.bytes_fraction:.1f} % of bytes"
    if covered.unmodelled:
        cover += f"\nNOT MODELLED, counted as zero: {', '.join(covered.unmodelled)}"
    for text in graph.assumptions:
        cover += f"\nassumed: {text}"
    lines = [
        f"{file.name}: {len(graph.nodes)} nodes, {si(parameters, '', 4).strip()} parameters",
        f"inputs: {inputs}{more}",
        cover,
        _error_line(numerics),
        "",
        _tables.text(rows),
    ]
    return "\n".join(lines)


def _error_line(numerics: NumericsResult) -> str:
    if not numerics.checked:
        return f"interpreter against a reference: not checked ({numerics.note})"
    worst = "not finite" if numerics.max_abs_error is None else f"{numerics.max_abs_error:.2e}"
    name = f" (of {numerics.outputs} outputs, '{numerics.output}')" if numerics.outputs > 1 else ""
    return (
        f"interpreter against {numerics.against}: max |Δ| {worst}"
        f" on values that span {numerics.output_range:.3g}{name}"
    )
