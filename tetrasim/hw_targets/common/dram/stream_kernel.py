"""The kernels of in-order streams: one step per command, looking back at the issues that hold it back.

In a strict stream only the commands in use matter, so looking back costs less than pushing readiness forward.
For every node and command the arena `m` holds a line of pairs (place of a past issue clock, gap); rules that
look back several issues point into a ring. An issue writes its clock to the places of its own line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOCK, SERVED, DUE, OWED, TURN = 0, 1, 2, 3, 4  # state: last issue, requests so far, refresh
STATE_SIZE = 8
_ACT, _PRE, _RD, _WR, _PREAB, _REFAB, _REFPB = 0, 1, 2, 3, 4, 5, 6  # places in `front`


class Place(NamedTuple):
    """Where things are in the arena; every `..._start` has a row per node and command, and one more."""

    commands: int
    banks: int
    first_bank: int  # node
    channel: int  # node
    depth: int  # of a ring
    opened: int  # [B] row, -1 closed
    pair_start: int
    mark_start: int
    ring_start: int


@jit
def _step(c: int, node: int, clock: int, m: NDArray[np.int64], o: Place) -> int:
    """Issue `c` at `node` as early as it may, after `clock`."""
    line = node * o.commands + c
    clock += 1
    e, end = np.uint64(m[np.uint64(o.pair_start + line)]), np.uint64(m[np.uint64(o.pair_start + line + 1)])
    while e < end:
        clock = max(clock, m[np.uint64(m[e])] + m[e + np.uint64(1)])
        e += np.uint64(2)
    e, end = np.uint64(m[np.uint64(o.mark_start + line)]), np.uint64(m[np.uint64(o.mark_start + line + 1)])
    while e < end:
        m[np.uint64(m[e])] = clock
        e += np.uint64(1)
    e, end = np.uint64(m[np.uint64(o.ring_start + line)]), np.uint64(m[np.uint64(o.ring_start + line + 1)])
    while e < end:
        ring = np.uint64(m[e])
        for k in range(np.uint64(o.depth - 1), np.uint64(0), -1):
            m[ring + np.uint64(k)] = m[ring + np.uint64(k) - np.uint64(1)]
        m[ring] = clock
        e += np.uint64(1)
    return int(clock)


@jit
def issue(
    command: NDArray[np.int32], node: NDArray[np.int32], m: NDArray[np.int64], o: Place
) -> NDArray[np.int64]:
    """Issue clock of every command."""
    out = np.empty(len(command), np.int64)
    clock = m[CLOCK]
    for i in range(len(command)):
        clock = _step(command[i], node[i], clock, m, o)
        out[i] = clock
    m[CLOCK] = clock
    return out


@jit
def open_page(
    bank: NDArray[np.int32],
    row: NDArray[np.int32],
    write: NDArray[np.bool_],
    refresh_every: int,
    per_bank: int,
    front: NDArray[np.int32],
    m: NDArray[np.int64],
    o: Place,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]:
    """Commands, nodes and rows of the next requests, and how many; `refresh_every` counts requests."""
    most = 3 * len(bank) + (2 * (len(bank) // refresh_every + 1) if refresh_every > 0 else 0)
    command, node, rows = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    opened = m[o.opened : o.opened + o.banks]
    served, turn = m[SERVED], m[TURN]
    n = 0
    for i in range(len(bank)):
        if refresh_every > 0 and served > 0 and served % refresh_every == 0:
            if per_bank == 1:
                if opened[turn] >= 0:
                    command[n], node[n], rows[n] = front[_PRE], o.first_bank + turn, 0
                    n += 1
                opened[turn] = -1
                command[n], node[n], rows[n] = front[_REFPB], o.first_bank + turn, 0
                n += 1
                turn = (turn + 1) % o.banks
            else:
                for c in (front[_PREAB], front[_REFAB]):
                    command[n], node[n], rows[n] = c, o.channel, 0
                    n += 1
                opened[:] = -1
        b, r = bank[i], row[i]
        if opened[b] != r:
            if opened[b] >= 0:
                command[n], node[n], rows[n] = front[_PRE], o.first_bank + b, r
                n += 1
            command[n], node[n], rows[n] = front[_ACT], o.first_bank + b, r
            n += 1
            opened[b] = r
        command[n], node[n], rows[n] = (front[_WR] if write[i] else front[_RD]), o.first_bank + b, r
        n += 1
        served += 1
    m[SERVED], m[TURN] = served, turn
    return command, node, rows, n


@jit
def _emit(
    c: int,
    node: int,
    row: int,
    n: int,
    out: NDArray[np.int32],
    clock: NDArray[np.int64],
    m: NDArray[np.int64],
    o: Place,
) -> int:
    """Issue a command and write it down; the number of commands so far."""
    m[CLOCK] = _step(c, node, m[CLOCK], m, o)
    out[0, n], out[1, n], out[2, n], clock[n] = c, node, row, m[CLOCK]
    return n + 1


@jit
def _refresh_once(
    per_bank: int,
    n: int,
    front: NDArray[np.int32],
    out: NDArray[np.int32],
    clock: NDArray[np.int64],
    m: NDArray[np.int64],
    o: Place,
) -> int:
    """Close what has to be closed and refresh: all banks, or the one whose turn it is."""
    if per_bank == 1:
        turn = m[TURN]
        if m[o.opened + turn] >= 0:
            n = _emit(front[_PRE], o.first_bank + turn, 0, n, out, clock, m, o)
            m[o.opened + turn] = -1
        m[TURN] = (turn + 1) % o.banks
        return _emit(front[_REFPB], o.first_bank + turn, 0, n, out, clock, m, o)
    anything = False
    for b in range(o.banks):
        anything = anything or m[o.opened + b] >= 0
        m[o.opened + b] = -1
    if anything:
        n = _emit(front[_PREAB], o.channel, 0, n, out, clock, m, o)
    return _emit(front[_REFAB], o.channel, 0, n, out, clock, m, o)


@jit
def run_requests(
    bank: NDArray[np.int32],
    row: NDArray[np.int32],
    write: NDArray[np.bool_],
    refresh: tuple[int, int, int],
    front: NDArray[np.int32],
    m: NDArray[np.int64],
    o: Place,
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Commands [command, node, row] and clocks of the next requests, and how many.

    `refresh`: cycles between refreshes (0: none), intervals of postponement, 1 for one bank at a time. One
    falls due when the clock reaches its time; it goes before a request that misses its row, or before any
    request once more than the allowed ones are owed.
    """
    interval, postpone, per_bank = refresh
    out, clock = np.empty((3, 4 * len(bank) + 64), np.int32), np.empty(4 * len(bank) + 64, np.int64)
    n = 0
    if interval > 0 and m[DUE] == 0:
        m[DUE] = interval
    for i in range(len(bank)):
        while interval > 0:
            while m[CLOCK] + 1 >= m[DUE]:
                m[OWED] += 1
                m[DUE] += interval
            hit = m[o.opened + bank[i]] == row[i]
            if m[OWED] == 0 or (hit and m[OWED] <= postpone):
                break
            m[OWED] -= 1
            n = _refresh_once(per_bank, n, front, out, clock, m, o)
            if n + 8 > len(clock):
                out, clock = _longer(out, clock)
        b, r = bank[i], row[i]
        if m[o.opened + b] != r:
            if m[o.opened + b] >= 0:
                n = _emit(front[_PRE], o.first_bank + b, r, n, out, clock, m, o)
            n = _emit(front[_ACT], o.first_bank + b, r, n, out, clock, m, o)
            m[o.opened + b] = r
        n = _emit(front[_WR] if write[i] else front[_RD], o.first_bank + b, r, n, out, clock, m, o)
        if n + 8 > len(clock):
            out, clock = _longer(out, clock)
    return out, clock, n


@jit
def _longer(out: NDArray[np.int32], clock: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The same with twice the room."""
    size = len(clock)
    more, clocks = np.empty((3, 2 * size), np.int32), np.empty(2 * size, np.int64)
    for i in range(size):
        more[0, i], more[1, i], more[2, i], clocks[i] = out[0, i], out[1, i], out[2, i], clock[i]
    return more, clocks


@jit
def checksum(clocks: NDArray[np.int64], c: int) -> int:
    """Go on from `c`."""
    for clock in clocks:
        c = (c * 31 + clock) & 0x7FFFFFFF
    return c
