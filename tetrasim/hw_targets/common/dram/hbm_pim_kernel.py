"""The kernel of the HBM-PIM kernel's controller (see `hbm_pim.py`), event-skipping.

Between two cycles in which nothing is accepted, issued or due, a choice can only change when a bank's
readiness passes; so the clock jumps to the next such time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


# Gaps `g`: least cycles between commands, and from a column command to the end of its data.
(
    SAME_GROUP,
    OTHER_GROUP,
    READ_TO_WRITE,
    WRITE_TO_READ,
    READ_TO_PRECHARGE,
    WRITE_TO_PRECHARGE,
    ACTIVATE_TO_READ,
    ACTIVATE_TO_WRITE,
    ACTIVATE_TO_PRECHARGE,
    ACTIVATE_SAME_BANK,
    ACTIVATE_SAME_GROUP,
    ACTIVATE_OTHER_GROUP,
    PRECHARGE_TO_ACTIVATE,
    REFRESH_TO_ACTIVATE,
    READ_LATENCY,
    WRITE_LATENCY,
) = range(16)
GAPS = 16
# Rows of the bank state `s`: open row, first clocks of the four commands, and when the bank is idle again.
_OPEN, _TO_READ, _TO_WRITE, _TO_ACTIVATE, _TO_PRECHARGE, _IDLE_AT = 0, 1, 2, 3, 4, 5
# The queue `q` begins with the transactions accepted and not yet served, in order. Then: how many those are,
# how many were accepted, 1 in all-bank modes, and the banks whose reserved rows were seen on the way.
_WAITING, _ACCEPTED, _ALL_BANK, _SEEN = QUEUE, QUEUE + 1, QUEUE + 2, QUEUE + 3


@jit
def _apply(c: int, bank: int, row: int, clock: int, s: NDArray[np.int64], g: NDArray[np.int64]) -> None:
    """What a command to a bank holds back."""
    if c == _ACT:
        s[_OPEN, bank] = row
        s[_TO_PRECHARGE, bank] = max(s[_TO_PRECHARGE, bank], clock + g[ACTIVATE_TO_PRECHARGE])
        s[_TO_READ, bank] = max(s[_TO_READ, bank], clock + g[ACTIVATE_TO_READ])
        s[_TO_WRITE, bank] = max(s[_TO_WRITE, bank], clock + g[ACTIVATE_TO_WRITE])
        for b in range(BANKS):
            gap = g[ACTIVATE_SAME_GROUP] if b // GROUP == bank // GROUP else g[ACTIVATE_OTHER_GROUP]
            s[_TO_ACTIVATE, b] = max(
                s[_TO_ACTIVATE, b], clock + (g[ACTIVATE_SAME_BANK] if b == bank else gap)
            )
    elif c == _PRE:
        s[_OPEN, bank] = _CLOSING
        s[_IDLE_AT, bank] = clock + g[PRECHARGE_TO_ACTIVATE]
        s[_TO_ACTIVATE, bank] = max(s[_TO_ACTIVATE, bank], clock + g[PRECHARGE_TO_ACTIVATE])
    elif c == _REF:
        for b in range(BANKS):
            s[_OPEN, b] = _CLOSING
            s[_IDLE_AT, b] = s[_TO_ACTIVATE, b] = clock + g[REFRESH_TO_ACTIVATE]
    else:
        close = g[WRITE_TO_PRECHARGE] if c == _WR else g[READ_TO_PRECHARGE]
        s[_TO_PRECHARGE, bank] = max(s[_TO_PRECHARGE, bank], clock + close)
        for b in range(BANKS):
            gap = g[SAME_GROUP] if b // GROUP == bank // GROUP else g[OTHER_GROUP]
            s[_TO_READ, b] = max(s[_TO_READ, b], clock + (gap if c == _RD else g[WRITE_TO_READ]))
            s[_TO_WRITE, b] = max(s[_TO_WRITE, b], clock + (gap if c == _WR else g[READ_TO_WRITE]))


@jit
def _column(clock: int, items: NDArray[np.int64], q: NDArray[np.int64], s: NDArray[np.int64]) -> int:
    """Place in the queue of the column command that goes now, -1 for none."""
    for i in range(q[_WAITING]):
        item = items[q[i]]
        bank = item[_BANK]
        ready = s[_TO_WRITE, bank] if item[_WRITE] == 1 else s[_TO_READ, bank]
        if i > 0 and item[_BAR] == 1:
            return -1
        if s[_OPEN, bank] == item[_ROW] and clock >= ready:
            return i
        if item[_BAR] == 1:
            return -1
    return -1


@jit
def _activation(clock: int, items: NDArray[np.int64], q: NDArray[np.int64], s: NDArray[np.int64]) -> int:
    """Place in the queue of the transaction whose row opens now, -1 for none."""
    for i in range(q[_WAITING]):
        item = items[q[i]]
        if i > 0 and item[_BAR] == 1:
            return -1
        bank = item[_BANK]
        if s[_OPEN, bank] == _CLOSED and clock >= s[_TO_ACTIVATE, bank] and (q[_ALL_BANK] == 0 or bank < 2):
            return i
    return -1


@jit
def _unwanted(
    clock: int, first: int, items: NDArray[np.int64], q: NDArray[np.int64], s: NDArray[np.int64]
) -> int:
    """The bank that closes now because no transaction up to the first BAR wants its row, -1 for none."""
    for k in range(BANKS):
        bank = (first + k) % BANKS
        if s[_OPEN, bank] < 0 or clock < s[_TO_PRECHARGE, bank]:
            continue
        wanted = False
        for i in range(q[_WAITING]):
            item = items[q[i]]
            wanted = wanted or (item[_BANK] == bank and item[_ROW] == s[_OPEN, bank])
            if item[_BAR] == 1:
                break
        if not wanted:
            return bank
    return -1


@jit
def _switch(c: int, bank: int, row: int, q: NDArray[np.int64]) -> None:
    """Modes follow the reserved rows: all-bank once four banks opened theirs, single-bank once two closed."""
    if (c == _ACT and row == TO_HAB_ROW and q[_ALL_BANK] == 0) or (
        c == _PRE and row == TO_SB_ROW and q[_ALL_BANK] == 1
    ):
        q[_SEEN] |= 1 << bank
        if q[_SEEN] == (_FOUR_BANKS if q[_ALL_BANK] == 0 else _TWO_BANKS):
            q[_ALL_BANK], q[_SEEN] = 1 - q[_ALL_BANK], 0


@jit
def _choose(
    clock: int, pending: int, first: int, items: NDArray[np.int64], q: NDArray[np.int64], s: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """(command, bank, row, place in the queue or -1) of what goes now, command -1 for none."""
    if pending == 1:
        anything = False
        for b in range(BANKS):
            if s[_OPEN, b] >= 0:
                anything = True
                if clock >= s[_TO_PRECHARGE, b]:
                    return _PRE, b, int(s[_OPEN, b]), -1
        if not anything:
            return _REF, 0, 0, -1
    i = _column(clock, items, q, s)
    if i >= 0:
        item = items[q[i]]
        return (_WR if item[_WRITE] == 1 else _RD), int(item[_BANK]), int(item[_ROW]), i
    i = _activation(clock, items, q, s)
    if i >= 0:
        item = items[q[i]]
        return _ACT, int(item[_BANK]), int(item[_ROW]), -1
    b = _unwanted(clock, first, items, q, s)
    if b >= 0:
        return _PRE, b, int(s[_OPEN, b]), -1
    return -1, -1, -1, -1


@jit
def _next(clock: int, s: NDArray[np.int64]) -> int:
    """The first clock after `clock` at which a bank becomes ready for something."""
    found = _FAR
    for k in range(_TO_READ, _IDLE_AT + 1):
        for b in range(BANKS):
            if s[k, b] > clock:
                found = min(found, s[k, b])
    return int(found)


@jit
def _serve(i: int, q: NDArray[np.int64]) -> None:
    """Take a transaction out of the queue."""
    for k in range(i, q[_WAITING] - 1):
        q[k] = q[k + 1]
    q[_WAITING] -= 1


@jit
def _longer(log: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same log with twice the room."""
    more = np.zeros((2 * len(log), log.shape[1]), np.int64)
    for i in range(len(log)):
        for k in range(log.shape[1]):
            more[i, k] = log[i, k]
    return more


