"""The kernel of the HBM-PIM kernel's controller (see `hbm_pim.py`), event-skipping.

Between two cycles in which nothing is accepted, issued or due, a choice can only change when a bank's
readiness passes; so the clock jumps to the next such time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANKS, GROUP = 16, 4
QUEUE = 64
CONFIG_ROW, TO_HAB_ROW, TO_SB_ROW = 0x3FFF, 0x17FF, 0x1FFF
_RD, _WR, _ACT, _PRE, _REF = 0, 1, 2, 3, 4
_WRITE, _BANK, _ROW, _BAR = 0, 1, 2, 3  # columns of a transaction
_CLOSED, _CLOSING = -1, -2  # rows of a bank that is idle, and of one still precharging or refreshing
_FOUR_BANKS, _TWO_BANKS = 0b1100000011, 0b11  # whose reserved rows switch the mode: 0, 1, 8, 9; and 0, 1
_FAR = 1 << 60


class Gaps(NamedTuple):
    """Least cycles between commands, and from a column command to the end of its data."""

    same_group: int
    other_group: int
    read_to_write: int
    write_to_read: int
    read_to_precharge: int
    write_to_precharge: int
    activate_to_read: int
    activate_to_write: int
    activate_to_precharge: int
    activate_same_bank: int
    activate_same_group: int
    activate_other_group: int
    precharge_to_activate: int
    refresh_to_activate: int
    read_latency: int
    write_latency: int


class _Banks(NamedTuple):
    """Per bank: open row, first clocks of the four commands, and when it is idle again."""

    row: NDArray[np.int64]
    read: NDArray[np.int64]
    write: NDArray[np.int64]
    activate: NDArray[np.int64]
    precharge: NDArray[np.int64]
    idle: NDArray[np.int64]


class _Queue(NamedTuple):
    """The transactions; `at` [QUEUE] are those accepted and not yet served, in order, `n[0]` of them;
    `n[1]`: how many were accepted; `n[2]`: 1 in all-bank modes, `n[3]`: banks whose reserved rows were
    seen on the way."""

    items: NDArray[np.int64]
    at: NDArray[np.int64]
    n: NDArray[np.int64]


@jit
def _apply(c: int, bank: int, row: int, clock: int, s: _Banks, g: Gaps) -> None:
    """What a command to a bank holds back."""
    if c == _ACT:
        s.row[bank] = row
        s.precharge[bank] = max(s.precharge[bank], clock + g.activate_to_precharge)
        s.read[bank] = max(s.read[bank], clock + g.activate_to_read)
        s.write[bank] = max(s.write[bank], clock + g.activate_to_write)
        for b in range(BANKS):
            gap = g.activate_same_group if b // GROUP == bank // GROUP else g.activate_other_group
            s.activate[b] = max(s.activate[b], clock + (g.activate_same_bank if b == bank else gap))
    elif c == _PRE:
        s.row[bank] = _CLOSING
        s.idle[bank] = clock + g.precharge_to_activate
        s.activate[bank] = max(s.activate[bank], clock + g.precharge_to_activate)
    elif c == _REF:
        for b in range(BANKS):
            s.row[b] = _CLOSING
            s.idle[b] = s.activate[b] = clock + g.refresh_to_activate
    else:
        close = g.write_to_precharge if c == _WR else g.read_to_precharge
        s.precharge[bank] = max(s.precharge[bank], clock + close)
        for b in range(BANKS):
            gap = g.same_group if b // GROUP == bank // GROUP else g.other_group
            s.read[b] = max(s.read[b], clock + (gap if c == _RD else g.write_to_read))
            s.write[b] = max(s.write[b], clock + (gap if c == _WR else g.read_to_write))


@jit
def _column(clock: int, q: _Queue, s: _Banks) -> int:
    """Place in the queue of the column command that goes now, -1 for none."""
    for i in range(q.n[0]):
        item = q.items[q.at[i]]
        bank = item[_BANK]
        ready = s.write[bank] if item[_WRITE] == 1 else s.read[bank]
        if i > 0 and item[_BAR] == 1:
            return -1
        if s.row[bank] == item[_ROW] and clock >= ready:
            return i
        if item[_BAR] == 1:
            return -1
    return -1


@jit
def _activation(clock: int, q: _Queue, s: _Banks) -> int:
    """Place in the queue of the transaction whose row opens now, -1 for none."""
    for i in range(q.n[0]):
        item = q.items[q.at[i]]
        if i > 0 and item[_BAR] == 1:
            return -1
        bank = item[_BANK]
        if s.row[bank] == _CLOSED and clock >= s.activate[bank] and (q.n[2] == 0 or bank < 2):
            return i
    return -1


@jit
def _unwanted(clock: int, first: int, q: _Queue, s: _Banks) -> int:
    """The bank that closes now because no transaction up to the first BAR wants its row, -1 for none."""
    for k in range(BANKS):
        bank = (first + k) % BANKS
        if s.row[bank] < 0 or clock < s.precharge[bank]:
            continue
        wanted = False
        for i in range(q.n[0]):
            item = q.items[q.at[i]]
            wanted = wanted or (item[_BANK] == bank and item[_ROW] == s.row[bank])
            if item[_BAR] == 1:
                break
        if not wanted:
            return bank
    return -1


@jit
def _switch(c: int, bank: int, row: int, q: _Queue) -> None:
    """Modes follow the reserved rows: all-bank once four banks opened theirs, single-bank once two closed."""
    if (c == _ACT and row == TO_HAB_ROW and q.n[2] == 0) or (c == _PRE and row == TO_SB_ROW and q.n[2] == 1):
        q.n[3] |= 1 << bank
        if q.n[3] == (_FOUR_BANKS if q.n[2] == 0 else _TWO_BANKS):
            q.n[2], q.n[3] = 1 - q.n[2], 0


@jit
def _choose(clock: int, pending: int, first: int, q: _Queue, s: _Banks) -> tuple[int, int, int, int]:
    """(command, bank, row, place in the queue or -1) of what goes now, command -1 for none."""
    if pending == 1:
        anything = False
        for b in range(BANKS):
            if s.row[b] >= 0:
                anything = True
                if clock >= s.precharge[b]:
                    return _PRE, b, int(s.row[b]), -1
        if not anything:
            return _REF, 0, 0, -1
    i = _column(clock, q, s)
    if i >= 0:
        item = q.items[q.at[i]]
        return (_WR if item[_WRITE] == 1 else _RD), int(item[_BANK]), int(item[_ROW]), i
    i = _activation(clock, q, s)
    if i >= 0:
        item = q.items[q.at[i]]
        return _ACT, int(item[_BANK]), int(item[_ROW]), -1
    b = _unwanted(clock, first, q, s)
    if b >= 0:
        return _PRE, b, int(s.row[b]), -1
    return -1, -1, -1, -1


@jit
def _next(clock: int, s: _Banks) -> int:
    """The first clock after `clock` at which a bank becomes ready for something."""
    found = _FAR
    for b in range(BANKS):
        for at in (s.read[b], s.write[b], s.activate[b], s.precharge[b], s.idle[b]):
            if at > clock:
                found = min(found, at)
    return int(found)


@jit
def _serve(i: int, q: _Queue) -> None:
    """Take a transaction out of the queue."""
    for k in range(i, q.n[0] - 1):
        q.at[k] = q.at[k + 1]
    q.n[0] -= 1


@jit
def _longer(log: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same log with twice the room."""
    more = np.zeros((2 * len(log), log.shape[1]), np.int64)
    for i in range(len(log)):
        for k in range(log.shape[1]):
            more[i, k] = log[i, k]
    return more


