"""Put finished runs side by side: tables on stdout, one page with -o."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tetrasim.cli import _options
from tetrasim.errors import UserError

app = _options.new_app()


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or their report.json.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the comparison as one HTML file.", show_default=False),
    ] = None,
    json: _options.Json = False,
    force: _options.Force = False,
) -> None:
    """Compare RUNS (folders that `tetrasim run` wrote)."""
    from tetrasim import facade
    from tetrasim.reports.document import parse
    from tetrasim.reports.folder import write_file
    from tetrasim.reports.terminal import to_text

    found = facade.compare(*(facade.Comparison(parse(_read(run), str(run))) for run in runs))
    if output is not None:
        write_file(output, found.to_html(), force)
    if json:
        _options.out(found.to_json())
    else:
        colored = _options.colored()
        _options.out(to_text(found.document, _options.table_width(), colored), styled=colored)


def _read(run: Path) -> bytes:
    file = run / "report.json" if run.is_dir() else run
    try:
        return file.read_bytes()
    except OSError as failure:
        raise UserError(
            f"cannot read '{file}': {failure.strerror}", hint="give a run folder, or its report.json"
        ) from None
