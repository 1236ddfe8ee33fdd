"""Explain the difference between two runs, per op and cause."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options
from tetrasim.errors import UserError

if TYPE_CHECKING:
    from tetrasim.sim.result import Result

app = _options.new_app()


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    run_b: Annotated[Path, typer.Argument(help="The run to compare with it.")],
    rows: Annotated[int, typer.Option(help="Lines per list.")] = 8,
    json: _options.Json = False,
) -> None:
    """Explain how RUN_B differs from RUN_A: targets with the same preset, else in order."""
    from tetrasim.dse.diff import difference, to_text

    found = [difference(a, b) for a, b in matched(read_results(run_a), read_results(run_b))]
    if json:
        _options.out(json_.dumps([asdict(f) for f in found], indent=1))
    else:
        _options.out("\n".join(to_text(f, rows) for f in found))


def read_results(run: Path) -> tuple[Result, ...]:
    """The results of a run folder.

    Raises:
        UserError: no such folder, or a damaged report.
    """
    from tetrasim.reports.document import parse

    file = run / "report.json" if run.is_dir() else run
    try:
        text = file.read_bytes()
    except OSError as failure:
        raise UserError(
            f"cannot read '{file}': {failure.strerror}", hint="give a run folder, or its report.json"
        ) from None
    return parse(text, str(file)).results


def matched(a: tuple[Result, ...], b: tuple[Result, ...]) -> list[tuple[Result, Result]]:
    """Pairs of the same preset; when there is none, pairs in order."""
    other = {r.preset: r for r in b}
    pairs = [(r, other[r.preset]) for r in a if r.preset in other]
    return pairs or list(zip(a, b, strict=False))
