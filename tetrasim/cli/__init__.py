"""The command line: one file per command, found by location, imported only when its command runs.

`tetrasim run …` imports `cli/run.py` and calls its `app`; a trailing underscore keeps a Python keyword or
builtin usable as a command name (`import_.py`). stdout is data, stderr is progress; exit 0 fine, 2 the
user's mistake, 1 our defect. Help of the whole program reads only the files' first lines, so that it
answers at once.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tetrasim.errors import UserError

TRACEBACK_VARIABLE = "TETRASIM_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code is returned (the console script passes it to `sys.exit`)."""
    # Before numpy is imported: the emulated numerics then add in one order on every machine, and do not
    # fight for cores with whatever else runs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ["PYTHONSAFEPATH"] = "1"  # nor do processes that libraries start import from the working folder
    # A command makes many small objects that live to its end: collect rarely (7 % of a run's time).
    gc.set_threshold(100_000, 20, 50)
    argv = list(sys.argv[1:] if arguments is None else arguments)
    with _escaped_streams(), _signals_as_exits():
        try:
            code = _run(argv)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # `tetrasim … | head`: the reader has what it wanted
            _drop_stdout()
            return 0
        except UserError as failure:  # of the last flush: a full disk behind `> file`
            _drop_stdout()
            _say_error(failure)
            return 2


def _run(argv: list[str]) -> int:
    """The command's exit code; every mistake and defect is said on stderr."""
    try:
        return _dispatch(argv)
    except UserError as mistake:
        _say_error(mistake)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:
        raise
    except OSError as failure:
        from tetrasim.files.read import REASONS, mistake_of

        if failure.errno not in REASONS or os.environ.get(TRACEBACK_VARIABLE):
            return _defect(failure)
        _say_error(mistake_of(failure, "a file or stream cannot be used"))
        return 2
    except MemoryError:
        what = "the memory is used up"
        _say_error(UserError(what, hint="use a smaller model or workload, or a machine with more memory"))
        return 2
    except Exception as defect:
        return _defect(defect)


def _defect(defect: Exception) -> int:
    if os.environ.get(TRACEBACK_VARIABLE):
        raise defect
    sys.stderr.write(
        f"internal error: {type(defect).__name__}: {defect}\n"
        f"  hint: this is a defect of tetrasim, not yours; {TRACEBACK_VARIABLE}=1 shows the traceback;"
        " please report it with the command\n"
    )
    return 1


@contextmanager
def _escaped_streams() -> Iterator[None]:
    """The three standard streams exist (a shell may close them: a file opened later must not take their
    place), and the two that are written escape what a terminal would obey."""
    from tetrasim.files.terminal import Terminal

    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    before = sys.stdout, sys.stderr
    out, err = (open(os.devnull, "w", encoding="utf-8") if s is None else s for s in before)  # noqa: SIM115
    sys.stdout, sys.stderr = Terminal(out, data=True), Terminal(err, data=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _drop_stdout() -> None:
    """Nothing can be written there any more: what is left in its buffer goes nowhere, and quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: through the blocks that remove temporary files."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dispatch(argv: list[str]) -> int:
    from tetrasim.cli import _discover

    if not argv or argv[0] in ("--help", "-h", "help"):
        sys.stdout.write(_discover.help_text())
        return 0
    if argv[0] in ("--version", "-V"):
        from tetrasim.version import VERSION

        sys.stdout.write(f"tetrasim {VERSION}\n")
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
