"""The formats of a report that follow from its document alone, found by location: one module per file.

A module here states `FILE`, the name of the file in a run folder, and `render`, its text for a `Document`.
A run folder holds the file of every module, next to the trace and the lock file, which need more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tetrasim.reports.document import Document


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """`file`: its name in a run folder; `render`: the text of that file."""

    file: str
    render: Callable[[Document], str]


@cache
def report_formats() -> tuple[ReportFormat, ...]:
    """Every format, ordered by the names of the modules."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return tuple(ReportFormat(module.FILE, module.render) for module in modules)
