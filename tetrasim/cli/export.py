"""Export a model preset to ONNX: prefill and step graphs with explicit caches, a manifest, and the check."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress

if TYPE_CHECKING:
    from tetrasim.export.manifest import ExportedModel

app = _options.new_app()


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A preset (`tetrasim list models`) or a model YAML.")],
    weights: Annotated[
        str, typer.Option(help="random (seeded), none (shapes only) or auto (by size).")
    ] = "auto",
    output: _options.Output = None,
    json: _options.Json = False,
    no_cache: _options.NoCache = False,
    force: _options.Force = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write MODEL as ONNX files with a manifest, checked: torch = onnxruntime = our interpreter."""
    from tetrasim import facade
    from tetrasim.export.manifest import MANIFEST
    from tetrasim.files.write import check_free

    if output is not None:
        check_free(output, MANIFEST, force=force)
    with progress(quiet) as step:
        step(f"exporting {model}", 0.0)
        if output is None:
            found = facade.export(model, weights=weights, use_cache=not no_cache)
        else:
            found = _export_to(output, model, weights, no_cache)
    if json:
        _options.out(json_text.dumps({"folder": str(found.folder), **asdict(found.manifest)}, indent=1))
    else:
        _options.out(_summary(found))


def _export_to(folder: Path, model: str, weights: str, no_cache: bool) -> ExportedModel:
    """Export beside the place, then take it: an earlier export stays until the new one is complete."""
    from tetrasim import facade
    from tetrasim.export.manifest import ExportedModel
    from tetrasim.files.write import new_folder

    with new_folder(folder, replace=True) as staged:
        found = facade.export(model, staged, weights=weights, use_cache=not no_cache)
    return ExportedModel(folder, found.manifest)


def _summary(found: ExportedModel) -> str:
    manifest = found.manifest
    lines = [f"{manifest.model}: {manifest.parameters:,} parameters, weights {manifest.weights}"]
    for entry in manifest.phases:
        dims = ", ".join(entry.phase.symbols) or "none"
        lines.append(f"  {entry.file}  {entry.nodes} nodes, open dims: {dims}, sha256 {entry.sha256[:12]}")
    if manifest.checks:
        width = max(len(check.name) for check in manifest.checks)
        lines.append("checks on random inputs:")
        lines += [
            f"  {check.name:<{width}}  max |Δ| {check.max_abs_error:.2e}  of {check.output_range:.3g}"
            for check in manifest.checks
        ]
    else:
        lines.append(f"not checked: {manifest.checks_note}")
    return "\n".join([*lines, f"folder: {found.folder}{'  (from the cache)' if found.cached else ''}"])
