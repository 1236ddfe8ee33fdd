"""Finds commands by location: `cli/<name>.py` with an `app` (a `typer.Typer`); help imports none of them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from tetrasim.errors import UserError, nearest

if TYPE_CHECKING:
    import typer

_HERE = Path(__file__).parent
# The order of a first reading; commands that are not listed follow by name.
_FIRST = (
    "run", "export", "import", "op", "list", "show", "compare", "hls", "dse", "explain", "whatif", "diff",
    "dram",
)  # fmt: skip
_EPILOGUE = """
Examples:
  tetrasim run gpt2-small --on pim/pim-gpt gpu/t4 cpu/xeon-6154 fpga/u280 --prompt 32 --generate 128
  tetrasim run model.onnx --dim batch=1 --on gpu/a100-sxm4-80gb
  tetrasim op matmul --m 128 --n 4096 --k 4096 --dtype bfloat16 --on gpu/h100-sxm

`tetrasim COMMAND --help` explains one command. Results go to stdout, progress to stderr;
exit codes: 0 fine, 2 a mistake in the input, 1 a defect of tetrasim.
"""


def command_files() -> dict[str, Path]:
    """Command name -> file, in help order."""
    found = {
        file.stem.rstrip("_").replace("_", "-"): file
        for file in sorted(_HERE.glob("*.py"))
        if not file.stem.startswith("_")
    }
    ranked = sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return {name: found[name] for name in ranked}


def load(name: str) -> typer.Typer:
    """The typer application of one command.

    Raises:
        UserError: no such command.
    """
    files = command_files()
    if name not in files:
        raise UserError(f"unknown command '{name}'", hint=f"{nearest(name, files)} See `tetrasim --help`.")
    module = importlib.import_module(f"tetrasim.cli.{files[name].stem}")
    app: typer.Typer = module.app
    return app


def help_text() -> str:
    """Usage, one line per command (the first line of its file's docstring), examples."""
    files = command_files()
    width = max(map(len, files))
    lines = [
        "Usage: tetrasim COMMAND [OPTIONS]",
        "",
        "One transformer, one ONNX graph, four kinds of hardware.",
        "",
    ]
    lines += ["Commands:", *(f"  {name:<{width}}  {_first_line(file)}" for name, file in files.items())]
    lines += ["", "Options:", "  --version  print the version", "  --help     this text"]
    return "\n".join(lines) + "\n" + _EPILOGUE


def _first_line(file: Path) -> str:
    """First paragraph of a module's docstring, read as text: importing it would cost its dependencies."""
    with file.open(encoding="utf-8") as stream:
        head = "".join(next(stream, "") for _ in range(4))
    return " ".join(head.removeprefix('"""').partition('"""')[0].partition("\n\n")[0].split())
