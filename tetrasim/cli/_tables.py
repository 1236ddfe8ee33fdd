"""Plain text tables for commands that list things: aligned columns, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

Cell = str | int | float | bool | None
Row = dict[str, Cell]


def text(rows: Sequence[Row]) -> str:
    """One line per row under a line of column names; the rows have the same keys."""
    if not rows:
        return "(none)\n"
    columns = list(rows[0])
    cells = [[_show(row[name]) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    right = [all(isinstance(row[name], (int, float, NoneType)) for row in rows) for name in columns]

    def line(parts: Sequence[str]) -> str:
        padded = (p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), *map(line, cells)]) + "\n"


def _show(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
