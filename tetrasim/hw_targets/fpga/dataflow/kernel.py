"""The cycle-accurate loop: every decision of a cycle is taken on the state at its start.

Per cycle and actor: if the firing in the last pipeline stage must write to a full FIFO, the whole pipeline
freezes. Otherwise it advances by one stage, that firing writes its tokens, and a new firing may enter when
the
initiation interval has passed and every FIFO it reads has a readable token. When a cycle changes nothing, no
later cycle can: that is a deadlock (an advancing pipeline, a running interval counter and a token on its way
through a RAM FIFO all count as change). `skip_idle` jumps over cycles in which only counters advance: exact,
and switchable so that a test can assert it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.fpga.dataflow.network import Network, Port
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

DONE, DEADLOCK, LIMIT = 0, 1, 2
MAX_CYCLES = 1 << 40


@dataclass(frozen=True, eq=False)
class Run:
    """What happened. Firings of actor a are `offset[a] + k`, k counting over all frames."""

    status: int
    cycles: int
    offset: NDArray[np.int64]  # [A+1]
    start: NDArray[np.int64]  # [firings] cycle the firing entered, -1: never
    done: NDArray[np.int64]  # [firings] cycle its tokens were written (start + latency, plus freezes)
    fired: NDArray[np.int64]  # [A]
    highest: NDArray[np.int64]  # [FIFOs] highest occupancy seen
    occupancy: NDArray[np.int64]  # [FIFOs] at the end
    starved: NDArray[np.int64]  # [A] cycles an actor was ready but an input was empty
    blocked: NDArray[np.int64]  # [A] cycles its pipeline was frozen by a full output

    @property
    def deadlocked(self) -> bool:
        return self.status == DEADLOCK


def simulate(network: Network, frames: int = 1, *, skip_idle: bool = True, limit: int = MAX_CYCLES) -> Run:
    """Run `frames` inferences back to back until every actor has fired all its firings, or nothing can
    move."""
    reads = _ports([a.reads for a in network.actors])
    writes = _ports([a.writes for a in network.actors])
    firings = np.array([a.firings for a in network.actors], np.int64)
    offset = np.zeros(len(firings) + 1, np.int64)
    np.cumsum(firings * frames, out=offset[1:])
    start = np.full(int(offset[-1]), -1, np.int64)
    done = np.full(int(offset[-1]), -1, np.int64)
    counts = len(network.fifos)
    fired = np.zeros(len(firings), np.int64)
    highest, occupancy = np.zeros(counts, np.int64), np.zeros(counts, np.int64)
    starved, blocked = np.zeros(len(firings), np.int64), np.zeros(len(firings), np.int64)
    status, cycles = _run(
        np.array([a.ii for a in network.actors], np.int64),
        np.array([a.latency for a in network.actors], np.int64),
        firings,
        frames,
        *reads,
        *writes,
        np.array([f.depth for f in network.fifos], np.int64),
        np.array([f.initial for f in network.fifos], np.int64),
        np.array([f.read_after_write for f in network.fifos], np.int64),
        offset,
        start,
        done,
        fired,
        highest,
        occupancy,
        starved,
        blocked,
        skip_idle,
        limit,
    )
    return Run(int(status), int(cycles), offset, start, done, fired, highest, occupancy, starved, blocked)


def _ports(rows: list[tuple[Port, ...]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """CSR of ports: row starts, and [fifo, first, last, stride] per port."""
    start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(r) for r in rows], out=start[1:])
    flat = [(p.fifo, p.first, p.last, p.stride) for r in rows for p in r]
    return start, np.array(flat, np.int64).reshape(len(flat), 4)


@jit
def _uses(port: NDArray[np.int64], firing: int) -> bool:
    return bool(port[1] <= firing < port[2] and (firing - port[1]) % port[3] == 0)


@jit
def _run(  # noqa: C901, PLR0912, PLR0915 - one loop: numba inlines no array views
    ii: NDArray[np.int64],
    latency: NDArray[np.int64],
    firings: NDArray[np.int64],
    frames: int,
    read_start: NDArray[np.int64],
    read_port: NDArray[np.int64],
    write_start: NDArray[np.int64],
    write_port: NDArray[np.int64],
    depth: NDArray[np.int64],
    initial: NDArray[np.int64],
    raw: NDArray[np.int64],
    offset: NDArray[np.int64],
    start: NDArray[np.int64],
    done: NDArray[np.int64],
    fired: NDArray[np.int64],
    highest: NDArray[np.int64],
    count: NDArray[np.int64],
    starved: NDArray[np.int64],
    blocked: NDArray[np.int64],
    skip_idle: bool,
    limit: int,
) -> tuple[int, int]:
    actors, fifos = len(ii), len(depth)
    step = np.zeros(actors, np.int64)  # pipeline steps made: freezes do not count
    ready_step = np.zeros(actors, np.int64)  # step from which the next firing may enter
    oldest = np.zeros(actors, np.int64)  # first firing still in the pipeline
    leaves = np.zeros(len(start), np.int64)  # step in which a firing is in the last stage
    readable = np.zeros(fifos, np.int64)
    late = np.zeros(fifos, np.int64)  # written in the cycle before into a RAM FIFO: readable next cycle
    pushed, popped = np.zeros(fifos, np.int64), np.zeros(fifos, np.int64)
    for f in range(fifos):
        count[f] = highest[f] = readable[f] = initial[f]
    left = actors
    cycle = 0
    while left > 0 and cycle < limit:
        changed = False  # anything at all
        event = False  # a firing or a write: more than counters
        jump = limit
        for a in range(actors):
            base = offset[a]
            total = firings[a] * frames
            if oldest[a] == total:
                continue
            leaving = oldest[a] < fired[a] and leaves[base + oldest[a]] == step[a]
            if leaving:
                firing = oldest[a] % firings[a]
                full = False
                for p in range(write_start[a], write_start[a + 1]):
                    if _uses(write_port[p], firing) and count[write_port[p, 0]] >= depth[write_port[p, 0]]:
                        full = True
                if full:
                    blocked[a] += 1
                    continue
                for p in range(write_start[a], write_start[a + 1]):
                    if _uses(write_port[p], firing):
                        pushed[write_port[p, 0]] += 1
                done[base + oldest[a]] = cycle
                oldest[a] += 1
                changed = event = True
                if oldest[a] == total:
                    left -= 1
            if fired[a] < total:
                if step[a] >= ready_step[a]:
                    firing = fired[a] % firings[a]
                    empty = False
                    for p in range(read_start[a], read_start[a + 1]):
                        if _uses(read_port[p], firing) and readable[read_port[p, 0]] == 0:
                            empty = True
                    if empty:
                        starved[a] += 1
                    else:
                        for p in range(read_start[a], read_start[a + 1]):
                            if _uses(read_port[p], firing):
                                popped[read_port[p, 0]] += 1
                        start[base + fired[a]] = cycle
                        leaves[base + fired[a]] = step[a] + latency[a]
                        ready_step[a] = step[a] + ii[a]
                        fired[a] += 1
                        changed = event = True
                else:
                    changed = True
                    jump = min(jump, ready_step[a] - step[a])
            if oldest[a] < fired[a]:
                changed = True
                jump = min(jump, leaves[base + oldest[a]] - step[a])
            step[a] += 1
        for f in range(fifos):
            if late[f] > 0:
                readable[f] += late[f]
                late[f] = 0
                changed = event = True
            if pushed[f] > 0 or popped[f] > 0:
                count[f] += pushed[f] - popped[f]
                readable[f] -= popped[f]
                if raw[f] == 1:
                    readable[f] += pushed[f]
                else:
                    late[f] = pushed[f]
                pushed[f] = popped[f] = 0
                highest[f] = max(highest[f], count[f])
        cycle += 1
        if not changed:
            return 1, cycle
        if skip_idle and not event and jump > 1 and jump < limit:
            for a in range(actors):
                _idle(
                    a,
                    jump - 1,
                    step,
                    ready_step,
                    oldest,
                    fired,
                    leaves,
                    offset,
                    firings,
                    frames,
                    starved,
                    blocked,
                )
            cycle += jump - 1
    if left > 0:
        return 2, cycle
    return 0, cycle


@jit
def _idle(
    a: int,
    cycles: int,
    step: NDArray[np.int64],
    ready_step: NDArray[np.int64],
    oldest: NDArray[np.int64],
    fired: NDArray[np.int64],
    leaves: NDArray[np.int64],
    offset: NDArray[np.int64],
    firings: NDArray[np.int64],
    frames: int,
    starved: NDArray[np.int64],
    blocked: NDArray[np.int64],
) -> None:
    """`cycles` cycles in which nothing fires or writes: frozen actors stay, the others count."""
    total = firings[a] * frames
    if oldest[a] == total:
        return
    if oldest[a] < fired[a] and leaves[offset[a] + oldest[a]] == step[a]:
        blocked[a] += cycles
        return
    if fired[a] < total and step[a] >= ready_step[a]:
        starved[a] += cycles
    step[a] += cycles
