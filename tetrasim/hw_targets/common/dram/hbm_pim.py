"""HBM-PIM GEMV on one pseudo channel, command by command, as Samsung's simulator schedules it.

Behaviour worked out from measured command logs (the S cases) and, where two logs leave it open (which rows
later output tiles read and write, what a due refresh closes, refreshes of the idle second rank), checked
against what PIMSimulator (commit b464dde) does; no code of it is used.

The kernel: park all banks, switch from single-bank (SB) to all-bank (HAB) mode by writes to reserved rows,
program the CRF, enter PIM mode; per output tile of 64 and input tile of 128, write 8 bursts to GRF_A and
read 64 bursts as MACs, from even banks (even input tiles, first) or odd banks; write 8 accumulators to a
bank; leave PIM mode; back to SB; park. In all-bank modes bank 0 stands for all even banks, 1 for the odd.

The controller accepts one transaction and issues one command per cycle:

1. while a refresh is due: PRE of the first open bank that may close, whoever wants its row; with none open
   REF, without waiting tRP (as measured);
2. the first transaction whose row is open and ready. Nothing passes a transaction marked BAR, and that one
   goes only at the head of the queue;
3. ACT for the first transaction with an idle bank that may open, up to the next BAR behind the head;
   in all-bank modes banks 0 and 1 only;
4. PRE of a bank whose row no transaction up to the first BAR wants, going round from the last one closed.

Rank 1 is idle, but its refreshes take the command bus for a cycle. The kernel is `hbm_pim_kernel.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram import hbm_pim_kernel as kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUT_TILE, INPUT_TILE = 64, 128  # 8 outputs of each of the 8 PIM blocks of a pseudo channel; inputs
ROW_BURSTS, TILE_BURSTS = 32, 64
COMMANDS = ("RD", "WR", "ACT", "PRE", "REF")
_CONFIG, _PARK_ROW, _TO_HAB, _TO_SB = kernel.CONFIG_ROW, 0x1000, kernel.TO_HAB_ROW, kernel.TO_SB_ROW
_PARK = tuple(group * 4 + bank for bank in range(4) for group in range(4))
MAX_TRANSACTIONS = 20_000_000
_NEEDED = (
    "BL", "RL", "WL", "tCCDS", "tCCDL", "tRCDRD", "tRCDWR", "tRAS", "tRRDS", "tRRDL", "tRC", "tRP", "tRTPL",
    "tWR", "tWTRL", "tREFI", "tRFC", "tRTRS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issued:
    """One command of the log of rank 0; REF has bank 0 and row 0."""

    clock: int
    command: str
    bank: int
    row: int


@dataclass(frozen=True, eq=False)
class GemvRun:
    """What the controller issued: columns clock, command (index into COMMANDS), bank, row."""

    log: NDArray[np.int64]
    cycles: int

    def lines(self) -> list[Issued]:
        """The log for people."""
        return [Issued(int(t), COMMANDS[c], int(b), int(r)) for t, c, b, r in self.log]

    def counts(self) -> dict[str, int]:
        """Issues per command, those that occurred."""
        found = np.bincount(self.log[:, 1], minlength=len(COMMANDS))
        return {n: int(c) for n, c in zip(COMMANDS, found, strict=True) if c}


Burst = tuple[int, int, int, int]  # write, bank, row, BAR


def gemv_transactions(outputs: int, inputs: int, batch: int = 1, channels: int = 1) -> Iterator[Burst]:
    """The transactions of y = W x on one of `channels` pseudo channels that share the outputs."""
    tiles = -(-outputs // (OUTPUT_TILE * channels))
    parts = -(-inputs // INPUT_TILE)
    results = tiles * parts // 2 * TILE_BURSTS  # first burst behind the weights
    yield from _park()
    for bank in (0, 1, 8):
        yield 1, bank, _TO_HAB, 0
    yield 1, 9, _TO_HAB, 1
    yield 1, 1, _CONFIG, 1  # the CRF
    for tile in range(tiles):
        for vector in range(batch):
            yield 1, 0, _CONFIG, 1  # PIM mode
            for part in (*range(0, parts, 2), *range(1, parts, 2)):
                for i in range(8):  # GRF_A
                    yield 1, 1, _CONFIG, int(i == 7)
                first = TILE_BURSTS * (part // 2 + tile * parts // 2)
                for i in range(TILE_BURSTS):
                    yield 0, part % 2, (first + i) // ROW_BURSTS, int(i % 8 == 7)
            for i in range(8):  # GRF_B
                yield 1, 1, (results + 8 * (tile + vector) + i) // ROW_BURSTS, int(i == 7)
            yield 1, 0, _CONFIG, 1
    yield 1, 0, _TO_SB, 0
    yield 1, 1, _TO_SB, 1
    yield from _park()


def _park() -> Iterator[Burst]:
    for bank in _PARK:
        yield 0, bank, _PARK_ROW, int(bank == 15)


def run_gemv(
    outputs: int,
    inputs: int,
    timing: Mapping[str, int],
    *,
    batch: int = 1,
    channels: int = 1,
    ranks: int = 2,
    refresh: bool = True,
) -> GemvRun:
    """Every command of a GEMV. Ranks are refreshed in turn, every tREFI / `ranks`.

    Raises:
        UserError: a missing timing value, or a size out of range.
    """
    for name in _NEEDED:
        if name not in timing:
            raise UserError(f"timing value '{name}' is missing", hint=nearest(name, timing))
        if timing[name] < 0:
            raise UserError(f"timing value '{name}' is negative ({timing[name]})")
    if min(outputs, inputs, batch, channels) < 1:
        raise UserError(f"a GEMV of {outputs} x {inputs}", hint="all sizes are 1 or more")
    bursts = 72 * batch * (outputs // (OUTPUT_TILE * channels) + 1) * (inputs // INPUT_TILE + 1)
    if bursts > MAX_TRANSACTIONS:
        raise UserError(
            f"a GEMV of {outputs} x {inputs} takes {bursts} bursts", hint=f"at most {MAX_TRANSACTIONS}"
        )
    if refresh and timing["tREFI"] // ranks <= timing["tRFC"]:
        raise UserError("tRFC leaves no time between refreshes", hint="raise tREFI or lower tRFC")
    items = np.array(list(gemv_transactions(outputs, inputs, batch, channels)), dtype=np.int64)
    log, cycles = kernel.run(items, _gaps(timing), timing["tREFI"] if refresh else 0, ranks)
    return GemvRun(log, int(cycles))


def _gaps(t: Mapping[str, int]) -> NDArray[np.int64]:
    half = t["BL"] // 2
    gaps = np.zeros(kernel.GAPS, dtype=np.int64)
    gaps[kernel.SAME_GROUP] = max(t["tCCDL"], half)
    gaps[kernel.OTHER_GROUP] = max(t["tCCDS"], half)
    gaps[kernel.READ_TO_WRITE] = t["RL"] + half + t["tRTRS"] - t["WL"]
    gaps[kernel.WRITE_TO_READ] = t["WL"] + half + t["tWTRL"]
    gaps[kernel.READ_TO_PRECHARGE] = half + max(t["tRTPL"], t["tCCDL"]) - t["tCCDL"]
    gaps[kernel.WRITE_TO_PRECHARGE] = t["WL"] + half + t["tWR"]
    gaps[kernel.ACTIVATE_TO_READ] = t["tRCDRD"]
    gaps[kernel.ACTIVATE_TO_WRITE] = t["tRCDWR"]
    gaps[kernel.ACTIVATE_TO_PRECHARGE] = t["tRAS"]
    gaps[kernel.ACTIVATE_SAME_BANK] = t["tRC"]
    gaps[kernel.ACTIVATE_SAME_GROUP] = t["tRRDL"]
    gaps[kernel.ACTIVATE_OTHER_GROUP] = t["tRRDS"]
    gaps[kernel.PRECHARGE_TO_ACTIVATE] = t["tRP"]
    gaps[kernel.REFRESH_TO_ACTIVATE] = t["tRFC"]
    gaps[kernel.READ_LATENCY] = t["RL"] + half
    gaps[kernel.WRITE_LATENCY] = t["WL"] + half
    return gaps
