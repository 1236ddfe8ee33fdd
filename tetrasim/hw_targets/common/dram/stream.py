"""In-order command streams: every command issues at the first legal clock after the one before it.

`open_page` turns read and write requests into commands (precharge on a row conflict, activate on a miss,
rows stay open); `issue` gives each command its clock; `run_requests` does both with refresh in time: a
refresh that fell due goes before the next request that needs a row opened anyway, or before the next request
of any kind once more than `postpone` intervals are owed. The clock is never ticked, so the cost is per
command, whatever the gaps (`stream_kernel.py`).

Long streams can be run piece by piece: `Stream` keeps open rows, past issues and the clock between pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram import stream_kernel as kernel
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, Refresh, RefreshMode
from tetrasim.hw_targets.common.dram.stream_kernel import Place
from tetrasim.hw_targets.common.dram.tables import NEVER, Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRONT = ("ACT", "PREpb", "RD", "WR", "PREab", "REFab", "REFpb")
_ALIAS = {"PREab": "PREA"}  # the AiM dialect's name


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
    """Bank requests in program order; `bank` counts banks of the channel, depth first. Every `refresh_every`
    requests (0: never) all banks are refreshed, or in mode per_bank the next bank in turn."""

    bank: NDArray[np.int32]
    row: NDArray[np.int32]
    write: NDArray[np.bool_]
    refresh_every: int = 0
    refresh_mode: RefreshMode = RefreshMode.ALL_BANK


@dataclass(eq=False)
class Stream:
    """A device in use by an in-order stream of `commands`: what was issued so far."""

    tables: Tables
    commands: tuple[str, ...]
    first_clock: int = 0
    arena: NDArray[np.int64] = field(init=False)
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        arena, self.place = _arena(self.tables, self.commands)
        self.arena = arena.copy()
        self.arena[kernel.CLOCK] = self.first_clock - 1

    def commands_of(self, requests: Requests) -> Commands:
        """Commands of the next requests under an open-page policy.

        Raises:
            UserError: the device lacks a command that is needed.
        """
        mode = requests.refresh_mode if requests.refresh_every else RefreshMode.NONE
        command, node, row, used = kernel.open_page(
            requests.bank,
            requests.row,
            requests.write,
            requests.refresh_every,
            int(mode is RefreshMode.PER_BANK),
            _front(self.tables, mode),
            self.arena,
            self.place,
        )
        return Commands(command[:used], node[:used], row[:used])

    def issue(self, commands: Commands) -> NDArray[np.int64]:
        """Issue clock of every command."""
        return kernel.issue(commands.command, commands.node, self.arena, self.place)

    def run(self, requests: Requests, refresh: Refresh) -> tuple[Commands, NDArray[np.int64]]:
        """Commands and clocks of the next requests, with refresh in time.

        Raises:
            UserError: the device lacks a command that is needed, or refreshes take all its time.
        """
        check_refresh(self.tables, refresh)
        out, clock, used = kernel.run_requests(
            requests.bank,
            requests.row,
            requests.write,
            (refresh.interval, refresh.postpone, int(refresh.mode is RefreshMode.PER_BANK)),
            _front(self.tables, refresh.mode),
            self.arena,
            self.place,
        )
        return Commands(*out[:, :used]), clock[:used]


def front_commands(tables: Tables, mode: RefreshMode = RefreshMode.NONE) -> tuple[str, ...]:
    """Commands of the device that the open-page front end may make."""
    more = {RefreshMode.ALL_BANK: ("PREab", "REFab"), RefreshMode.PER_BANK: ("REFpb",)}
    return tuple(_named(tables, n) for n in ("ACT", "PREpb", "RD", "WR", *more.get(mode, ())))


def _named(tables: Tables, name: str) -> str:
    return _ALIAS.get(name, name) if name not in tables.names else name


def open_page(requests: Requests, tables: Tables) -> Commands:
    """Commands of `requests` under an open-page policy, with a refresh every so many requests."""
    mode = requests.refresh_mode if requests.refresh_every else RefreshMode.NONE
    return Stream(tables, front_commands(tables, mode)).commands_of(requests)


def issue(commands: Commands, tables: Tables, first_clock: int = 0) -> NDArray[np.int64]:
    """Issue clock of every command; the first may use `first_clock`."""
    used = np.flatnonzero(np.bincount(commands.command, minlength=len(tables.names)))
    return Stream(tables, tuple(tables.names[c] for c in used), first_clock).issue(commands)


def run_requests(
    requests: Requests, tables: Tables, refresh: Refresh = NO_REFRESH
) -> tuple[Commands, NDArray[np.int64]]:
    """Commands of `requests` and their issue clocks, with refresh in time."""
    return Stream(tables, front_commands(tables, refresh.mode)).run(requests, refresh)


def checksum(clocks: NDArray[np.int64], c: int = 0) -> int:
    """`c = (31 c + clock) mod 2**31` over all clocks: one number that pins down every issue clock."""
    return int(kernel.checksum(clocks, c))


def check_refresh(tables: Tables, refresh: Refresh) -> None:
    """Refuse a refresh that leaves no time for anything else.

    Raises:
        UserError: it takes as long as its interval, or the device lacks the command.
    """
    if not refresh.interval:
        return
    c = tables.index(refresh.command)
    whole = tables.path[tables.node()] >= 0
    per_bank = refresh.mode is RefreshMode.PER_BANK  # of one bank, others go on: distance to the next bank
    busy = max(int((tables.gap[whole, c, c] if per_bank else tables.gap[:, c, :]).max()), 1)
    if busy >= refresh.interval:
        raise UserError(
            f"a refresh takes {busy} cycles but falls due every {refresh.interval}",
            where=tables.device.file or tables.device.name,
            hint="raise the refresh interval or lower the refresh time",
        )


def _front(tables: Tables, mode: RefreshMode) -> NDArray[np.int32]:
    """Numbers of the commands that the front end makes, -1 where the device has none."""
    for name in front_commands(tables, mode):
        tables.device.command(name)
    names = [_named(tables, n) for n in _FRONT]
    return np.array([tables.names.index(n) if n in tables.names else -1 for n in names], dtype=np.int32)


def _levels(path: NDArray[np.int32]) -> list[int]:
    """For every level the innermost that divides the banks alike: its rules count as rules of that one."""
    kinds = path.shape[1]
    nodes = [len({int(n) for n in path[:, level] if n >= 0}) for level in range(kinds)]
    return [max(k for k in range(level, kinds) if nodes[k] == nodes[level]) for level in range(kinds)]


def _rules(tables: Tables, c: int, used: set[int]) -> list[tuple[int, int, int, int]]:
    """(level, before, window, gap) of the rules that may hold command `c` back, without those that another
    one implies: an outer level's with the same or a larger gap, or the order of the stream."""
    same = _levels(tables.path)
    found: dict[tuple[int, int, int], int] = {}
    for level, into in enumerate(same):
        for before in used:
            gap = int(tables.gap[level, before, c])
            found[into, before, 1] = max(gap, found.get((into, before, 1), NEVER))
    for level, before, after, gap, window in tables.window.tolist():
        if after == c and before in used:
            key = (same[level], before, window)
            found[key] = max(gap, found.get(key, NEVER))
    out = []
    for (level, before, window), gap in sorted(found.items()):
        implied = [g for (at, b, w), g in found.items() if at < level and b == before and w <= window]
        if before == c and window > 1:  # so many steps of the same command
            implied += [g * window for (at, b, w), g in found.items() if at <= level and b == c and w == 1]
        if gap > max([1, *implied]):
            out.append((level, before, window, gap))
    return out


