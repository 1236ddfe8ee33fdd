"""In-order command streams: every command issues at the first legal clock after the one before it.

`open_page` turns read and write requests into commands (precharge on a row conflict, activate on a miss,
rows stay open); `issue` gives each command its clock. Both are plain loops over arrays; the clock is never
ticked, so the cost is per command, whatever the gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.dram.tables import Tables
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Commands:
    """A command stream: command index, addressed node and row, in program order."""

    command: NDArray[np.int32]
    node: NDArray[np.int32]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.command)


@dataclass(frozen=True, eq=False)
class Requests:
    """Bank requests in program order; `bank` counts banks of the channel, depth first."""

    bank: NDArray[np.int32]
    row: NDArray[np.int32]
    write: NDArray[np.bool_]
    refresh_every: int = 0  # requests between PREab + REFab pairs, 0: none


def open_page(requests: Requests, tables: Tables) -> Commands:
    """Commands of `requests` under an open-page policy, with an all-bank refresh every so many requests."""
    banks = tables.device.banks
    first_bank = tables.nodes - banks
    index = [tables.index(c) for c in ("ACT", "PREpb", "RD", "WR")]
    all_banks = [tables.index(c) for c in ("PREab", "REFab")] if requests.refresh_every else [0, 0]
    command, node, row, n = _open_page(
        requests.bank,
        requests.row,
        requests.write,
        requests.refresh_every,
        banks,
        first_bank,
        tables.node(),
        np.array(index + all_banks, dtype=np.int32),
    )
    return Commands(command[:n], node[:n], row[:n])


def issue(commands: Commands, tables: Tables, first_clock: int = 0) -> NDArray[np.int64]:
    """Issue clock of every command; the first may use `first_clock`."""
    ready, history = tables.fresh()
    # Unsigned indices spare the kernel the test for negative ones, a third of its time.
    return _issue(
        commands.command.astype(np.uint32),
        commands.node.astype(np.uint32),
        (tables.path >= 0).sum(axis=1),
        np.maximum(tables.path, 0).astype(np.uint32),
        tables.gap,
        tables.window,
        tables.window_start,
        ready,
        history,
        first_clock - 1,
    )


def checksum(clocks: NDArray[np.int64]) -> int:
    """`c = (31 c + clock) mod 2**31` over all clocks: one number that pins down every issue clock."""
    return int(_checksum(clocks))


@jit
def _open_page(
    bank: NDArray[np.int32],
    row: NDArray[np.int32],
    write: NDArray[np.bool_],
    refresh_every: int,
    banks: int,
    first_bank: int,
    channel: int,
    index: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], int]:
    act, pre, read, wr, preab, refab = index[0], index[1], index[2], index[3], index[4], index[5]
    most = 3 * len(bank) + (2 * (len(bank) // refresh_every) if refresh_every > 0 else 0)
    command = np.empty(most, np.int32)
    node = np.empty(most, np.int32)
    rows = np.empty(most, np.int32)
    opened = np.full(banks, -1, np.int32)
    n = 0
    for i in range(len(bank)):
        if refresh_every > 0 and i > 0 and i % refresh_every == 0:
            for c in (preab, refab):
                command[n], node[n], rows[n] = c, channel, 0
                n += 1
            opened[:] = -1
        b, r = bank[i], row[i]
        if opened[b] != r:
            if opened[b] >= 0:
                command[n], node[n], rows[n] = pre, first_bank + b, r
                n += 1
            command[n], node[n], rows[n] = act, first_bank + b, r
            n += 1
            opened[b] = r
        command[n], node[n], rows[n] = (wr if write[i] else read), first_bank + b, r
        n += 1
    return command, node, rows, n


@jit
def _push_windows(
    c: int,
    node: NDArray[np.uint32],
    clock: int,
    window: NDArray[np.int64],
    rules: tuple[int, int],
    ready: NDArray[np.int64],
    history: NDArray[np.int64],
) -> None:
    """Keep the last issues of `c` where a rule with a window above 1 needs them; raise readiness by it.

    `node` is the path of the command; rules of one command are sorted by level.
    """
    pushed = -1
    for r in range(rules[0], rules[1]):
        level = window[r, 0]
        if level < len(node):
            n = node[level]
            if level != pushed:
                for k in range(history.shape[2] - 1, 0, -1):
                    history[n, c, k] = history[n, c, k - 1]
                history[n, c, 0] = clock
                pushed = level
            a = window[r, 2]
            ready[n, a] = max(ready[n, a], history[n, c, window[r, 4] - 1] + window[r, 3])


@jit
def _issue(
    command: NDArray[np.uint32],
    node: NDArray[np.uint32],
    depth: NDArray[np.int64],
    path: NDArray[np.uint32],
    gap: NDArray[np.int64],
    window: NDArray[np.int64],
    window_start: NDArray[np.int64],
    ready: NDArray[np.int64],
    history: NDArray[np.int64],
    clock: int,
) -> NDArray[np.int64]:
    out = np.empty(len(command), np.int64)
    width = gap.shape[2]
    for i in range(len(command)):
        c, at = command[i], node[i]
        levels = depth[at]
        clock += 1
        for level in range(levels):
            clock = max(clock, ready[path[at, level], c])
        out[i] = clock
        for level in range(levels):
            row, least = ready[path[at, level]], gap[level, c]
            for a in range(width):
                row[a] = max(row[a], clock + least[a])
        first, last = window_start[c], window_start[c + np.uint32(1)]
        if first < last:
            _push_windows(c, path[at, :levels], clock, window, (first, last), ready, history)
    return out


@jit
def _checksum(clocks: NDArray[np.int64]) -> int:
    c = 0
    for clock in clocks:
        c = (c * 31 + clock) & 0x7FFFFFFF
    return c
