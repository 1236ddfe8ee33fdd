"""A first-ready, first-come-first-served controller over one channel, open pages, all-bank refresh.

Behaviour measured on Ramulator 2.1 (cases R of the replay file): one request is accepted per cycle while the
32-entry read queue has room; each cycle issues at most one command. A request whose row was just activated
moves to the active buffer, which goes first; a pending refresh goes next and lets nothing else of the
queue pass (PREab when legal, then REFab); else the ready request that came first. A precharge waits while the
active buffer holds a request of its bank.

Nothing happens between cycles in which a request is accepted, a refresh falls due or a command becomes ready,
so the clock jumps from one such cycle to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.hw_targets.common.dram.tables import Tables
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUEUE = 32


@dataclass(frozen=True, eq=False)
class Served:
    """What the controller issued, in order, up to the wanted number of column commands."""

    clock: NDArray[np.int64]
    command: NDArray[np.int64]
    bank: NDArray[np.int64]  # -1: all banks
    names: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Issues per command."""
        found = np.bincount(self.command, minlength=len(self.names))
        return {n: int(c) for n, c in zip(self.names, found, strict=True) if c}

    def clocks_of(self, name: str) -> NDArray[np.int64]:
        """Issue clocks of one command."""
        found: NDArray[np.int64] = self.clock[self.command == self.names.index(name)]
        return found


class _Wires(NamedTuple):
    path: NDArray[np.int32]
    gap: NDArray[np.int64]
    window: NDArray[np.int64]
    ready: NDArray[np.int64]
    history: NDArray[np.int64]
    first_bank: int
    channel: int
    act: int
    pre: int
    read: int
    write: int
    preab: int
    refab: int


def serve_requests(
    bank: NDArray[np.int64],
    row: NDArray[np.int64],
    write: NDArray[np.bool_],
    tables: Tables,
    *,
    until: int,
    refresh_interval: int = 0,
    queue: int = QUEUE,
) -> Served:
    """Serve requests in order of arrival (one per cycle) until `until` column commands have issued.

    Args:
        bank: banks counted depth first over the channel.
        refresh_interval: cycles between all-bank refreshes, 0: none.
        queue: entries of the request queue.
    """
    ready, history = tables.fresh()
    has = set(tables.names)
    wires = _Wires(
        tables.path,
        tables.gap,
        tables.window,
        ready,
        history,
        tables.nodes - tables.device.banks,
        tables.node(),
        tables.index("ACT"),
        tables.index("PREpb"),
        tables.index("RD"),
        tables.index("WR"),
        tables.index("PREab") if "PREab" in has else -1,
        tables.index("REFab") if "REFab" in has else -1,
    )
    size = 4 * until + 4 * queue + 1024
    while True:
        log = np.zeros((size, 3), dtype=np.int64)
        used = _serve(
            bank.astype(np.int64),
            row.astype(np.int64),
            write,
            wires._replace(ready=ready.copy(), history=history.copy()),
            until,
            refresh_interval,
            tables.device.banks,
            queue,
            log,
        )
        if used >= 0:
            return Served(log[:used, 0], log[:used, 1], log[:used, 2], tables.names)
        size *= 2


@jit
def _earliest(c: int, node: int, w: _Wires) -> int:
    clock = np.int64(0)
    for level in range(w.path.shape[1]):
        n = w.path[node, level]
        if n < 0:
            break
        clock = max(clock, w.ready[n, c])
    return int(clock)


@jit
def _push(c: int, node: int, clock: int, w: _Wires) -> None:
    for level in range(w.path.shape[1]):
        n = w.path[node, level]
        if n < 0:
            break
        for a in range(w.gap.shape[1]):
            w.ready[n, a] = max(w.ready[n, a], clock + w.gap[level, c, a])
        for k in range(w.history.shape[2] - 1, 0, -1):
            w.history[n, c, k] = w.history[n, c, k - 1]
        w.history[n, c, 0] = clock
    for r in range(len(w.window)):
        n = w.path[node, w.window[r, 0]]
        if w.window[r, 1] == c and n >= 0:
            a = w.window[r, 2]
            w.ready[n, a] = max(w.ready[n, a], w.history[n, c, w.window[r, 4] - 1] + w.window[r, 3])


@jit
def _wanted(bank: int, row: int, write: bool, opened: NDArray[np.int64], w: _Wires) -> int:
    """The command a request needs next."""
    if opened[bank] < 0:
        return w.act
    if opened[bank] != row:
        return w.pre
    return w.write if write else w.read


@jit
def _best(
    queue: NDArray[np.int64],
    length: int,
    clock: int,
    row: NDArray[np.int64],
    bank: NDArray[np.int64],
    write: NDArray[np.bool_],
    opened: NDArray[np.int64],
    w: _Wires,
) -> tuple[int, int]:
    """(position of the first ready request or -1, the earliest later clock at which one becomes ready)."""
    found, later = -1, np.int64(1) << 60
    for i in range(length):
        q = queue[i]
        c = _wanted(bank[q], row[q], write[q], opened, w)
        at = _earliest(c, w.first_bank + bank[q], w)
        if at > clock:
            later = min(later, np.int64(at))
        elif found < 0:
            found = i
    return found, int(later)


