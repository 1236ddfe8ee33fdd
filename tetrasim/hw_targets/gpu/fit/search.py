"""The optimiser of the GPU fits: a (1+1) evolution strategy in log space with one step size per parameter.

The loss (mean absolute percentage error) has steps, because the best tile changes; no gradient helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

Bounds = dict[str, tuple[float, float]]  # of each parameter that is searched


def optimise(
    loss: Callable[[Mapping[str, float]], float],
    start: Mapping[str, float],
    bounds: Bounds,
    budget: int,
    seed: int,
) -> dict[str, float]:
    """The parameters in `bounds`, improved from `start`; the others stay where they start."""
    rng = np.random.default_rng(seed)
    names = [n for n in bounds if n in start]
    best = {**start, **{n: float(np.clip(start[n], *bounds[n])) for n in names}}
    best_loss = loss(best)
    step = dict.fromkeys(names, 0.15)
    for _ in range(budget):
        moved = list(rng.choice(names, size=min(len(names), int(rng.integers(1, 4))), replace=False))
        trial = dict(best)
        for n in moved:
            trial[n] = float(np.clip(best[n] * math.exp(step[n] * rng.standard_normal()), *bounds[n]))
        value = loss(trial)
        better = value < best_loss
        if better:
            best, best_loss = trial, value
        for n in moved:
            step[n] = min(max(step[n] * (1.3 if better else 0.96), 0.004), 0.4)
    return best
