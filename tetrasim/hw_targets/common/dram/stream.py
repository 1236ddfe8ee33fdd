"""In-order command streams: every command issues at the first legal clock after the one before it.

`open_page` turns read and write requests into commands (precharge on a row conflict, activate on a miss,
rows stay open); `issue` gives each command its clock. Both are plain loops over arrays; the clock is never
ticked, so the cost is per command, whatever the gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.hw_targets.common.dram.tables import NEVER, Tables
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
    used = np.flatnonzero(np.bincount(commands.command, minlength=len(tables.names)))
    rows = [(c, at, b, int(tables.gap[at, b, c])) for c in used for at in _levels(tables) for b in used]
    rules = np.array([r for r in rows if r[3] > NEVER], dtype=np.int64).reshape(-1, 4)
    seen = np.isin(tables.window[:, 1], used) & np.isin(tables.window[:, 2], used)
    windows = tables.window[seen]
    order = np.argsort(windows[:, 2], kind="stable")
    everyone = np.arange(len(tables.names) + 1)
    keeps = np.zeros((len(tables.names), tables.path.shape[1]), dtype=np.bool_)
    keeps[windows[:, 1], windows[:, 0]] = True
    # Unsigned indices spare the kernel the test for negative ones; node N stands for "none" and stays idle.
    return _issue(
        commands.command.astype(np.uint32),
        commands.node.astype(np.uint32),
        (tables.path >= 0).sum(axis=1),
        np.where(tables.path < 0, tables.nodes, tables.path).astype(np.uint32),
        _Rules(
            np.searchsorted(rules[:, 0], everyone).astype(np.uint32),
            rules[:, 1:3].astype(np.uint32),
            np.ascontiguousarray(rules[:, 3]),
        ),
        _Rules(
            np.searchsorted(windows[order, 2], everyone).astype(np.uint32),
            windows[order][:, [0, 1, 4]].astype(np.uint32),
            np.ascontiguousarray(windows[order, 3]),
        ),
        keeps,
        np.full((tables.nodes + 1, len(tables.names)), NEVER, dtype=np.int64),
        np.full((tables.nodes + 1, len(tables.names), tables.depth), NEVER, dtype=np.int64),
        first_clock - 1,
    )


class _Rules(NamedTuple):
    """Rules by the command they hold back: rows start[c]:start[c + 1]."""

    start: NDArray[np.uint32]
    of: NDArray[np.uint32]  # level, command before (and the window)
    gap: NDArray[np.int64]


def _levels(tables: Tables) -> range:
    return range(tables.path.shape[1])


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
def _issue(
    command: NDArray[np.uint32],
    node: NDArray[np.uint32],
    depth: NDArray[np.int64],
    path: NDArray[np.uint32],
    rules: _Rules,
    windows: _Rules,
    keeps: NDArray[np.bool_],
    last: NDArray[np.int64],
    history: NDArray[np.int64],
    clock: int,
) -> NDArray[np.int64]:
    """In a strict stream only the commands in use matter, so looking back at their last issues is cheaper
    than pushing readiness forward to every command."""
    out = np.empty(len(command), np.int64)
    one = np.uint32(1)
    start, of, gap = rules.start, rules.of, rules.gap
    wide, wide_of, wide_gap = windows.start, windows.of, windows.gap
    kept = np.array([keeps[c].any() for c in range(len(keeps))])
    for i in range(len(command)):
        c, at = command[i], node[i]
        clock += 1
        for r in range(start[c], start[c + one]):
            clock = max(clock, last[path[at, of[r, 0]], of[r, 1]] + gap[r])
        for r in range(wide[c], wide[c + one]):
            past = history[path[at, wide_of[r, 0]], wide_of[r, 1], wide_of[r, 2] - one]
            clock = max(clock, past + wide_gap[r])
        out[i] = clock
        for level in range(depth[at]):
            last[path[at, level], c] = clock
        if kept[c]:
            for level in range(depth[at]):
                if keeps[c, level]:  # a rule here looks back further than one issue
                    n = path[at, level]
                    for k in range(history.shape[2] - 1, 0, -1):
                        history[n, c, k] = history[n, c, k - 1]
                    history[n, c, 0] = clock
    return out


@jit
def _checksum(clocks: NDArray[np.int64]) -> int:
    c = 0
    for clock in clocks:
        c = (c * 31 + clock) & 0x7FFFFFFF
    return c