@lru_cache(maxsize=64)
def _arena(tables: Tables, names: tuple[str, ...]) -> tuple[NDArray[np.int64], Place]:
    """The kernel's tables for streams of the commands `names`."""
    commands, banks = len(tables.names), tables.device.banks
    used = {tables.index(n) for n in names}
    last_at = kernel.STATE_SIZE
    ring_at = last_at + tables.nodes * commands
    rules = [_rules(tables, c, used) for c in range(commands)]
    back = {(level, before) for rule in rules for level, before, window, _ in rule if window == 1}
    far = {(level, before) for rule in rules for level, before, window, _ in rule if window > 1}
    rows: dict[str, list[list[int]]] = {"pair": [], "mark": [], "ring": []}
    for node in range(tables.nodes):
        path = tables.path[node].tolist()
        for c in range(commands):
            pairs: list[int] = []
            for level, before, window, gap in rules[c] if c in used else ():
                if path[level] >= 0:
                    cell = path[level] * commands + before
                    place = last_at + cell if window == 1 else ring_at + cell * tables.depth + window - 1
                    pairs += [place, gap]
            rows["pair"].append(pairs)
            rows["mark"].append(
                [last_at + n * commands + c for at, n in enumerate(path) if (at, c) in back and n >= 0]
            )
            rows["ring"].append(
                [
                    ring_at + (n * commands + c) * tables.depth
                    for at, n in enumerate(path)
                    if (at, c) in far and n >= 0
                ]
            )
    parts = [np.zeros(kernel.STATE_SIZE), np.full(tables.nodes * commands * (1 + tables.depth), NEVER)]
    opened = ring_at + tables.nodes * commands * tables.depth
    parts.append(np.full(banks, -1))
    end = opened + banks
    starts: dict[str, int] = {}
    for name, lines in rows.items():
        starts[name] = end
        first = end + len(lines) + 1
        bounds = first + np.concatenate([[0], np.cumsum([len(line) for line in lines])])
        parts += [bounds, np.array([x for line in lines for x in line])]
        end = int(bounds[-1])
    arena = np.concatenate(parts).astype(np.int64)
    return arena, Place(
        commands=commands,
        banks=banks,
        first_bank=tables.nodes - banks,
        channel=tables.node(),
        depth=tables.depth,
        opened=opened,
        pair_start=starts["pair"],
        mark_start=starts["mark"],
        ring_start=starts["ring"],
    )
