"""HBM-PIM GEMV on one pseudo channel, command by command, as Samsung's simulator schedules it.

Behaviour worked out from measured command logs (the S cases), not from code. The kernel: park all banks,
switch from single-bank (SB) to all-bank (HAB) mode by writes to reserved rows, program the CRF, enter PIM
mode; per output tile of 64 and input tile of 128, write 8 bursts to GRF_A and read 64 bursts as MACs, from
even banks (first half of the input tiles) or odd banks; write 8 accumulators to the bank; leave PIM mode;
back to SB; park. In all-bank modes bank 0 stands for all even banks and bank 1 for all odd ones.

The controller issues one command per cycle. A transaction marked BAR goes only at the head of the queue, and
no column command passes it; rows of the transactions behind it, up to the next BAR, may be opened meanwhile.
A bank whose open row no visible transaction wants is closed as soon as legal. A mode switch is complete when
all banks are closed. While a refresh is due no row is opened; REF goes once all banks are closed (without
waiting tRP, as measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tetrasim.errors import UserError, nearest

OUTPUT_TILE, INPUT_TILE = 64, 128
_RESERVED, _PARK_ROW, _TO_HAB, _TO_SB = 0x3FFF, 0x1000, 0x17FF, 0x1FFF
_PARK = tuple(group * 4 + bank for bank in range(4) for group in range(4))
_END_CYCLES = 5  # from the last precharge to the end of the run, measured
_FAR = 1 << 60
_NEEDED = (
    "BL", "RL", "WL", "tCCDS", "tCCDL", "tRCDRD", "tRCDWR", "tRAS", "tRRDS", "tRRDL", "tRC", "tRP", "tRTPL",
    "tWR", "tWTRL", "tREFI", "tRFC", "tRTRS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Transaction:
    """One burst. `settle`: what follows waits until all banks are closed (mode switches)."""

    write: bool
    bank: int
    row: int
    tag: str
    bar: bool = False
    settle: bool = False


@dataclass(frozen=True, slots=True)
class Issued:
    """One command of the log; REF has bank 0 and row 0."""

    clock: int
    command: str
    bank: int
    row: int


def gemv_transactions(outputs: int, inputs: int) -> Iterator[Transaction]:
    """The transactions of y = W x on one pseudo channel."""
    tiles, parts = -(-outputs // OUTPUT_TILE), -(-inputs // INPUT_TILE)
    yield from _park("PARK_IN")
    for bank in (0, 8, 1):
        yield Transaction(True, bank, _TO_HAB, "START_SB_TO_HAB")
    yield Transaction(True, 9, _TO_HAB, "END_SB_TO_HAB", bar=True, settle=True)
    yield Transaction(True, 1, _RESERVED, "PROGRAM_CRF", bar=True)
    even = -(-parts // 2)
    for _ in range(tiles):
        yield Transaction(True, 0, _RESERVED, "PIM", bar=True)
        for part in range(parts):
            for i in range(8):
                yield Transaction(True, 1, _RESERVED, "WRIO_TO_GRF", bar=i == 7)
            bank, first = (0, part) if part < even else (1, part - even)
            for i in range(64):
                yield Transaction(False, bank, 2 * first + i // 32, "MAC", bar=i % 8 == 7)
        for i in range(8):
            yield Transaction(True, 1, 2 * even, "GRFB_TO_BANK", bar=i == 7)
        yield Transaction(True, 0, _RESERVED, "PIM", bar=True)
    yield Transaction(True, 0, _TO_SB, "START_HAB_TO_SB")
    yield Transaction(True, 1, _TO_SB, "END_HAB_TO_SB", bar=True, settle=True)
    yield from _park("PARK_OUT")


def _park(tag: str) -> Iterator[Transaction]:
    for bank in _PARK:
        yield Transaction(False, bank, _PARK_ROW, tag, bar=bank == 15)


class _Banks:
    """Readiness of the 16 banks under the DRAM's gaps."""

    def __init__(self, t: Mapping[str, int]) -> None:
        self.t = t
        self.row = [-1] * 16
        self.activate = [0] * 16
        self.column = [[0, 0] for _ in range(16)]  # read, write
        self.precharge = [0] * 16
        half = t["BL"] // 2
        self.read_to_write = t["RL"] + half + t["tRTRS"] - t["WL"]
        self.write_to_read = t["WL"] + half + t["tWTRL"]
        self.read_to_precharge = half + max(t["tRTPL"], t["tCCDL"]) - t["tCCDL"]
        self.write_to_precharge = t["WL"] + half + t["tWR"]

    def issue_activate(self, bank: int, row: int, clock: int) -> None:
        t = self.t
        self.row[bank] = row
        for other in range(16):
            gap = t["tRRDL"] if other // 4 == bank // 4 else t["tRRDS"]
            self.activate[other] = max(self.activate[other], clock + gap)
        self.activate[bank] = max(self.activate[bank], clock + t["tRC"])
        self.column[bank] = [
            max(self.column[bank][0], clock + t["tRCDRD"]),
            max(self.column[bank][1], clock + t["tRCDWR"]),
        ]
        self.precharge[bank] = max(self.precharge[bank], clock + t["tRAS"])

    def issue_column(self, bank: int, write: bool, clock: int) -> None:
        t = self.t
        turn = self.write_to_read if write else self.read_to_write
        for other in range(16):
            gap = t["tCCDL"] if other // 4 == bank // 4 else t["tCCDS"]
            same, opposite = int(write), int(not write)
            ready = self.column[other]
            ready[same] = max(ready[same], clock + gap)
            ready[opposite] = max(ready[opposite], clock + turn)
        close = self.write_to_precharge if write else self.read_to_precharge
        self.precharge[bank] = max(self.precharge[bank], clock + close)

    def issue_precharge(self, bank: int, clock: int) -> None:
        self.row[bank] = -1
        self.activate[bank] = max(self.activate[bank], clock + self.t["tRP"])

    def issue_refresh(self, clock: int) -> None:
        self.activate = [max(a, clock + self.t["tRFC"]) for a in self.activate]


