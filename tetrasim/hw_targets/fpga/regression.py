"""Weighted ridge regression with group effects: how fabric laws get their coefficients from synthesised rows.

A law is a weighted sum of quantities that the hardware really has (multipliers, multiplexer inputs,
registers). Rows that share one draw of random weights also share a deviation from it, a random effect
(Henderson's mixed model equations: a ridge on one column per group). It is added back only for a group that
was fitted. Nothing is stored: a fit from committed rows takes milliseconds and gives the same bits every
time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RIDGE = 1e-6  # of the sum of squares of a column: only keeps undetermined columns at zero


@dataclass(frozen=True, eq=False)
class Linear:
    """`features @ coefficients`, plus the deviation of a known group."""

    coefficients: Floats
    groups: dict[Hashable, float]

    def predict(self, features: Sequence[float], group: Hashable = None) -> float:
        """One value."""
        return float(np.dot(features, self.coefficients)) + self.groups.get(group, 0.0)


def fit_relative(x: Sequence[Sequence[float]], y: Sequence[float]) -> Linear:
    """Least squares of the relative error: `x` [rows, features], `y` [rows] positive."""
    design, wanted = np.array(x, np.float64), np.array(y, np.float64)
    return Linear(_solve(design / wanted[:, None], np.ones(len(wanted)), 0), {})


def fit_grouped(
    x: Sequence[Sequence[float]], y: Sequence[float], groups: Sequence[Hashable], *, spread: float
) -> Linear:
    """Least squares with an effect per group; `spread` is the ratio of the noise's variance to the
    effects'."""
    names = sorted(set(groups), key=repr)
    member = np.array([[float(g == n) for n in names] for g in groups])
    fixed = np.array(x, np.float64)
    found = _solve(np.hstack([fixed, member]), np.array(y, np.float64), len(names), spread)
    split = fixed.shape[1]
    return Linear(found[:split], dict(zip(names, map(float, found[split:]), strict=True)))


def _solve(design: Floats, y: Floats, grouped: int, spread: float = 0.0) -> Floats:
    squares = design.T @ design
    penalty = RIDGE * np.maximum(np.diag(squares), 1e-12)
    if grouped:
        penalty[-grouped:] = spread
    return np.asarray(np.linalg.solve(squares + np.diag(penalty), design.T @ y))


def hats(value: float, knots: Sequence[float]) -> list[float]:
    """Weights of a piecewise linear function through `knots` (ascending), constant beyond its ends."""
    inside = min(max(value, knots[0]), knots[-1])
    return [float(np.interp(inside, knots, np.eye(len(knots))[i])) for i in range(len(knots))]
