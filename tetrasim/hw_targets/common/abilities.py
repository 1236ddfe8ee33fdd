"""What a target may be able to do beside simulating: be measured on this machine, and be calibrated.

A target names these functions in its `TARGET`; `tetrasim run --measure`, `tetrasim calibrate` and
`tetrasim validate` know no target by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Called before each step with what is done now and the fraction that is behind.
Progress = Callable[[str, float], None]


class Measured(Protocol):
    """One graph as it was predicted, and as it ran on this machine."""

    @property
    def predicted_ms(self) -> float: ...
    @property
    def measured_ms(self) -> float: ...
    @property
    def error(self) -> float:
        """Relative error of the total: 0.05 is 5 % too slow."""
        ...

    @property
    def runs(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def other_cores(self) -> float:
        """Cores that other programs used meanwhile."""
        ...

    @property
    def drift(self) -> tuple[tuple[str, float], ...]:
        """(kernel, how many times its calibrated time it takes now)."""
        ...

    @property
    def profiler_us(self) -> float:
        """What profiling adds to a kernel, taken off already."""
        ...

    @property
    def kernels_ms(self) -> float:
        """Sum of the best times of all kernels; 0 when they were not timed."""
        ...

    def by_op(self) -> tuple[tuple[str, int, float, float], ...]:
        """(op, nodes, predicted, measured) in microseconds."""
        ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """What to calibrate from: this machine, or `tables` of measured kernels; `out` is a folder for the files
    of a fit, `budget` its evaluations per table (None: as many as are usual), `jobs` its processes."""

    tables: Path | None = None
    out: Path | None = None
    budget: int | None = None
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was measured or fitted, and where it is now: as text for a person, as values for a program."""

    text: str
    values: Mapping[str, object]
