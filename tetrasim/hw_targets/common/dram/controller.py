"""A first-ready, first-come-first-served controller over one channel with open pages.

Behaviour of Ramulator 2.1 (commit c5b1c3a; cases R of the replay file). Each cycle one request is accepted
while its queue (32 reads, 32 writes) has room, and at most one command issues:

1. a request whose row was just activated waits in the active buffer, which goes first, oldest arrival first;
2. a pending refresh goes next, and while one is pending nothing is picked from the queues: PREab (or PREpb of
   the bank) when legal and no active request would lose its row, then REFab (REFpb);
3. else, of the queue in turn (reads, or writes between the watermarks of 80 % and 20 %, or while no read
   waits), the oldest request whose next command is ready. A request whose precharge would close a row that
   an active request waits for is passed over.

A read of a burst whose write is still queued is answered from the queue, a second write to it is merged.

Nothing happens between cycles in which a request is accepted, a refresh falls due or a command becomes ready,
so the clock jumps from one such cycle to the next (`controller_kernel.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram import controller_kernel as kernel
from tetrasim.hw_targets.common.dram.controller_kernel import (
    BANK_COMMANDS,
    COMMANDS,
    IDLE,
    MAX_BANKS,
    NONE,
    QUEUE_COMMANDS,
    pack,
    serve,
)
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, Refresh, RefreshMode
from tetrasim.hw_targets.common.dram.stream import check_refresh
from tetrasim.hw_targets.common.dram.tables import NEVER, Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUEUE = 32


@dataclass(frozen=True, eq=False)
class Served:
    """What the controller issued, in order: `clock`, `command` (index into `names`), `bank` (-1: all banks).
    The three are empty when no log was kept; the rest is there always."""

    clock: NDArray[np.int64]
    command: NDArray[np.int8]
    bank: NDArray[np.int16]
    names: tuple[str, ...]
    issues: NDArray[np.int64]
    first_read: int  # clock, -1: none
    last_column: int

    def counts(self) -> dict[str, int]:
        """Issues per command, those that occurred."""
        return {n: int(c) for n, c in zip(self.names, self.issues, strict=True) if c}

    def clocks_of(self, name: str) -> NDArray[np.int64]:
        """Issue clocks of one command."""
        found: NDArray[np.int64] = self.clock[self.command == self.names.index(name)]
        return found


def serve_requests(
    bank: NDArray[np.int64],
    row: NDArray[np.int64],
    write: NDArray[np.bool_],
    tables: Tables,
    *,
    until: int,
    column: NDArray[np.int64] | None = None,
    refresh: Refresh = NO_REFRESH,
    queue: int = QUEUE,
    keep_log: bool = True,
) -> Served:
    """Serve requests in order of arrival (one per cycle) until `until` column commands have issued.

    Args:
        bank: banks counted depth first over the channel.
        column: burst within the row (writes are merged and forwarded by it), None: all differ.
        refresh: a refresh that falls due may wait `refresh.postpone` intervals while requests wait.
        queue: entries of the read queue, and of the write queue.

    Raises:
        UserError: no room for a request, or a device without a command that is needed.
    """
    if queue < 1:
        raise UserError(f"a queue of {queue} entries", hint="1 or more")
    check_refresh(tables, refresh)
    writes = bool(write.any())
    arena = _arena(tables, writes, refresh.mode, queue)
    log, issues, ends = serve(
        pack(bank.astype(np.int64), row.astype(np.int64), write),
        np.zeros(0, np.int64) if column is None or not writes else _burst_keys(bank, row, column),
        arena.copy(),
        until,
        (refresh.interval, refresh.postpone, int(refresh.mode is RefreshMode.PER_BANK)),
        int(keep_log),
    )
    at = np.where(log[:, 2] < tables.device.banks, log[:, 2], -1).astype(np.int16)
    return Served(log[:, 0], log[:, 1].astype(np.int8), at, COMMANDS, issues, int(ends[0]), int(ends[1]))


def _burst_keys(
    bank: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One number per burst address, to find writes to the same one."""
    width = int(column.max(initial=0)) + 1
    height = int(row.max(initial=0)) + 1
    keys: NDArray[np.int64] = (bank.astype(np.int64) * height + row) * width + column
    return keys


