"""Gradient-boosted regression trees (Friedman, Annals of Statistics 2001), small enough to read.

Squared loss, exact greedy splits over presorted features, fixed depth, a learning rate; no randomness, so
that a fit
from committed rows is reproducible bit for bit and needs no stored model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.engine.jit import jit

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Boosted:
    """Heap-ordered trees: node i has children 2i + 1 and 2i + 2; feature -1 is a leaf."""

    base: float
    feature: NDArray[np.int64]  # [trees, nodes]
    threshold: Floats  # [trees, nodes]
    value: Floats  # [trees, nodes], learning rate included

    def predict(self, x: Floats) -> Floats:
        """One value per row of `x` [rows, features]."""
        return _predict(
            np.ascontiguousarray(x, np.float64), self.base, self.feature, self.threshold, self.value
        )


def fit(
    x: Floats, y: Floats, *, trees: int = 500, depth: int = 4, rate: float = 0.06, leaf: int = 2
) -> Boosted:
    """Trees for `y` [rows] on `x` [rows, features]; every leaf holds at least `leaf` rows."""
    nodes = 2 ** (depth + 1) - 1
    feature = np.full((trees, nodes), -1, np.int64)
    threshold, value = np.zeros((trees, nodes)), np.zeros((trees, nodes))
    x = np.ascontiguousarray(x, np.float64)
    order = np.ascontiguousarray(np.argsort(x, axis=0, kind="stable").T)
    _fit(x, np.asarray(y, np.float64) - y.mean(), order, rate, leaf, feature, threshold, value)
    return Boosted(float(y.mean()), feature, threshold, value)


@jit
def _fit(  # noqa: C901 - one loop nest: numba inlines no array views
    x: Floats,
    residual: Floats,
    order: NDArray[np.int64],
    rate: float,
    leaf: int,
    feature: NDArray[np.int64],
    threshold: Floats,
    value: Floats,
) -> None:
    rows, features = x.shape
    trees, nodes = feature.shape
    inner = nodes // 2
    for t in range(trees):
        at = np.zeros(rows, np.int64)
        for node in range(nodes):
            count, total = 0, 0.0
            for r in range(rows):
                if at[r] == node:
                    count += 1
                    total += residual[r]
            if count == 0:
                continue
            value[t, node] = rate * total / count
            if node >= inner or count < 2 * leaf:
                continue
            best, best_f, best_cut = 1e-12, -1, 0.0
            for f in range(features):
                left, below = 0, 0.0
                last = -1
                for i in range(rows):
                    r = order[f, i]
                    if at[r] != node:
                        continue
                    if last >= 0 and x[r, f] > x[last, f] and left >= leaf and count - left >= leaf:
                        above = total - below
                        gain = below * below / left + above * above / (count - left) - total * total / count
                        if gain > best:
                            best, best_f, best_cut = gain, f, 0.5 * (x[r, f] + x[last, f])
                    left += 1
                    below += residual[r]
                    last = r
            if best_f >= 0:
                feature[t, node], threshold[t, node] = best_f, best_cut
                for r in range(rows):
                    if at[r] == node:
                        at[r] = 2 * node + 1 if x[r, best_f] <= best_cut else 2 * node + 2
        for r in range(rows):
            residual[r] -= value[t, at[r]]


@jit
def _predict(x: Floats, base: float, feature: NDArray[np.int64], threshold: Floats, value: Floats) -> Floats:
    out = np.full(len(x), base)
    for r in range(len(x)):
        for t in range(len(feature)):
            node = 0
            while feature[t, node] >= 0:
                node = 2 * node + 1 if x[r, feature[t, node]] <= threshold[t, node] else 2 * node + 2
            out[r] += value[t, node]
    return out
