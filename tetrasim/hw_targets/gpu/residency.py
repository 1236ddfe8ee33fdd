"""What a kernel reads from DRAM and what it still finds in L2: reuse distance against L2 size.

A tensor is found in L2 when the bytes touched since its last use (its reuse distance) fit there. L2
replacement is not exact LRU, so the hit fraction falls over a range of distances instead of at one point.
Two settings: inside a model, weights and state come round once per run, so their distance is all of them;
a single op (`tetrasim op`) follows the protocol of the measurements it is compared with: replayed back to
back, its weights rotating over five copies, its activations in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

COPIES = 5  # weight copies of the measurement protocol (aiconfigurator's collector)
WARM, COLD = 0.5, 1.0  # distances, in units of L2, where misses begin and where everything misses


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one kernel: what its operands occupy, and the part that has to come from or go to DRAM."""

    total_bytes: int
    dram_bytes: float


def miss_fraction(distance_bytes: float, l2_bytes: int) -> float:
    """Share of a tensor that L2 no longer holds after `distance_bytes` of other traffic."""
    return min(max((distance_bytes / l2_bytes - WARM) / (COLD - WARM), 0.0), 1.0)


def traffic_of(work: Work, l2_bytes: int, resident_bytes: int | None) -> Traffic:
    """DRAM traffic of `work`; `resident_bytes`: all weights and state of the model, None for a single op."""
    own = work.nbytes
    weight_like = sum(o.nbytes for o in work.reads if _rotates(work, o))
    rotating = own + (COPIES - 1) * weight_like if resident_bytes is None else max(own, resident_bytes)
    dram = 0.0
    for operand in work.reads:
        distance = rotating if _rotates(work, operand) else own
        dram += operand.nbytes * miss_fraction(distance, l2_bytes)
    for operand in work.writes:
        dram += operand.nbytes * miss_fraction(own, l2_bytes)
    return Traffic(own, dram)


def _rotates(work: Work, operand: Operand) -> bool:
    """Comes round once per run: weights always, state inside a model."""
    if operand.role is Role.STATE:
        return work.kind is not WorkKind.ATTENTION
    return operand.role in (Role.WEIGHT, Role.CONSTANT)


def sum_bytes(operands: Sequence[Operand]) -> int:
    return sum(o.nbytes for o in operands)