@jit
def run(items: NDArray[np.int64], g: Gaps, interval: int, ranks: int) -> tuple[NDArray[np.int64], int]:
    """The log [commands, 4] (clock, command, bank, row) of rank 0, and the cycles until all data is there."""
    s = _Banks(
        np.full(BANKS, _CLOSED), np.zeros(BANKS, np.int64), np.zeros(BANKS, np.int64),
        np.zeros(BANKS, np.int64), np.zeros(BANKS, np.int64), np.zeros(BANKS, np.int64),
    )  # fmt: skip
    q = _Queue(items, np.zeros(QUEUE, np.int64), np.zeros(4, np.int64))
    log = np.zeros((4 * len(items) + 1024, 4), np.int64)
    used, end, clock, closed_last, pending, refreshes = 0, 1, 0, 0, 0, 0
    due = interval // ranks if interval > 0 else _FAR
    while clock < end or q.n[0] > 0 or q.n[1] < len(items):
        for b in range(BANKS):
            if s.row[b] == _CLOSING and clock >= s.idle[b]:
                s.row[b] = _CLOSED
        bus_taken = False
        if clock >= due:
            pending = 1 if refreshes % ranks == 0 else pending
            bus_taken = refreshes % ranks != 0  # the other ranks are idle and refresh at once
            refreshes += 1
            due = interval // ranks * (refreshes % ranks + 1) + refreshes // ranks * interval
        c, bank, row, i = (_REF, -1, 0, -1) if bus_taken else _choose(clock, pending, closed_last, q, s)
        if bank >= 0:
            _apply(c, bank, row, clock, s, g)
            _switch(c, bank, row, q)
            if used == len(log):
                log = _longer(log)
            log[used, 0], log[used, 1], log[used, 2], log[used, 3] = clock, c, bank, row
            used += 1
            if c == _REF:
                pending = 0
            elif c == _PRE and pending == 0:
                closed_last = bank
            elif i >= 0:
                _serve(i, q)
                data = 2 + g.read_latency if c == _RD else 1 + g.write_latency
                end = max(end, clock + data)
        if q.n[1] < len(items) and q.n[0] < QUEUE:  # accepted at the end of the cycle
            q.at[q.n[0]] = q.n[1]
            q.n[0] += 1
            q.n[1] += 1
            clock += 1
        else:
            clock = clock + 1 if c >= 0 else min(_next(clock, s), due)
    return log[:used], end
