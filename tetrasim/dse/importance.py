"""How much of a metric's variance one parameter explains alone: the correlation ratio (eta squared).

Between-group variance over total variance, groups being the parameter's values (numbers in at most eight
quantile bins): the first-order part of a variance decomposition, without interactions, so the shares of all
parameters need not sum to one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tetrasim.dse.space import Scalar
from tetrasim.dse.study import State

BINS = 8


def importance(state: State, metric: str) -> list[tuple[str, float]]:
    """(parameter, share of the variance of `metric`), largest first, over trials that have the metric."""
    out = []
    for parameter in state.spec.parameters:
        pairs = [
            (t.point[parameter.name], t.metrics[metric])
            for t in state.trials
            if metric in t.metrics and parameter.name in t.point
        ]
        if len(pairs) >= 4:
            values, amounts = [v for v, _ in pairs], np.array([m for _, m in pairs])
            out.append((parameter.name, correlation_ratio(values, amounts)))
    return sorted(out, key=lambda item: (-item[1], item[0]))


def correlation_ratio(values: Sequence[Scalar], amounts: NDArray[np.float64]) -> float:
    """Between-group over total variance; 0 where nothing varies."""
    total = float(((amounts - amounts.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    groups = _groups(values)
    between = 0.0
    for group in set(groups):
        mine = amounts[[g == group for g in groups]]
        between += len(mine) * float((mine.mean() - amounts.mean()) ** 2)
    return min(between / total, 1.0)


def _groups(values: Sequence[Scalar]) -> list[Scalar]:
    """The values themselves, or the quantile bins of many numbers."""
    distinct = set(values)
    if len(distinct) <= BINS or any(isinstance(v, (str, bool)) for v in distinct):
        return list(values)
    numbers = np.array([float(v) for v in values])
    edges = np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])
    return [int(b) for b in np.searchsorted(edges, numbers, side="right")]
