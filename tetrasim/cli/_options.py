"""Options that several commands share, and what they do with the result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder (or file) to write.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Export and simulate afresh.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run wrote there.")]
AllowUnmodelled = Annotated[
    bool, typer.Option("--allow-unmodelled", help="Count ops without a cost model as zero, and say so.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
On = Annotated[
    list[str] | None,
    typer.Option(
        "--on", help="One or several presets: pim/pim-gpt gpu/t4 …", show_default=False, metavar="TARGET…"
    ),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        help="Bind symbolic dims of an ONNX file: batch=1 seq=128 …",
        show_default=False,
        metavar="NAME=N…",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Values of an ONNX file's inputs that decide its graph: sr=16000 use_cache=true …",
        show_default=False,
        metavar="NAME=VALUE…",
    ),
]
Rows = Annotated[
    list[str] | None,
    typer.Option(
        "--expect",
        help="How many rows to expect where data decide a shape, with --allow-unmodelled.",
        show_default=False,
        metavar="NAME=ROWS…",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override preset values: dram.channels=16, or gpu/t4:launch=eager for one target.",
        show_default=False,
        metavar="[TARGET:]PATH=VALUE…",
    ),
]


def new_app() -> typer.Typer:
    """A Typer application with the settings that all commands share."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def out(text: str, *, styled: bool = False) -> None:
    """Write data to stdout; `styled`: with colours, in a text whose names were made printable."""
    from tetrasim.files import terminal

    stream = terminal.styled(sys.stdout) if styled else sys.stdout
    stream.write(text if text.endswith("\n") else text + "\n")


def table_width() -> int:
    """Columns for tables: the terminal's, or wide when the output goes to a file or a pipe."""
    import shutil

    return max(shutil.get_terminal_size((160, 24)).columns, 100) if sys.stdout.isatty() else 200


def colored() -> bool:
    """Colours only for people: a terminal, and NO_COLOR unset."""
    import os

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
