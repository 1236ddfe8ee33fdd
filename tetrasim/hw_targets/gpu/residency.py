"""What a kernel reads from DRAM and what it still finds in L2: reuse distance against L2 size.

A tensor is found in L2 when the bytes touched since its last use (its reuse distance) fit there. L2 is
hashed and not exact LRU, so the hit fraction falls linearly until a distance of `share` x L2 (fitted).
Two settings: inside a model, weights and state come round once per run, so their distance is all of them;
a single op (`tetrasim op`) follows the protocol of the measurements it is compared with: replayed back to
back, its weights rotating over five copies, its activations in place.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

COPIES = 5  # weight copies of the measurement protocol (aiconfigurator's collector)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one kernel: what its operands occupy, what comes from and goes to DRAM, and the share of its
    second operand (a weight) that misses L2."""

    total_bytes: int
    dram_read_bytes: float
    dram_write_bytes: float
    second_miss: float


def miss_fraction(distance_bytes: float, l2_bytes: float, share: float) -> float:
    """Part of a tensor that L2 no longer holds after `distance_bytes` of traffic."""
    return min(distance_bytes / (l2_bytes * share), 1.0)


def traffic_of(work: Work, l2_bytes: int, share: float, resident_bytes: int | None) -> Traffic:
    """DRAM traffic of `work`; `resident_bytes`: all weights and state of the model, None for a single op."""
    own = work.nbytes
    alone = resident_bytes is None
    weights = sum(o.nbytes for o in work.reads if _comes_round(work, o, alone))
    far = own + (COPIES - 1) * weights if resident_bytes is None else max(own, resident_bytes)
    near_miss, far_miss = (miss_fraction(d, l2_bytes, share) for d in (own, far))
    read, second = 0.0, 0.0
    for position, operand in enumerate(work.reads):
        miss = far_miss if _comes_round(work, operand, alone) else near_miss
        read += operand.nbytes * miss
        if position == 1:
            second = miss
    return Traffic(own, read, work.write_bytes * near_miss, second)


def _comes_round(work: Work, operand: Operand, alone: bool) -> bool:
    """Used once per run: weights, and state except in attention timed alone, which re-reads one cache."""
    if operand.role is Role.STATE:
        return not (alone and work.kind is WorkKind.ATTENTION)
    return operand.role in (Role.WEIGHT, Role.CONSTANT)
