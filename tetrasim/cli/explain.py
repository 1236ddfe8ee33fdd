"""Say why one op of a finished run takes what it takes: kernel, candidates, bytes, sourced constants."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError

app = _options.new_app()


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run folder, or its config.lock.yaml.")],
    node: Annotated[str, typer.Argument(help="A node, as the run's ops.csv names it.")],
    on: Annotated[
        str, typer.Option(help="One of the run's targets (default: all).", show_default=False)
    ] = "",
    phase: Annotated[
        str, typer.Option(help="forward, prefill or decode (default: all).", show_default=False)
    ] = "",
    json: _options.Json = False,
) -> None:
    """Explain NODE of RUN, e.g. `tetrasim explain out/run blocks.0.ffn.up/Add`."""
    from tetrasim.facade import explain as explain_run
    from tetrasim.reports.explain import to_text, to_tree

    file = run / "config.lock.yaml" if run.is_dir() else run
    if not file.is_file():
        raise UserError(f"there is no '{file}'", hint="give a folder that `tetrasim run` wrote")
    with progress() as step:
        found = explain_run(file, node, on=on, phase=phase, progress=step)
    if json:
        _options.out(json_text.dumps(to_tree(found), indent=1, allow_nan=False))
        return
    _options.out(to_text(found))
