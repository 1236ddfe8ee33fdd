"""The study's journal file: optuna's own format, with locks that die with their holder.

Optuna's file lock is a link that a killed process leaves behind, so that the next one waits half a minute.
Here the kernel holds the lock (flock) and lets go of it when the process ends, however it ends. A line that a
kill cut short is removed before the next one is written. Writes are not forced to the disk: a kill loses
nothing of what was written, and what a power failure loses is in the store of outcomes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from tetrasim.errors import UserError
from tetrasim.files.write import make_parents, open_in_folder


class Journal(JournalFileBackend):
    """A journal in one file; optuna-dashboard and optuna's own backend read it too."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, after removing an unfinished one."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with (
            locked(self._file.with_name(f"{self._file.name}.flock")),
            os.fdopen(open_in_folder(self._file, os.O_RDWR), "rb+") as stream,
        ):
            stream.seek(_end_of_last_line(stream.fileno()))
            stream.truncate()
            stream.write(text.encode())


def _end_of_last_line(handle: int, block: int = 1 << 16) -> int:
    """Offset after the last newline of the file."""
    end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - block)
        at = os.pread(handle, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it."""
    handle = open_in_folder(file, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Keep a second driver from the same study: it would take the running trials for abandoned ones.

    Raises:
        UserError: another process is running the study.
    """
    make_parents(folder / ".driver")
    handle = open_in_folder(folder / ".driver", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is running the study in '{folder}'",
                hint="wait for it (`tetrasim dse status`), or choose another folder with -o",
            ) from None
        yield
    finally:
        os.close(handle)