@jit
def _take(queue: NDArray[np.int64], length: int, at: int) -> int:
    """Remove one entry, keep the order; the new length."""
    for i in range(at, length - 1):
        queue[i] = queue[i + 1]
    return length - 1


@jit
def _holds(queue: NDArray[np.int64], length: int, bank: NDArray[np.int64], wanted: int) -> bool:
    found = False
    for i in range(length):
        found = found or bank[queue[i]] == wanted
    return found


# Fields of the queue state: requests waiting, those whose row was activated, refreshes due, requests taken.
_WAITING, _ACTIVE, _REFRESH, _ARRIVED = 0, 1, 2, 3
_FROM_ACTIVE, _FROM_REFRESH, _FROM_WAITING, _NONE = 0, 1, 2, -1


@jit
def _select(
    clock: int,
    state: NDArray[np.int64],
    queues: NDArray[np.int64],
    bank: NDArray[np.int64],
    row: NDArray[np.int64],
    write: NDArray[np.bool_],
    opened: NDArray[np.int64],
    w: _Wires,
) -> tuple[int, int, int, int]:
    """(source, position in it, command, the next clock at which the choice may change)."""
    at, later = _best(queues[1], state[_ACTIVE], clock, row, bank, write, opened, w)
    if at >= 0:
        q = queues[1, at]
        return _FROM_ACTIVE, at, _wanted(bank[q], row[q], write[q], opened, w), later
    if state[_REFRESH] > 0:
        c = w.preab if opened.max() >= 0 else w.refab
        ready = _earliest(c, w.channel, w)
        if ready > clock:
            return _NONE, -1, c, min(later, ready)
        if c == w.preab and state[_ACTIVE] > 0:
            return _NONE, -1, c, later
        return _FROM_REFRESH, 0, c, later
    at, other = _best(queues[0], state[_WAITING], clock, row, bank, write, opened, w)
    later = min(later, other)
    if at < 0:
        return _NONE, -1, -1, later
    q = queues[0, at]
    c = _wanted(bank[q], row[q], write[q], opened, w)
    if c == w.pre and _holds(queues[1], state[_ACTIVE], bank, bank[q]):
        return _NONE, -1, c, later
    return _FROM_WAITING, at, c, later


@jit
def _retire(
    source: int, at: int, c: int, q: int, state: NDArray[np.int64], queues: NDArray[np.int64], w: _Wires
) -> None:
    """Move or remove the request that the issued command served."""
    column = c == w.read or c == w.write  # noqa: PLR1714  (a membership test does not compile)
    if source == _FROM_ACTIVE and column:
        state[_ACTIVE] = _take(queues[1], state[_ACTIVE], at)
    elif source == _FROM_REFRESH and c == w.refab:
        state[_REFRESH] -= 1
    elif source == _FROM_WAITING:
        if c == w.act and state[_ACTIVE] < queues.shape[1]:
            queues[1, state[_ACTIVE]] = q
            state[_ACTIVE] += 1
            state[_WAITING] = _take(queues[0], state[_WAITING], at)
        elif column:
            state[_WAITING] = _take(queues[0], state[_WAITING], at)


@jit
def _serve(
    bank: NDArray[np.int64],
    row: NDArray[np.int64],
    write: NDArray[np.bool_],
    w: _Wires,
    until: int,
    interval: int,
    banks: int,
    queue: int,
    log: NDArray[np.int64],
) -> int:
    opened = np.full(banks, -1, np.int64)
    queues = np.zeros((2, queue), np.int64)  # waiting, active
    state = np.zeros(4, np.int64)
    done, used, clock, requests = 0, 0, 0, len(bank)
    due = interval if interval > 0 else 1 << 60
    while done < until and (state[_ARRIVED] < requests or state[_WAITING] + state[_ACTIVE] > 0):
        clock += 1
        if state[_ARRIVED] < requests and state[_WAITING] < queue:
            queues[0, state[_WAITING]] = state[_ARRIVED]
            state[_WAITING] += 1
            state[_ARRIVED] += 1
        if clock >= due:
            state[_REFRESH] += 1
            due += interval
        source, at, c, later = _select(clock, state, queues, bank, row, write, opened, w)
        if source == _NONE:
            if state[_ARRIVED] == requests or state[_WAITING] == queue:
                clock = max(clock, min(later, due) - 1)
            continue
        if used == len(log):
            return -1
        q = -1 if source == _FROM_REFRESH else queues[1 if source == _FROM_ACTIVE else 0, at]
        b = -1 if q < 0 else bank[q]
        log[used, 0], log[used, 1], log[used, 2] = clock, c, b
        used += 1
        _push(c, w.channel if q < 0 else w.first_bank + b, clock, w)
        _retire(source, at, c, q, state, queues, w)
        if c == w.act:
            opened[b] = row[q]
        elif c == w.pre:
            opened[b] = -1
        elif c == w.preab:
            opened[:] = -1
        elif q >= 0:
            done += 1
    return used
