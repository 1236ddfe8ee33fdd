"""How many of a model's stored weights are zeros: no target here skips them, and a reader must know that."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tetrasim.sim.ir.graph import Graph

MOST_ELEMENTS = 100_000_000  # beyond it reading the weights would take longer than the simulation
LEAST_SHARE = 0.3  # a third of zeros is no accident of rounding


@lru_cache(maxsize=8)
def share_of_zeros(graph: Graph) -> float | None:
    """Zeros over elements of the matrices among the weights; None where they are absent, few or too many."""
    matrices = [value for value in graph.weights if len(value.type.shape) > 1]
    elements = sum(value.type.elements for value in matrices)
    if not elements or elements > MOST_ELEMENTS or any(value.data is None for value in matrices):
        return None
    found = sum(int(np.count_nonzero(value.data.load())) for value in matrices if value.data is not None)
    return 1 - found / elements


def zeros_text(graph: Graph) -> str:
    """What the headline says of many zeros; empty where there are few."""
    share = share_of_zeros(graph)
    if share is None or share < LEAST_SHARE:
        return ""
    return f"{100 * share:.0f} % of the weights are zeros: they are priced as dense, none is skipped"
