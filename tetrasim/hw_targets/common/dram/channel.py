"""One PIM channel: a device, a dialect of commands, and the programs it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.errors import UserError, nearest
from tetrasim.hw_targets.common.dram import channel_kernel as kernel
from tetrasim.hw_targets.common.dram.channel_kernel import Place
from tetrasim.hw_targets.common.dram.device import Device
from tetrasim.hw_targets.common.dram.program import MAX_DEPTH, Dialect, loops_of
from tetrasim.hw_targets.common.dram.tables import NEVER, Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Channel:
    """A compiled dialect, reduced to the commands in use and to the two nodes that programs address (the
    whole channel and one bank). `drain[c]`: cycles from issue of c to the end of its data; `fixed`: the
    arena's tables, that follow the state; `stride[c]`: distance of equal commands to the whole channel."""

    device: Device
    names: tuple[str, ...]
    part_names: tuple[str, ...]
    place: Place
    fixed: NDArray[np.int64]
    drain: NDArray[np.int64]
    stride: NDArray[np.int64]

    def index(self, name: str) -> int:
        """Number of a command.

        Raises:
            UserError: the dialect does not use it.
        """
        if name not in self.names:
            raise UserError(f"{self.device.name} does not use '{name}' here", hint=nearest(name, self.names))
        return self.names.index(name)

    def steady(self, loops: int) -> NDArray[np.int64]:
        """Room for the repeating iteration of every loop of a set of programs."""
        return np.zeros((max(loops, 1), 2, self.place.state_end), dtype=np.int64)

    def start(self, log_size: int = 0) -> Running:
        """An idle channel at clock 0 (the first command may use clock 1)."""
        o = self.place._replace(log_size=log_size)
        arena = np.zeros(o.log_at + 2 * log_size, dtype=np.int64)
        arena[o.ready_at : o.state_end] = NEVER
        arena[o.state_end : o.log_at] = self.fixed
        arena[kernel.DUE] = o.interval if o.refresh >= 0 else 1 << 60
        arena[kernel.LAST] = arena[kernel.OPEN_ROW] = -1
        saved = np.zeros((MAX_DEPTH, o.state_end), dtype=np.int64)
        return Running(self, o, arena, saved, np.zeros((5, MAX_DEPTH), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Running:
    """A channel in use: its arena changes as programs run."""

    on: Channel
    place: Place
    arena: NDArray[np.int64]
    saved: NDArray[np.int64]
    loops: NDArray[np.int64]

    @property
    def clock(self) -> int:
        """Issue clock of the last command."""
        return int(self.arena[kernel.CLOCK])

    @property
    def last_command(self) -> str:
        """The last command issued, empty before the first."""
        last = int(self.arena[kernel.LAST])
        return self.on.names[last] if last >= 0 else ""

    @property
    def row_hits(self) -> int:
        """Column commands that found their row open."""
        return int(self.arena[kernel.HITS])

    @property
    def open_cycles(self) -> int:
        """Cycles with a row open, up to the last precharge."""
        return int(self.arena[kernel.OPEN_CYCLES])

    @property
    def counts(self) -> dict[str, int]:
        """Issues per command, those that occurred."""
        counts = self.arena[self.place.counts_at : self.place.parts_at]
        return {n: int(c) for n, c in zip(self.on.names, counts, strict=True) if c}

    @property
    def parts(self) -> dict[str, int]:
        """Cycles per part of the time decomposition."""
        cycles = self.arena[self.place.parts_at : self.place.parts_at + len(self.on.part_names)]
        return {n: int(c) for n, c in zip(self.on.part_names, cycles, strict=True)}

    @property
    def log(self) -> list[tuple[int, str]]:
        """(clock, command) of the first `log_size` issues; complete only under `exact_slow`."""
        o = self.place
        rows = self.arena[o.log_at : o.log_at + 2 * int(self.arena[kernel.LOGGED])].reshape(-1, 2)
        return [(int(clock), self.on.names[c]) for clock, c in rows]

    def run(self, program: NDArray[np.int64], start: int = 0) -> int:
        """Run one program from clock `start`; returns the clock at which its last data has arrived."""
        steady = self.on.steady(loops_of(program))
        kernel.begin(start, self.arena, self.place)
        kernel.run_program(program, 0, len(program), self.arena, self.saved, self.loops, steady, self.place)
        return int(kernel.finish(self.on.drain, self.arena, self.place))


def build_channel(
    tables: Tables,
    dialect: Dialect,
    parts: Mapping[str, str],
    part_names: Sequence[str],
    drain: Mapping[str, int] | None = None,
    *,
    exact_slow: bool = False,
) -> Channel:
    """Compile a dialect.

    Args:
        parts: command -> part of the time decomposition that the cycles after it belong to; with the
            dialect's own, these are the commands that programs may use.
        drain: command -> cycles until its data has arrived (0 where not given).
    """
    device = tables.device
    for name in (*dialect.own_commands, *parts):
        device.command(name)
    names = tuple(n for n in tables.names if n in parts or n in dialect.own_commands)
    kept = [tables.index(n) for n in names]
    at = {c: i for i, c in enumerate(kept)}
    gap = tables.gap[:, kept][:, :, kept]
    paths, turns = _paths(tables, dialect)
    if dialect.refresh_interval:
        _check_refresh(tables, names, gap, dialect)
    window = _windows(tables, at)
    windowed = sorted(set(window[:, 1].tolist()))
    own = gap[:, range(len(names)), range(len(names))]  # [L, C]
    stride = np.stack([np.maximum(1, own[[n >= 0 for n in row]].max(axis=0)) for row in paths[:2]])
    stride[:, windowed] = 0
    nodes = {n: i for i, n in enumerate(dict.fromkeys(n for row in paths for n in row if n >= 0))}
    sections = {
        "path": np.array([[nodes.get(n, -1) for n in row] for row in paths]),
        "gap": gap,
        "window": window,
        "window_start": np.searchsorted(window[:, 1], np.arange(len(names) + 1)),
        "slot": np.array([windowed.index(c) if c in windowed else 0 for c in range(len(names))]),
        "mode": np.array([device.command(n).mode for n in names]),
        "part": np.array([part_names.index(parts.get(n, part_names[0])) for n in names]),
        "stride": stride,
        "column": np.array([n in dialect.columns for n in names]),
        "turn": np.array(turns, dtype=np.int64),
    }
    depth = int(window[:, 4].max()) if len(window) else 1
    memory = int(max(gap.max(), window[:, 3].max() if len(window) else 0, 1))
    place = _place(
        names, tables, dialect, sections, (len(nodes), max(len(windowed), 1), depth), len(part_names)
    )
    fixed = np.concatenate([np.asarray(a, dtype=np.int64).ravel() for a in sections.values()])
    return Channel(
        device,
        names,
        tuple(part_names),
        place._replace(fast=int(not exact_slow), memory=memory),
        fixed,
        np.array([(drain or {}).get(n, 0) for n in names], dtype=np.int64),
        stride[0].astype(np.int64),
    )


def _check_refresh(tables: Tables, names: tuple[str, ...], gap: NDArray[np.int64], dialect: Dialect) -> None:
    """Refuse a refresh that takes as long as its interval (of one bank: until the next bank's)."""
    c = names.index(dialect.refresh)
    whole = tables.path[tables.node()] >= 0
    busy = int((gap[whole, c, c] if dialect.refresh_per_bank else gap[:, c, :]).max())
    if busy >= dialect.refresh_interval:
        raise UserError(
            f"a refresh takes {busy} cycles but falls due every {dialect.refresh_interval}",
            where=tables.device.file,
            hint="raise nREFI or lower the refresh time",
        )


def _windows(tables: Tables, at: Mapping[int, int]) -> NDArray[np.int64]:
    """[W, 5] rules that look back several issues, between the commands in use, sorted by `before`."""
    rows = (
        (w[0], at[w[1]], at[w[2]], w[3], w[4]) for w in tables.window.tolist() if {w[1], w[2]} <= at.keys()
    )
    return np.array(sorted(rows, key=lambda w: w[1]), dtype=np.int64).reshape(-1, 5)


def _paths(tables: Tables, dialect: Dialect) -> tuple[list[list[int]], list[int]]:
    """Nodes per level of the addresses in use: the channel, the bank that programs address, and for refresh
    bank by bank the levels that each bank shares with that one; and the address of every bank's turn."""
    first = tables.nodes - tables.device.banks
    paths: list[list[int]] = tables.path[[tables.node(), first]].tolist()
    turns: list[int] = []
    if dialect.refresh_interval and dialect.refresh_per_bank:
        for bank in range(tables.device.banks):
            mine = tables.path[first + bank].tolist()
            shared = [n if n == other else -1 for n, other in zip(mine, paths[1], strict=True)]
            if shared not in paths[1:]:
                paths.append(shared)
            turns.append(paths.index(shared, 1))
    return paths, turns


def _place(
    names: tuple[str, ...],
    tables: Tables,
    dialect: Dialect,
    sections: Mapping[str, NDArray[np.int64]],
    sizes: tuple[int, int, int],
    parts: int,
) -> Place:
    """Lay the arena out: state first, then the sections in their order, then the log."""
    nodes, slots, depth = sizes
    commands = len(names)
    counts_at = kernel.STATE_SIZE
    parts_at = counts_at + commands
    ready_at = parts_at + parts + 1
    history_at = ready_at + nodes * commands
    state_end = history_at + nodes * slots * depth
    at: dict[str, int] = {}
    end = state_end
    for name, section in sections.items():
        at[f"{name}_at"] = end
        end += section.size

    def index(name: str) -> int:
        return names.index(name) if name else -1

    return Place(
        commands=commands,
        levels=tables.path.shape[1],
        nodes=nodes,
        slots=slots,
        depth=depth,
        parts=parts,
        counts_at=counts_at,
        parts_at=parts_at,
        ready_at=ready_at,
        history_at=history_at,
        state_end=state_end,
        activate=index(dialect.activate),
        bank_activate=index(dialect.bank_activate),
        precharge=index(dialect.precharge),
        bank_precharge=index(dialect.bank_precharge),
        activates=dialect.activates,
        switch=index(dialect.mode),
        refresh=index(dialect.refresh) if dialect.refresh_interval else -1,
        turns=sections["turn"].size,
        interval=dialect.refresh_interval,
        postpone=dialect.postpone,
        fast=1,
        memory=1,
        log_at=end,
        log_size=0,
        **at,
    )