@jit
def run(
    items: NDArray[np.int64], g: NDArray[np.int64], interval: int, ranks: int
) -> tuple[NDArray[np.int64], int]:
    """The log [commands, 4] (clock, command, bank, row) of rank 0, and the cycles until all data is there."""
    s, q = np.zeros((6, BANKS), np.int64), np.zeros(QUEUE + 4, np.int64)
    for b in range(BANKS):
        s[_OPEN, b] = _CLOSED
    log = np.zeros((4 * len(items) + 1024, 4), np.int64)
    used, end, clock, closed_last, pending, refreshes = 0, 1, 0, 0, 0, 0
    due = interval // ranks if interval > 0 else _FAR
    while clock < end or q[_WAITING] > 0 or q[_ACCEPTED] < len(items):
        for b in range(BANKS):
            if s[_OPEN, b] == _CLOSING and clock >= s[_IDLE_AT, b]:
                s[_OPEN, b] = _CLOSED
        bus_taken = False
        if clock >= due:
            pending = 1 if refreshes % ranks == 0 else pending
            bus_taken = refreshes % ranks != 0  # the other ranks are idle and refresh at once
            refreshes += 1
            due = interval // ranks * (refreshes % ranks + 1) + refreshes // ranks * interval
        c, bank, row, i = (
            (_REF, -1, 0, -1) if bus_taken else _choose(clock, pending, closed_last, items, q, s)
        )
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
                data = 2 + g[READ_LATENCY] if c == _RD else 1 + g[WRITE_LATENCY]
                end = max(end, clock + data)
        if q[_ACCEPTED] < len(items) and q[_WAITING] < QUEUE:  # accepted at the end of the cycle
            q[q[_WAITING]] = q[_ACCEPTED]
            q[_WAITING] += 1
            q[_ACCEPTED] += 1
            clock += 1
        else:
            clock = clock + 1 if c >= 0 else min(_next(clock, s), due)
    return log[:used], end
