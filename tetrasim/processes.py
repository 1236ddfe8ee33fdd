"""Processes of our own: Python with the packages of this one and nothing from the working folder, and any
program with a time limit for it and its children.

`python -m module` puts the working folder first on the import path, so that a file `random.py` there would be
executed. Every process is therefore started with `-P`, and what it starts itself inherits PYTHONSAFEPATH.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` of this package in a new interpreter."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment(**changes: str) -> dict[str, str]:
    """This process's environment, with the import path that leads to the same packages."""
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if _leads_to_packages(path))]
    found = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONSAFEPATH": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    return {**os.environ, **found, **changes}


def _leads_to_packages(path: str) -> bool:
    """Not the working folder, nor the folder of the script that runs."""
    script = Path(sys.argv[0] or ".").absolute().parent
    return bool(path) and Path(path).absolute() not in (Path.cwd(), script)


class OutOfTimeError(Exception):
    """The program did not end within its limit."""


def run_limited(
    command: Sequence[str],
    folder: Path,
    timeout_s: int,
    *,
    memory_bytes: int = 0,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run `command` in `folder`; its exit code (negative: the signal that ended it) and what it said.

    `memory_bytes` limits the address space of each process (0: no limit); `environment` None: that of
    this process.

    Raises:
        OutOfTimeError: it took longer than `timeout_s`; it and its children are gone.
    """
    if memory_bytes:
        # `ulimit` in a shell of fixed text: the command itself is passed as arguments, never as text
        command = ["bash", "-c", f'ulimit -v {memory_bytes // 1024}; exec "$@"', "bash", *command]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(os.environ if environment is None else environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except BaseException as failure:  # an interrupt must not leave a compiler behind either
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(failure, subprocess.TimeoutExpired):
            raise OutOfTimeError from None
        raise
    return process.returncode, said
