"""Pipeline depths before synthesis.

`dense_stages` chains a multiplier and an adder tree through the clock period as a high-level synthesis
scheduler does: with 2.5 ns for a product (0.5 ns up to 2 bits), 0.6 ns per adder level and 27 % clock
uncertainty (Vivado HLS' 12.5 % plus routing margin) it gives the states of all 36 reuse-1 csynth rows but one
(tests/validation). Look-up and reciprocal stages follow hls4ml's own csynth baselines (sigmoid 3, softmax 5).
"""

from __future__ import annotations

from math import ceil, log2

MULTIPLY_NS, NARROW_MULTIPLY_NS, ADD_LEVEL_NS = 2.5, 0.5, 0.6
USABLE_PERIOD = 0.73
TABLE_STAGES = 3
SOFTMAX_STAGES = 5


def levels(n: int) -> int:
    """Levels of a balanced binary adder tree."""
    return ceil(log2(n)) if n > 1 else 0


def dense_stages(n_in: int, bits: int, clock_ns: float, reuse: int = 1) -> int:
    """Cycles from input to output of a dot product of length `n_in`: pipeline states plus the reuse loop."""
    multiply = NARROW_MULTIPLY_NS if bits <= 2 else MULTIPLY_NS
    states = ceil((multiply + ADD_LEVEL_NS * levels(n_in)) / (USABLE_PERIOD * clock_ns))
    return max(states, 1) + reuse - 1


def tree_stages(n: int, clock_ns: float) -> int:
    """Cycles of an adder (or maximum) tree alone."""
    return max(ceil(ADD_LEVEL_NS * levels(n) / (USABLE_PERIOD * clock_ns)), 1)
