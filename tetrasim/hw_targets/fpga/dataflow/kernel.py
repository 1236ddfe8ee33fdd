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
def _run(  # noqa: C901, PLR0912, PLR0915 - one loop: calls and array views would cost most of its time
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
    total = firings * frames
    step = np.zeros(actors, np.int64)  # pipeline steps made: freezes do not count
    ready_step = np.zeros(actors, np.int64)  # step from which the next firing may enter
    oldest = np.zeros(actors, np.int64)  # first firing still in the pipeline
    enters = np.zeros(actors, np.int64)  # firing within the frame that enters next
    exits = np.zeros(actors, np.int64)  # firing within the frame that leaves next
    leaves = np.zeros(len(start), np.int64)  # step in which a firing is in the last stage
    readable = np.zeros(fifos, np.int64)
    late = np.zeros(fifos, np.int64)  # written in the cycle before into a RAM FIFO: readable next cycle
    pushed, popped = np.zeros(fifos, np.int64), np.zeros(fifos, np.int64)
    touched = np.zeros(4 * fifos, np.int64)  # FIFOs with something to settle at the end of the cycle
    waiting = np.zeros(2 * fifos, np.int64)  # RAM FIFOs with a token on its way
    alive = np.arange(actors)
    for f in range(fifos):
        count[f] = highest[f] = readable[f] = initial[f]
    left, cycle, on_the_way = actors, 0, 0
    while left > 0 and cycle < limit:
        changed = on_the_way > 0
        event = changed  # a firing, a write or a token on its way: more than counters
        jump = limit
        moved = 0
        kept = 0
        for n in range(left):
            a = alive[n]
            alive[kept] = a
            kept += 1
            now, base = step[a], offset[a]
            if oldest[a] < fired[a] and leaves[base + oldest[a]] == now:
                firing = exits[a]
                full = False
                for p in range(write_start[a], write_start[a + 1]):
                    first = write_port[p, 1]
                    if first <= firing < write_port[p, 2]:
                        stride = write_port[p, 3]
                        if stride == 1 or (firing - first) % stride == 0:
                            f = write_port[p, 0]
                            if count[f] >= depth[f]:
                                full = True
                                break
                if full:
                    blocked[a] += 1
                    continue
                for p in range(write_start[a], write_start[a + 1]):
                    first = write_port[p, 1]
                    if first <= firing < write_port[p, 2]:
                        stride = write_port[p, 3]
                        if stride == 1 or (firing - first) % stride == 0:
                            f = write_port[p, 0]
                            pushed[f] += 1
                            touched[moved] = f
                            moved += 1
                done[base + oldest[a]] = cycle
                oldest[a] += 1
                exits[a] = 0 if firing + 1 == firings[a] else firing + 1
                changed = event = True
                if oldest[a] == total[a]:
                    kept -= 1
                    continue
            if fired[a] < total[a]:
                if now >= ready_step[a]:
                    firing = enters[a]
                    empty = False
                    for p in range(read_start[a], read_start[a + 1]):
                        first = read_port[p, 1]
                        if first <= firing < read_port[p, 2]:
                            stride = read_port[p, 3]
                            used = stride == 1 or (firing - first) % stride == 0
                            if used and readable[read_port[p, 0]] == 0:
                                empty = True
                                break
                    if empty:
                        starved[a] += 1
                    else:
                        for p in range(read_start[a], read_start[a + 1]):
                            first = read_port[p, 1]
                            if first <= firing < read_port[p, 2]:
                                stride = read_port[p, 3]
                                if stride == 1 or (firing - first) % stride == 0:
                                    f = read_port[p, 0]
                                    popped[f] += 1
                                    touched[moved] = f
                                    moved += 1
                        at = base + fired[a]
                        start[at] = cycle
                        leaves[at] = now + latency[a]
                        ready_step[a] = now + ii[a]
                        fired[a] += 1
                        enters[a] = 0 if firing + 1 == firings[a] else firing + 1
                        changed = event = True
                else:
                    changed = True
                    jump = min(jump, ready_step[a] - now)
            if oldest[a] < fired[a]:
                changed = True
                jump = min(jump, leaves[base + oldest[a]] - now)
            step[a] = now + 1
        left = kept
        for n in range(on_the_way):
            f = waiting[n]
            readable[f] += late[f]
            late[f] = 0
        on_the_way = 0
        for n in range(moved):
            f = touched[n]
            if pushed[f] > 0 or popped[f] > 0:
                count[f] += pushed[f] - popped[f]
                readable[f] -= popped[f]
                if raw[f] == 1:
                    readable[f] += pushed[f]
                elif pushed[f] > 0:
                    late[f] = pushed[f]
                    waiting[on_the_way] = f
                    on_the_way += 1
                pushed[f] = popped[f] = 0
                highest[f] = max(highest[f], count[f])
        cycle += 1
        if not changed:
            return 1, cycle
        if skip_idle and not event and 1 < jump < limit:
            for n in range(left):
                a = alive[n]
                if oldest[a] < fired[a] and leaves[offset[a] + oldest[a]] == step[a]:
                    blocked[a] += jump - 1  # frozen: its step stands still
                    continue
                if fired[a] < total[a] and step[a] >= ready_step[a]:
                    starved[a] += jump - 1
                step[a] += jump - 1
            cycle += jump - 1
    if left > 0:
        return 2, cycle
    return 0, cycle
