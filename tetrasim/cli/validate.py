"""Compare a target with the committed measurements: the error per device, op class and size class."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from typing import Annotated

import typer

from tetrasim.cli import _options, _tables
from tetrasim.cli._progress import progress

_SHARES = ("error", "mean_error", "median_error", "p90_error", "exact", "within_one")

app = _options.new_app()


@app.command()
def validate(
    target: Annotated[
        str | None,
        typer.Argument(
            help="gpu, cpu, pim or fpga; all that have measurements if omitted.", show_default=False
        ),
    ] = None,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print the error of TARGET on its committed measurements."""
    from tetrasim import facade

    with progress(quiet) as step:
        found = facade.validate(target, step)
    tables: dict[str, list[_tables.Row]] = {
        name: [asdict(row) for row in rows] for name, rows in found.items()
    }
    if json:
        _options.out(json_text.dumps(tables, indent=1, ensure_ascii=False))
        return
    readable = {name: [_percent(row) for row in rows] for name, rows in tables.items()}
    _options.out("\n".join(f"{name}\n{_tables.text(rows)}" for name, rows in readable.items()))


def _percent(row: _tables.Row) -> _tables.Row:
    """The row with its shares and relative errors in per cent: what a person compares with a limit."""
    return {
        key: f"{100 * value:.3g} %".rjust(8) if key in _SHARES and isinstance(value, float) else value
        for key, value in row.items()
    }
