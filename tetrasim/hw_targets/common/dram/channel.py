"""One PIM channel: a device, a dialect of commands, and the programs it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.dram import channel_kernel as kernel
from tetrasim.hw_targets.common.dram.channel_kernel import State, Wires
from tetrasim.hw_targets.common.dram.program import Dialect
from tetrasim.hw_targets.common.dram.tables import Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Channel:
    """A compiled dialect; `drain[c]`: cycles from issue of c to the end of its data."""

    tables: Tables
    part_names: tuple[str, ...]
    wires: Wires
    drain: NDArray[np.int64]

    def start(self, log_size: int = 0) -> State:
        """An idle channel at clock 0 (the first command may use clock 1)."""
        vector = np.zeros(kernel.STATE_SIZE, dtype=np.int64)
        vector[kernel.DUE] = self.wires.interval if self.wires.refresh >= 0 else 1 << 60
        vector[kernel.LAST] = vector[kernel.OPEN_ROW] = -1
        ready, history = self.tables.fresh()
        return State(
            vector,
            ready,
            history,
            np.zeros(len(self.tables.names), dtype=np.int64),
            np.zeros(len(self.part_names) + 1, dtype=np.int64),
            np.zeros((log_size, 2), dtype=np.int64),
        )

    def scratch(self) -> State:
        """Room for one saved state per loop depth."""
        one = self.start()
        return State(*(np.stack([a] * kernel.MAX_DEPTH) for a in one[:-1]), one.log)


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
        parts: command -> part of the time decomposition that the cycles after it belong to.
        drain: command -> cycles until its data has arrived (0 where not given).
    """
    names = tables.names
    device = tables.device
    modes = np.array([c.mode for c in device.commands], dtype=np.int64)
    stride = np.ones(len(names), dtype=np.int64)
    for c in range(len(names)):
        windowed = bool((tables.window[:, 1] == c).any())
        stride[c] = 0 if windowed else max(1, int(tables.gap[:, c, c].max()))
    largest = int(max(tables.gap.max(), tables.window[:, 3].max() if len(tables.window) else 0, 1))
    wires = Wires(
        path=tables.path,
        gap=tables.gap,
        window=tables.window,
        window_start=tables.window_start,
        node=np.array([tables.node(), tables.nodes - device.banks], dtype=np.int64),
        mode=modes,
        part=np.array([part_names.index(parts.get(n, part_names[0])) for n in names], dtype=np.int64),
        stride=stride,
        column=np.array([n in dialect.columns for n in names], dtype=np.int64),
        activate=np.array([tables.index(n) for n in (dialect.activate, dialect.bank_activate)]),
        activates=dialect.activates,
        precharge=np.array([tables.index(n) for n in (dialect.precharge, dialect.bank_precharge)]),
        switch=tables.index(dialect.mode) if dialect.mode else -1,
        refresh=tables.index(dialect.refresh) if dialect.refresh_interval else -1,
        interval=dialect.refresh_interval,
        postpone=dialect.postpone,
        fast=not exact_slow,
        memory=largest,
    )
    drains = np.array([(drain or {}).get(n, 0) for n in names], dtype=np.int64)
    return Channel(tables, tuple(part_names), wires, drains)


def run(
    program: NDArray[np.int64], on: Channel, state: State, start: int = 0, scratch: State | None = None
) -> int:
    """Run one program from clock `start`; returns the clock at which its last data has arrived."""
    kernel.begin(start, on.wires, state)
    kernel.run_program(program, 0, len(program), on.wires, state, scratch or on.scratch())
    return kernel.finish(on.drain, state)