def gemv_log(
    outputs: int, inputs: int, timing: Mapping[str, int], ranks: int = 2, refresh: bool = True
) -> list[Issued]:
    """Every command of a GEMV. Refresh of rank 0 falls due every tREFI, first after tREFI / `ranks`.

    Raises:
        UserError: a missing timing value, or a size below 1.
    """
    for name in _NEEDED:
        if name not in timing:
            raise UserError(f"timing value '{name}' is missing", hint=nearest(name, timing))
    if outputs < 1 or inputs < 1:
        raise UserError(f"a GEMV of {outputs} x {inputs}", hint="both sizes are 1 or more")
    return _Controller(list(gemv_transactions(outputs, inputs)), timing, ranks, refresh).run()


def total_cycles(log: list[Issued]) -> int:
    """Clock at which the run counts as finished."""
    return log[-1].clock + _END_CYCLES


class _Controller:
    """The loop over issued commands; the clock jumps from one to the next."""

    def __init__(
        self, queue: list[Transaction], timing: Mapping[str, int], ranks: int, refresh: bool
    ) -> None:
        self.queue = queue
        self.head = 0
        self.done = [False] * len(queue)
        self.banks = _Banks(timing)
        self.interval = timing["tREFI"]
        self.due = timing["tREFI"] // ranks if refresh else _FAR
        self.settling = False

    def run(self) -> list[Issued]:
        """Serve all transactions, then close what is open."""
        log: list[Issued] = []
        clock = 0
        while True:
            pending = clock + 1 >= self.due
            best = self._choose(clock + 1, pending)
            if not pending and best[0] >= self.due:
                clock = max(clock, self.due - 1)
                if self.head < len(self.queue) or best[0] < _FAR:
                    continue
            if best[0] >= _FAR:
                return log
            clock, _, kind, index = best
            log.append(self._issue(clock, kind, index))

    def _visible(self) -> list[int]:
        """Transactions that rows may be opened for: up to the next BAR that is not at the head."""
        if self.settling and any(r >= 0 for r in self.banks.row):
            return []
        self.settling = False
        out: list[int] = []
        for i in range(self.head, min(self.head + 64, len(self.queue))):
            if self.done[i]:
                continue
            if self.queue[i].bar and i != self.head:
                break
            out.append(i)
            if self.queue[i].settle:
                break
        return out

    def _choose(self, earliest: int, refresh: bool) -> tuple[int, int, str, int]:
        """(clock, priority, kind, index) of the next command: the earliest, columns before rows."""
        banks = self.banks
        best = (_FAR, 9, "", -1)
        wanted: set[tuple[int, int]] = set()
        claimed: set[int] = set()
        blocked = False
        visible = self._visible()
        for i in visible:
            want = self.queue[i]
            if want.bank in claimed and (want.bank, want.row) not in wanted:
                continue
            claimed.add(want.bank)
            wanted.add((want.bank, want.row))
            if banks.row[want.bank] == want.row:
                if not blocked:
                    at = max(earliest, banks.column[want.bank][int(want.write)])
                    best = min(best, (at, 0, "column", i))
            elif banks.row[want.bank] < 0 and not refresh:
                at = max(earliest, banks.activate[want.bank])
                best = min(best, (at, 1, "activate", i))
            blocked = blocked or want.bar
        for bank, row in enumerate(banks.row):
            if row >= 0 and (bank, row) not in wanted:
                best = min(best, (max(earliest, banks.precharge[bank]), 2, "precharge", bank))
        if refresh and all(r < 0 for r in banks.row):
            best = min(best, (earliest, 3, "refresh", 0))
        return best

    def _issue(self, clock: int, kind: str, index: int) -> Issued:
        banks = self.banks
        if kind == "precharge":
            row = banks.row[index]
            banks.issue_precharge(index, clock)
            return Issued(clock, "PRE", index, row)
        if kind == "refresh":
            banks.issue_refresh(clock)
            self.due += self.interval
            return Issued(clock, "REF", 0, 0)
        want = self.queue[index]
        if kind == "activate":
            banks.issue_activate(want.bank, want.row, clock)
            return Issued(clock, "ACT", want.bank, want.row)
        banks.issue_column(want.bank, want.write, clock)
        self.done[index] = True
        while self.head < len(self.queue) and self.done[self.head]:
            self.head += 1
        self.settling = self.settling or want.settle
        return Issued(clock, "WR" if want.write else "RD", want.bank, want.row)