@lru_cache(maxsize=64)
def _arena(tables: Tables, writes: bool, mode: RefreshMode, queue: int) -> NDArray[np.int64]:
    """An idle channel for the kernel."""
    needed = ["ACT", "PREpb", "RD", *(["WR"] if writes else [])]
    needed += {RefreshMode.ALL_BANK: ["PREab", "REFab"], RefreshMode.PER_BANK: ["REFpb"]}.get(mode, [])
    for name in needed:
        tables.device.command(name)
    banks = tables.device.banks
    if banks > MAX_BANKS:
        raise UserError(
            f"{banks} banks in one channel", where=tables.device.file, hint=f"at most {MAX_BANKS}"
        )
    first = tables.nodes - banks
    index = [tables.names.index(n) if n in tables.names else -1 for n in COMMANDS]
    paths = tables.path[[*range(first, first + banks), tables.node()]]  # banks, then the channel
    windows = _windows(tables, index)
    live = QUEUE_COMMANDS - 1 if not writes else QUEUE_COMMANDS
    sections = (  # in the order of the kernel's places
        np.full(BANK_COMMANDS * banks + 2, IDLE),
        np.full(banks, -1),
        np.full(banks, NONE),
        np.zeros(banks),
        np.full(2 * banks, NONE),
        np.full(2 * banks, NONE),
        np.zeros(2 * banks),
        np.zeros(2 * banks * queue),
        np.full(len(windows) * tables.nodes * tables.depth, IDLE),
        _gaps(tables, index, paths),
        windows,
        paths,
    )
    head = np.zeros(kernel.STATE_SIZE)
    head[kernel.BANKS : kernel.DEPTH + 1] = (
        banks,
        queue,
        BANK_COMMANDS if mode is RefreshMode.PER_BANK else live,
        len(windows),
        paths.shape[1],
        tables.nodes,
        tables.depth,
    )
    ends = np.cumsum([kernel.STATE_SIZE, *(section.size for section in sections)])
    head[kernel.READY_AT :] = ends[:-1]
    arena: NDArray[np.int64] = np.concatenate([head, *(a.ravel() for a in sections)]).astype(np.int64)
    return arena


def _gaps(tables: Tables, index: list[int], paths: NDArray[np.int32]) -> NDArray[np.int64]:
    """[commands, B + 1, BANK_COMMANDS * B + 2]: least distance from a command at an address (a bank, or the
    channel) to every bank-level command at every bank, and to PREab and REFab; over the levels they share."""
    banks = len(paths) - 1
    bank_level = np.full((len(COMMANDS), banks + 1, BANK_COMMANDS, banks), NEVER, dtype=np.int64)
    whole = np.full((len(COMMANDS), banks + 1, 2), NEVER, dtype=np.int64)
    shared = (paths[:, None, :] == paths[None, :, :]) & (paths[:, None, :] >= 0)  # [from, to, level]
    for k, before in enumerate(index):
        for a, after in enumerate(index):
            if before < 0 or after < 0:
                continue
            gaps = np.where(shared, tables.gap[:, before, after], NEVER).max(axis=2)
            if a < BANK_COMMANDS:
                bank_level[k, :, a, :] = gaps[:, :banks]
            else:
                whole[k, :, a - BANK_COMMANDS] = gaps[:, banks]
    flat = bank_level.reshape(len(COMMANDS), banks + 1, -1)
    return np.concatenate([flat, whole], axis=2)


def _windows(tables: Tables, index: list[int]) -> NDArray[np.int64]:
    """[W, 5] rules that look back several issues: level, before, after (kernel's numbers), window, gap."""
    at = {c: i for i, c in enumerate(index) if c >= 0}
    rows = [
        (w[0], at[w[1]], at[w[2]], w[4], w[3]) for w in tables.window.tolist() if w[1] in at and w[2] in at
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 5)
