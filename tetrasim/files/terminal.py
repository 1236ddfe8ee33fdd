"""The program's two streams: no control character of a name reaches the terminal, no encoding ends a run.

A model, a preset or a trace names its parts, and a name may hold escape codes that recolour, rename or answer
to a terminal. `Terminal` stands in for `sys.stdout` and `sys.stderr` of the command line and shows them as
`\\x1b`. What the encoding of the stream does not have is written in ASCII (`us` for `µs`). Colours are for
the program alone: `styled` gives a stream for `rich`, whose texts pass `printable` before.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tetrasim.files.read import mistake_of

# C0 without tab and line feed, DEL, C1, line and paragraph separators, and the marks that reverse text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_ASCII = {
    "µ": "u", "μ": "u", "×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "←": "<-", "≤": "<=",
    "≥": ">=", "≈": "~", "±": "+-", "Δ": "delta ", "·": "*", "°": " deg", "²": "^2", "³": "^3", "’": "'",
    "‘": "'", "“": '"', "”": '"', "•": "*", "│": "|", "┃": "|", "─": "-", "━": "-", "═": "=", "█": "#",
}  # fmt: skip
_HANDLER = "tetrasim-ascii"
MAX_NAME = 200


def printable(text: str) -> str:
    """`text` with every control character as `\\xNN` or `\\uNNNN`; line feeds and tabs stay."""
    return _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), text)


def short(name: str, most: int = MAX_NAME) -> str:
    """A name of a file, shortened in its middle where it is longer than `most` characters."""
    if len(name) <= most:
        return name
    kept = (most - 1) // 2
    return f"{name[:kept]}…{name[len(name) - kept :]}"


def _in_ascii(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    chars = problem.object[problem.start : problem.end]
    return "".join(_ASCII.get(c) or _coded(c) for c in chars), problem.end


def _coded(char: str) -> str:
    """A corner of a drawn box, else the character's number."""
    return "+" if "\u2500" <= char <= "\u257f" else char.encode("ascii", "backslashreplace").decode()


codecs.register_error(_HANDLER, _in_ascii)


class Terminal(io.TextIOBase):
    """A text stream that escapes; everything else is asked of the stream behind it."""

    def __init__(self, behind: TextIO, *, data: bool) -> None:
        """`data`: what cannot be written ends the command (stdout); otherwise it is let go (stderr)."""
        super().__init__()
        self._behind, self._data = behind, data
        if isinstance(behind, io.TextIOWrapper):
            behind.reconfigure(errors=_HANDLER)

    @property
    def styled(self) -> TextIO:
        """The stream behind, for styled text whose names were made `printable` before."""
        return self._behind

    def write(self, text: str) -> int:
        with self._failures():
            self._behind.write(printable(text))
        return len(text)  # no `buffer`: what is written as bytes would go past the escapes

    def flush(self) -> None:
        with self._failures():
            self._behind.flush()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A full disk behind the stream is no defect; a reader who has gone is the command line's to see."""
        try:
            yield
        except BrokenPipeError:
            if self._data:
                raise
        except OSError as failure:
            if self._data:
                raise mistake_of(failure, "cannot write the output", "stdout") from None

    def isatty(self) -> bool:
        return not self._behind.closed and self._behind.isatty()

    def fileno(self) -> int:
        return self._behind.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._behind.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._behind.errors


def styled(stream: TextIO) -> TextIO:
    """The stream for a console with colours: behind a `Terminal`, else the stream itself."""
    return stream.styled if isinstance(stream, Terminal) else stream
