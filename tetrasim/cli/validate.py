"""Compare a target with the committed measurements: the error per device, op class and size class."""

from __future__ import annotations

import importlib
import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from tetrasim.cli import _options, _tables
from tetrasim.cli._progress import progress
from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class _Validate(Protocol):
        def __call__(self) -> list[DataclassInstance]: ...


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
    known = _with_validation()
    if target is not None and target not in known:
        raise UserError(f"target '{target}' has no validation to run", hint=nearest(target, known))
    tables: dict[str, list[_tables.Row]] = {}
    with progress(quiet) as step:
        for i, name in enumerate([target] if target else known):
            step(f"validating {name}", i / len(known))
            module = importlib.import_module(f"tetrasim.hw_targets.{name}.validate")
            rows_of: _Validate = module.validate
            tables[name] = [asdict(row) for row in rows_of()]
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


def _with_validation() -> tuple[str, ...]:
    """Targets whose folder has a `validate.py`: a function `validate` that returns one dataclass per row."""
    import tetrasim.hw_targets

    folder = Path(tetrasim.hw_targets.__file__).parent
    return tuple(sorted(file.parent.name for file in folder.glob("*/validate.py")))
