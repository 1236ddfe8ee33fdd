"""Simulate a finished run again with changed parameters, and print what moves."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tetrasim.cli import _options
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError

app = _options.new_app()


@app.command()
def whatif(
    run: Annotated[Path, typer.Argument(help="A run folder, or its config.lock.yaml.")],
    changes: Annotated[
        list[str], typer.Argument(help="PATH=VALUE or PATH=1.25x, with TARGET: in front for one target.")
    ],
    rows: Annotated[int, typer.Option(help="Lines per list.")] = 8,
    json: _options.Json = False,
) -> None:
    """Simulate RUN again with CHANGES, e.g. `tetrasim whatif out/run dram.bandwidth=1.25x`."""
    from tetrasim import facade
    from tetrasim.dse.diff import difference, to_text
    from tetrasim.dse.whatif import change_settings
    from tetrasim.reports.lock import read

    file = run / "config.lock.yaml" if run.is_dir() else run
    if not file.is_file():
        raise UserError(f"there is no '{file}'", hint="give a folder that `tetrasim run` wrote")
    lock = read(file)
    changed, applied = change_settings(lock, changes)
    before = {f"{t.preset}:{path}": value for t in lock.targets for path, value in t.overrides}
    names = list(dict.fromkeys(a.preset for a in applied))
    work = lock.workload
    with progress() as step:
        runs = [
            facade.simulate(
                lock.model,
                names,
                prompt=work.prompt,
                generate=work.generate,
                batch=work.batch,
                dims=dict(work.dims),
                values=dict(work.values),
                rows=dict(work.rows),
                settings={k: v for k, v in settings.items() if k.rpartition(":")[0] in names},
                numerics=False,
                allow_unmodelled=lock.allow_unmodelled,
                progress=step,
            )
            for settings in (before, changed)
        ]
    pairs = zip(runs[0].results, runs[1].results, strict=True)
    found = [difference(a, b) for a, b in pairs]
    if json:
        tree = {"changes": [asdict(a) for a in applied], "differences": [asdict(f) for f in found]}
        _options.out(json_.dumps(tree, indent=1))
        return
    for a in applied:
        _options.out(f"{a.preset}: {a.path} {a.before} -> {a.after}")
    _options.out("\n".join(to_text(f, rows) for f in found))
