"""`ops.csv`: one row per op and phase of every result, in graph order."""

from __future__ import annotations

import csv
import io
from dataclasses import fields

from tetrasim.reports.document import Document
from tetrasim.sim.result import OpResult

FILE = "ops.csv"
_COLUMNS = tuple(field.name for field in fields(OpResult))


def render(found: Document) -> str:
    """Columns: preset, then the fields of `OpResult`; several ONNX names are joined by a space."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("preset", *_COLUMNS))
    for result in found.results:
        for op in result.ops:
            writer.writerow((result.preset, *(cell(getattr(op, name)) for name in _COLUMNS)))
    return stream.getvalue()


def cell(value: object) -> str | int | float:
    """A value as a spreadsheet may safely open it: text that would be read as a formula gets a quote."""
    if isinstance(value, (int, float)):
        return value
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
