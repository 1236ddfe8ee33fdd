"""Progress on stderr: a bar once a second has passed in a terminal, plain lines elsewhere, else nothing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tetrasim.files.terminal import printable, styled

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bar

DELAY_S = 1.0


class _Display:
    """What is being done, and since when; `shown` is the bar after the delay."""

    def __init__(self) -> None:
        self.text, self.fraction = "", 0.0
        self.shown: Bar | None = None
        self.started = time.monotonic()
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def step(self, text: str, fraction: float) -> None:
        text = printable(text)
        with self.lock:
            self.text, self.fraction = text, fraction
            if self.shown is not None:
                self.shown.update(self.shown.task_ids[0], description=text, completed=fraction)
                return
        if not sys.stderr.isatty():
            self._line(text)
        elif self.timer is None:
            self.timer = threading.Timer(DELAY_S, self._show)
            self.timer.daemon = True
            self.timer.start()

    def _line(self, text: str) -> None:
        waited = time.monotonic() - self.started
        if waited > DELAY_S:
            sys.stderr.write(f"[{waited:5.1f} s] {text}\n")

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        # Its own codes move the cursor; the texts were made printable.
        bar = Progress(*columns, console=Console(file=styled(sys.stderr)), transient=True)
        with self.lock:
            task = bar.add_task(self.text, total=1.0)
            bar.update(task, completed=self.fraction)
            bar.start()
            self.shown = bar

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        with self.lock:
            if self.shown is not None:
                self.shown.stop()


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str, float], None]]:
    """`with progress() as step: step("exporting", 0.0)`."""
    if quiet:
        yield lambda _text, _fraction: None
        return
    display = _Display()
    try:
        yield display.step
    finally:
        display.close()
