"""What one node becomes: steps on the channels (instruction lists) and on the host unit.

Each channel step is the instruction list of the busiest channel; `busy`/`channels` say how many
channel-equivalents do it, so that energy and bytes count every channel once (channels with the same list run
in lockstep, and the others finish no later).
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.hw_targets.common.dram.program import Instruction


@dataclass(frozen=True, slots=True)
class Step:
    """`work_channels` / `max_channels`: work of all channels over work of the busiest one times channels.
    `host_cycles` is in host clocks. A step runs after the step before it; one that is `ahead` needs nothing
    (parameters), and the next step waits for it."""

    kind: str
    instructions: tuple[Instruction, ...] = ()
    work_channels: int = 1
    max_channels: int = 1
    host_cycles: int = 0
    sram_bytes: int = 0
    macs: int = 0
    ahead: bool = False

    @property
    def on_channel(self) -> bool:
        return bool(self.instructions)


@dataclass(frozen=True, slots=True)
class StateWrite:
    """New rows of the caches of `sequences`: `tokens` vectors of `width` elements in each. Column-major (V):
    each element goes to the row of its own output column; row-major (K): a vector fills rows of one bank."""

    tokens: int
    width: int
    column_major: bool
    element_bytes: int
    sequences: int = 1


def ceil_div(a: int, b: int) -> int:
    """Integer division, rounded up."""
    return -(-a // b)
