"""Time of loops over elements: element-wise chains, reductions, copies, gathers.

A loop costs its element operations by kind plus its loads and stores; a reducing op (softmax, norms) pays
for starting every row. Rates are cycles per element on one core with the data at hand; memory is `cost.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from tetrasim.hw_targets.cpu.config import VectorConfig
from tetrasim.sim.ops.work import Operand, Vector


def vector_cycles(vector: Vector, accesses: int, config: VectorConfig) -> float:
    """Cycles on one core; `accesses` counts the elements read and written."""
    cycles = accesses * config.access_cycles
    for kind, count in vector.ops:
        rate: float = getattr(config, kind)
        cycles += count * rate
    if vector.reduces:
        cycles += vector.rows * config.row_overhead_cycles
    return cycles


def move_cycles(elements: int, config: VectorConfig) -> float:
    """Cycles to copy `elements` with strides."""
    return elements * config.move_cycles


def gather_cycles(elements: int, writes: Sequence[Operand], config: VectorConfig) -> float:
    """Cycles to pick rows: contiguous copies of at most 1024 elements, each with an address to compute."""
    rows = max(elements // 1024, 1) if writes else 0
    return elements * config.access_cycles * 2 + rows * config.gather_row_cycles
