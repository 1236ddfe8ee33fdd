"""What a kernel reads from DRAM and what it still finds in L2: reuse distance against L2 size.

A tensor is found in L2 when the bytes touched since its last use (its reuse distance) fit there. L2 is
hashed and not exact LRU, so the hit fraction falls linearly between two distances (fitted).
Two settings: inside a model, weights and state come round once per run, so their distance is all of them;
a single op (`tetrasim op`) follows the protocol of the measurements it is compared with: replayed back to
back, its weights rotating over five copies, its activations in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.ir.graph import Role
from tetrasim.sim.ops.work import Operand, Work, WorkKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COPIES = 5  # weight copies of the measurement protocol (aiconfigurator's collector)


@dataclass(frozen=True, eq=False)
class Operands:
    """Bytes of each kernel: read and used again soon (`near`), read once per run (`far`), written."""

    near: NDArray[np.float64]  # [R]
    far: NDArray[np.float64]  # [R]
    written: NDArray[np.float64]  # [R]

    @cached_property
    def total(self) -> NDArray[np.float64]:
        return self.near + self.far + self.written

    def at(self, rows: NDArray[np.int64]) -> Operands:
        """Those of some kernels."""
        return Operands(self.near[rows], self.far[rows], self.written[rows])


@dataclass(frozen=True, eq=False)
class Traffic:
    """Bytes between L2 and DRAM, and the shares of near and far tensors that miss."""

    read: NDArray[np.float64]
    written: NDArray[np.float64]
    near_miss: NDArray[np.float64]
    far_miss: NDArray[np.float64]

    def row(self, i: int) -> Traffic:
        """One kernel's."""
        one = slice(i, i + 1)
        return Traffic(self.read[one], self.written[one], self.near_miss[one], self.far_miss[one])


def operands_of(works: Sequence[Work], alone: bool) -> Operands:
    """Bytes by reuse; `alone`: each op is timed by itself, not inside a model."""
    table = np.zeros((len(works), 3))
    for i, work in enumerate(works):
        far = sum(o.nbytes for o in work.reads if _comes_round(work, o, alone))
        table[i] = work.read_bytes - far, far, work.write_bytes
    return Operands(table[:, 0], table[:, 1], table[:, 2])


def dram_traffic(
    operands: Operands,
    l2_bytes: float,
    share: NDArray[np.float64] | float,
    onset: NDArray[np.float64] | float,
    resident_bytes: int | None,
) -> Traffic:
    """Traffic of each kernel.

    Args:
        operands: bytes by reuse.
        l2_bytes: size of L2.
        share: reuse distance, in units of L2, beyond which everything misses.
        onset: fraction of that distance at which misses begin.
        resident_bytes: all weights and state of the model, None for ops timed alone.
    """
    own = operands.total
    far = own + (COPIES - 1) * operands.far if resident_bytes is None else np.maximum(own, resident_bytes)
    near_miss, far_miss = (np.clip((d / (l2_bytes * share) - onset) / (1 - onset), 0, 1) for d in (own, far))
    read = operands.near * near_miss + operands.far * far_miss
    return Traffic(read, operands.written * near_miss, near_miss, far_miss)


def _comes_round(work: Work, operand: Operand, alone: bool) -> bool:
    """Used once per run: weights, and state except in attention timed alone, which re-reads one cache."""
    if operand.role is Role.STATE:
        return not (alone and work.kind is WorkKind.ATTENTION)
    return operand.role in (Role.WEIGHT, Role.CONSTANT)
