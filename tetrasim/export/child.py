"""Export in a process of its own.

torch and the exporter take about 300 MB that no simulation needs and that Python cannot give back. A caller
that only wants the graphs therefore leaves the export to a new interpreter

    python -P -m tetrasim.export.child MODEL [--no-cache]

which writes the same cache folder and answers with one line of JSON. A process that has torch loaded already
exports by itself, and so does one that cannot start an interpreter.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tetrasim.errors import UserError
from tetrasim.export.exporter import cached_export, export_model
from tetrasim.export.manifest import ExportedModel, read_manifest
from tetrasim.processes import python_command, python_environment


def export_apart(model: str, meanwhile: Callable[[], None], *, use_cache: bool = True) -> ExportedModel:
    """`export_model` with its defaults, without loading torch here; `meanwhile` runs while the other works.

    Raises:
        UserError: as `export_model`, or the other process was killed.
    """
    known = cached_export(model) if use_cache else None
    if known is not None:
        return known
    if _torch_is_here() or not sys.executable:
        return export_model(model, use_cache=use_cache)
    command = python_command("tetrasim.export.child", model, *([] if use_cache else ["--no-cache"]))
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", env=python_environment(),
        )  # fmt: skip
    except OSError:  # no more processes allowed
        return export_model(model, use_cache=use_cache)
    with child:
        try:
            meanwhile()
            answer, log = child.communicate()
        except BaseException:
            child.kill()
            raise
    return _result(model, child.returncode, answer, log)


def _torch_is_here() -> bool:
    return "torch" in sys.modules


def _result(model: str, code: int, answer: str, log: str) -> ExportedModel:
    if code < 0:
        raise UserError(
            f"the export of '{model}' was stopped by signal {-code}",
            hint="free some memory, or export first (`tetrasim export`) and name the folder",
        )
    lines = answer.splitlines()
    found = json.loads(lines[-1]) if lines else {}
    if code == 2:
        raise UserError(found["what"], where=found["where"], hint=found["hint"])
    if code:
        raise RuntimeError(f"the export of '{model}' failed:\n{log}")
    folder = Path(found["folder"])
    return ExportedModel(folder, read_manifest(folder))


def main(arguments: list[str]) -> int:
    """Export and answer; what libraries print goes to stderr."""
    model, *options = arguments
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = export_model(model, use_cache="--no-cache" not in options)
        except UserError as error:
            out.write(json.dumps({"what": error.what, "where": error.where, "hint": error.hint}) + "\n")
            return 2
    out.write(json.dumps({"folder": str(found.folder.absolute())}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
