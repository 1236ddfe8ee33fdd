"""The command line: one file per command, found by location, imported only when its command runs.

`tetrasim run …` imports `cli/run.py` and calls its `app`; a trailing underscore keeps a Python keyword or
builtin usable as a command name (`import_.py`). stdout is data, stderr is progress; exit 0 fine, 2 the
user's mistake, 1 our defect. Help of the whole program reads only the files' first lines, so that it
answers at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from tetrasim.errors import UserError

TRACEBACK_VARIABLE = "TETRASIM_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code is returned (the console script passes it to `sys.exit`)."""
    # Before numpy is imported: the emulated numerics then add in one order on every machine, and do not
    # fight for cores with whatever else runs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A command makes many small objects that live to its end: collect rarely (7 % of a run's time).
    gc.set_threshold(100_000, 20, 50)
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(argv)
    except UserError as mistake:
        _say_error(mistake)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:  # `tetrasim … | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as defect:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.stderr.write(
            f"internal error: {type(defect).__name__}: {defect}\n"
            f"  hint: this is a defect of tetrasim, not yours; {TRACEBACK_VARIABLE}=1 shows the traceback;"
            " please report it with the command\n"
        )
        return 1


def _dispatch(argv: list[str]) -> int:
    from tetrasim.cli import _discover

    if not argv or argv[0] in ("--help", "-h", "help"):
        sys.stdout.write(_discover.help_text())
        return 0
    if argv[0] in ("--version", "-V"):
        from tetrasim import __version__

        sys.stdout.write(f"tetrasim {__version__}\n")
        return 0
    name, rest = argv[0], argv[1:]
    app = _discover.load(name)
    from tetrasim.cli._arguments import expand_lists

    try:
        app(args=expand_lists(rest), prog_name=f"tetrasim {name}")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    return 0


def _say_error(mistake: UserError) -> None:
    """`error: what`, where it was found and the next step, one line each."""
    lines = [f"error: {mistake.what}"]
    if mistake.where:
        lines.append(f"  where: {mistake.where}")
    if mistake.hint:
        lines.append(f"  hint: {mistake.hint}")
    sys.stderr.write("\n".join(lines) + "\n")
