"""A number as it is reported: value, unit, range, basis and source. Nothing is reported as a bare float."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Basis(StrEnum):
    """What a number rests on, strongest first. Worst-of decides when numbers are combined."""

    SIMULATED = "simulated"  # cycle-exact against a reference or ground truth
    CALIBRATED = "calibrated"  # fitted to committed measurements; low/high is the error there
    VENDOR = "vendor"  # printed by the vendor's own tool
    DATASHEET = "datasheet"  # follows from published device numbers
    ANALYTIC = "analytic"  # a formula without device evidence


@dataclass(frozen=True, slots=True)
class Metric:
    """`low`/`high` bound the value by the error on the committed measurements of its class; both None:
    unvalidated."""

    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    basis: Basis = Basis.ANALYTIC
    source: str = ""

    @property
    def validated(self) -> bool:
        return self.low is not None and self.high is not None

    def scaled(self, factor: float, unit: str | None = None) -> Metric:
        """The same evidence for `factor` times the value (unit conversion, per-token from total)."""
        return replace(
            self,
            value=self.value * factor,
            unit=unit or self.unit,
            low=None if self.low is None else self.low * factor,
            high=None if self.high is None else self.high * factor,
        )


@dataclass(frozen=True, slots=True)
class ErrorRange:
    """Relative error of a class of predictions on measurements: the true value is expected between
    `value * low_factor` and `value * high_factor` (10th and 90th percentile of measured / predicted)."""

    low_factor: float
    high_factor: float
    basis: Basis
    source: str  # which measurements, how many rows

    def metric(self, value: float, unit: str) -> Metric:
        return Metric(value, unit, value * self.low_factor, value * self.high_factor, self.basis, self.source)
