"""Time of loops over elements: element-wise chains, reductions, copies, gathers.

A loop costs its element operations by kind plus its loads and stores. Reductions are priced apart: a sum
along a row is a chain of additions, and the passes of a softmax share their loads; both pay for starting
every row. Rates are cycles per element on one core with the data at hand; memory is `cost.py`'s.
"""

from __future__ import annotations

from tetrasim.hw_targets.cpu.config import VectorConfig
from tetrasim.sim.ops.work import Vector


def vector_cycles(vector: Vector, accesses: int, full_reads: int, config: VectorConfig) -> float:
    """Cycles on one core; `accesses` counts the elements read and written, `full_reads` the operands as
    large as the result: a norm of two of them is the fused residual norm, a kernel of its own."""
    if vector.kept:
        compares = sum(count for _, count in vector.ops)
        return accesses * config.access_cycles + compares * config.sort_compare
    norm = vector.reduces and any(kind == "sqrt" for kind, _ in vector.ops)
    if norm and full_reads > 1:
        return vector.rows * (vector.cols * config.residual_norm + config.row_overhead_cycles)
    if vector.reduces and any(kind == "exp" for kind, _ in vector.ops):
        return vector.rows * (vector.cols * config.softmax + config.row_overhead_cycles)
    cycles = accesses * config.access_cycles
    for kind, count in vector.ops:
        rate: float = getattr(config, "reduce_add" if vector.reduces and kind == "add" else kind)
        cycles += count * rate
    if vector.reduces:
        cycles += vector.rows * config.row_overhead_cycles
    return cycles


def move_cycles(elements: int, run: int, config: VectorConfig) -> float:
    """Cycles to copy `elements` in contiguous runs of `run` elements (0: long runs)."""
    starts = elements / run if run else 0.0
    return elements * config.move_cycles + starts * max(config.strided_move_cycles - config.move_cycles, 0.0)


def gather_cycles(elements: int, run: int, config: VectorConfig) -> float:
    """Cycles to pick rows of `run` elements, each with an address to compute. Short rows are picked element
    by element, as strided copies are, which costs less than a call per row."""
    row = min(config.gather_row_cycles, run * config.strided_move_cycles)
    return elements * config.access_cycles * 2 + -(-elements // run) * row
