"""Compile a written project with g++ and predict with it, each in a subprocess with time and memory
limits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.fpga.hls.emit import PROJECT
from tetrasim.hw_targets.fpga.hls.options import HlsOptions
from tetrasim.hw_targets.fpga.hls.plan import Floats, Plan
from tetrasim.processes import OutOfTimeError, python_command, python_environment, run_limited


def compile_project(folder: Path, options: HlsOptions) -> Path:
    """The shared library of the project in `folder`, built by its own build script.

    Raises:
        UserError: no compiler, or the compiler failed or took too long; with its last words.
    """
    if shutil.which("g++") is None:
        hint = "install a C++ compiler, or use --no-check to skip the proof"
        raise UserError("g++ was not found", hint=hint)
    _run(["bash", "build_lib.sh"], folder, options, "compiling the project")
    libraries = sorted((folder / "firmware").glob(f"{PROJECT}-*.so"), key=lambda p: p.stat().st_mtime)
    if not libraries:
        raise UserError("the build script left no library", where=str(folder))
    return libraries[-1]


def predict(
    library: Path, plan: Plan, feeds: Mapping[str, Floats], options: HlsOptions, scratch: Path
) -> Floats:
    """Outputs [N, all outputs in a row] of the C simulation.

    Raises:
        UserError: the process died or took too long.
    """
    given, made = scratch / "inputs.npz", scratch / "outputs.npy"
    rows = [np.asarray(feeds[x.name]).reshape(len(feeds[x.name]), -1) for x in plan.inputs]
    np.savez(given, *rows)
    sizes = ",".join(str(plan.layer(name).size) for name in plan.outputs)
    module = "tetrasim.hw_targets.fpga.hls.worker"
    command = python_command(module, str(library.absolute()), str(given), str(made), PROJECT, sizes)
    _run(command, scratch, options, "running the C simulation")
    return np.asarray(np.load(made, allow_pickle=False), np.float64)


def _run(command: Sequence[str], folder: Path, options: HlsOptions, what: str) -> None:
    """Run to the end within the limits."""
    try:
        code, said = run_limited(
            command,
            folder,
            options.timeout_s,
            memory_bytes=options.memory_bytes,
            environment=python_environment(),
        )
    except OutOfTimeError:
        raise UserError(
            f"{what} took more than {options.timeout_s} s", hint="raise --timeout, or use a smaller model"
        ) from None
    if code != 0:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise UserError(f"{what} failed ({reason}):\n{_last_words(said)}", where=str(folder))


def _last_words(said: str) -> str:
    errors = [line for line in said.splitlines() if "error" in line.lower() or "assert" in line.lower()]
    return "\n".join((errors or said.splitlines())[-6:])
