"""Simulate a model on one or several targets and write the report.

stdout gets the comparison (or the JSON of `report.json`); the run folder holds the rest.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _arguments, _measure, _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from tetrasim.facade import Run
    from tetrasim.reports.lock import Lock

app = _options.new_app()


_HELP_MODEL = "A preset, a model YAML, a folder from `tetrasim export`, or an .onnx file."


@app.command()
def run(
    model: Annotated[str | None, typer.Argument(help=_HELP_MODEL, show_default=False)] = None,
    on: _options.On = None,
    prompt: Annotated[
        int | None,
        typer.Option("--prompt", "--seq", help="Prompt or sequence length.", show_default="32; encoders 128"),
    ] = None,
    generate: Annotated[int, typer.Option(help="Tokens to generate.")] = 0,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    dim: _options.Dims = None,
    value: _options.Values = None,
    expect: _options.Rows = None,
    setting: _options.Settings = None,
    precision: Annotated[str | None, typer.Option(help="Number format, where a target has one.")] = None,
    launch: Annotated[str | None, typer.Option(help="GPU kernels from a graph, stream or eager.")] = None,
    attention: Annotated[str | None, typer.Option(help="Attention schedule, e.g. lean.")] = None,
    fusion: Annotated[str | None, typer.Option(help="GPU kernels share full, chains or none.")] = None,
    exact_slow: Annotated[bool, typer.Option("--exact-slow", help="PIM: no exact speed-ups.")] = False,
    lock: Annotated[
        Path | None, typer.Option("--lock", help="Repeat the run of a config.lock.yaml.", show_default=False)
    ] = None,
    allow_unmodelled: _options.AllowUnmodelled = False,
    numerics: Annotated[bool, typer.Option(help="Emulate each target's arithmetic.")] = True,
    measure: Annotated[bool, typer.Option("--measure", help="Also run it here, where a target can.")] = False,
    output: _options.Output = None,
    json: _options.Json = False,
    no_cache: _options.NoCache = False,
    force: _options.Force = False,
    quiet: _options.Quiet = False,
) -> None:
    """Simulate MODEL on the targets and write one comparison and one report per target.

    The report goes to out/MODEL-… unless -o names a folder; an existing folder is only replaced with --force.
    """
    from tetrasim import facade
    from tetrasim.flow.pricing import precision_name
    from tetrasim.reports.folder import check_free

    if output is not None:
        check_free(output, force)
    if lock is not None:
        _refuse_beside_lock(
            model, on, dim, value, expect, setting, precision, launch, attention, fusion, allow_unmodelled
        )
    elif model is None:
        raise UserError("no model is named", hint="for example: tetrasim run gpt2-small --on gpu/t4")
    if precision is not None:
        precision = precision_name(precision)
    shortcuts = {"precision": precision, "launch": launch, "attention": attention, "fusion": fusion}
    chosen: dict[str, str | bool] = {name: value for name, value in shortcuts.items() if value is not None}
    if exact_slow:
        chosen["exact_slow"] = True
    with progress(quiet) as step:
        if lock is not None:
            done = _repeat(lock, numerics, not no_cache, measure, step)
        else:
            done = facade.simulate(
                model or "",
                on or [],
                prompt=prompt,
                generate=generate,
                batch=batch,
                dims=_arguments.dims(dim or ()),
                values=_arguments.pairs(value or (), "--input"),
                rows=_arguments.dims(expect or (), "--expect"),
                settings=chosen | _arguments.settings(setting or ()),
                numerics=numerics,
                use_cache=not no_cache,
                allow_unmodelled=allow_unmodelled,
                measurable=measure,
                progress=step,
            )
    # A folder that tetrasim named itself holds the same run: replacing it loses nothing.
    folder = output if output is not None else _default_folder(done)
    done.save(folder, force=force or output is None)
    _print(done, folder, json)
    if measure:
        _options.out(_measure.text(done))


def _print(done: Run, folder: Path, json: bool) -> None:
    if json:
        _options.out(done.to_json())
        sys.stderr.write(f"report: {folder / 'index.html'}\n")
        return
    from tetrasim.reports.terminal import to_text

    colored = _options.colored()
    _options.out(to_text(done.document, _options.table_width(), colored), styled=colored)
    names = (("report", "index.html"), ("trace", "trace.pftrace"), ("repeat", "config.lock.yaml"))
    _options.out("   ".join(f"{what}: {folder / name}" for what, name in names))


def _default_folder(done: Run) -> Path:
    from tetrasim.reports.folder import folder_name
    from tetrasim.reports.lock import to_yaml

    digest = hashlib.sha256(to_yaml(done.lock, Path()).encode()).hexdigest()
    return Path("out") / f"{folder_name(done.results[0].model)}-{digest[:8]}"


def _refuse_beside_lock(*given: object) -> None:
    if any(given):
        raise UserError(
            "--lock already says model, targets, dims and settings",
            where="--lock",
            hint="drop the other arguments",
        )


def _repeat(file: Path, numerics: bool, use_cache: bool, measure: bool, step: _Step) -> Run:
    """Run a lock again, and say when the preset has changed since."""
    from tetrasim import facade
    from tetrasim.reports.lock import read

    wanted = read(file)
    work = wanted.workload
    settings = {f"{t.preset}:{path}": value for t in wanted.targets for path, value in t.overrides}
    done = facade.simulate(
        wanted.model,
        [t.preset for t in wanted.targets],
        prompt=work.prompt,
        generate=work.generate,
        batch=work.batch,
        dims=dict(work.dims),
        values=dict(work.values),
        rows=dict(work.rows),
        settings=settings,
        numerics=numerics,
        use_cache=use_cache,
        allow_unmodelled=wanted.allow_unmodelled,
        measurable=measure,
        progress=step,
    )
    _warn_of_changes(wanted, done.lock)
    return done


def _warn_of_changes(wanted: Lock, done: Lock) -> None:
    if wanted.model_sha256 and wanted.model_sha256 != done.model_sha256:
        sys.stderr.write(
            f"warning: the model '{wanted.model}' is not the one of the lock (its hash differs)\n"
        )
    for before, now in zip(wanted.targets, done.targets, strict=True):
        if before.config_sha256 and before.config_sha256 != now.config_sha256:
            sys.stderr.write(f"warning: the preset '{now.preset}' has changed since the lock was written\n")


if TYPE_CHECKING:
    from tetrasim.facade import Progress as _Step
