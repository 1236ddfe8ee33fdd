"""How full each FIFO is over time, from the cycles in which firings started and wrote.

A token enters its FIFO at the end of the cycle in which its firing is `done`, and leaves at the end of the
cycle in which the firing that reads it starts: entries after cycle c are the initial ones plus those written
minus those read up to c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.hw_targets.fpga.dataflow.kernel import Run
    from tetrasim.hw_targets.fpga.dataflow.network import Network, Port


@dataclass(frozen=True, eq=False)
class Occupancy:
    """One FIFO: `entries[i]` from the beginning of cycle `cycle[i]` on."""

    name: str
    depth: int
    cycle: NDArray[np.int64]
    entries: NDArray[np.int64]


def occupancies(network: Network, run: Run, frames: int) -> tuple[Occupancy, ...]:
    """Of every FIFO, over all simulated frames."""
    moves: list[list[tuple[NDArray[np.int64], int]]] = [[] for _ in network.fifos]
    for a, actor in enumerate(network.actors):
        place = slice(int(run.offset[a]), int(run.offset[a + 1]))
        started = run.start[place].reshape(frames, actor.firings)
        written = run.done[place].reshape(frames, actor.firings)
        for port in actor.writes:
            moves[port.fifo].append((_cycles(written, port), 1))
        for port in actor.reads:
            moves[port.fifo].append((_cycles(started, port), -1))
    return tuple(
        Occupancy(fifo.name, fifo.depth, *_sums(moves[f], fifo.initial))
        for f, fifo in enumerate(network.fifos)
    )


def _cycles(of_firings: NDArray[np.int64], port: Port) -> NDArray[np.int64]:
    """Cycles of the firings [frames, firings] that use the port; those that never happened are -1."""
    used = of_firings[:, port.first : port.last : port.stride].reshape(-1)
    return used[used >= 0]


def _sums(
    moves: list[tuple[NDArray[np.int64], int]], initial: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    cycle = np.concatenate([c for c, _ in moves]) if moves else np.zeros(0, np.int64)
    change = np.concatenate([np.full(len(c), sign) for c, sign in moves]) if moves else cycle
    times, which = np.unique(cycle, return_inverse=True)
    total = initial + np.cumsum(np.bincount(which, change, len(times)).astype(np.int64))
    return np.concatenate([[0], times + 1]), np.concatenate([[initial], total])
