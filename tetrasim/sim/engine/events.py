"""Arbitration at run time: who is served is decided by who is ready, not by program order.

Each resource serves its ready tasks in order of (ready time, task number). It has one or more servers, or is
shared: then every task in service advances by one picosecond of work in turn (round robin, the arbiter of a
bus; n tasks each get 1/n of the bandwidth). Bounded stores model FIFOs and buffers with back-pressure: a task
takes slots when it starts and gives slots back when its result is ready; a head of queue that lacks room
blocks those behind it.

The kernel jumps from event to event; within one instant it first handles all ends, then all starts, resource
by resource. Tests compare it with a loop over single picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.event_kernel import Columns, Live, Outcome, serve_events
from tetrasim.sim.engine.program import Program, ProgramError
from tetrasim.sim.engine.static import durations_ps
from tetrasim.sim.engine.timeline import Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARED = 0


@dataclass(frozen=True, eq=False)
class Arbitration:
    """How the resources of a program arbitrate; S stores. Takes and gives are CSR over tasks; a store
    listed twice counts two slots."""

    servers: NDArray[np.int32]  # [resources] tasks served at a time; SHARED: all, round robin
    capacity: NDArray[np.int64]  # [S] slots
    take_start: NDArray[np.int64]  # [T+1]
    take_store: NDArray[np.int32]
    give_start: NDArray[np.int64]  # [T+1]
    give_store: NDArray[np.int32]


def arbitration(
    program: Program,
    servers: dict[str, int] | None = None,
    stores: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...] = (),
) -> Arbitration:
    """Arbitration of `program`.

    Args:
        servers: resource name -> servers (default 1), or `SHARED`.
        stores: per bounded store (slots, tasks that take one, tasks that give one back).
    """
    known = dict.fromkeys((r.name for r in program.resources), 1) | (servers or {})
    takes: list[list[int]] = [[] for _ in range(program.tasks)]
    gives: list[list[int]] = [[] for _ in range(program.tasks)]
    for s, (_, takers, givers) in enumerate(stores):
        for task in takers:
            takes[task].append(s)
        for task in givers:
            gives[task].append(s)
    return Arbitration(
        np.array([known[r.name] for r in program.resources], dtype=np.int32),
        np.array([slots for slots, _, _ in stores], dtype=np.int64),
        *_csr(takes),
        *_csr(gives),
    )


def _csr(rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return _offsets(np.array([len(row) for row in rows], np.int64)), np.array(
        [x for row in rows for x in row], dtype=np.int32
    )


def run_events(program: Program, how: Arbitration) -> Timeline:
    """Serve the program with run-time arbitration; `free_ps - start_ps` of a task on a shared resource
    includes the turns of the others.

    Raises:
        ProgramError: a deadlock, naming the first task that never starts and what it waits for.
    """
    out = _serve(program, how)
    if (out.start < 0).any():
        raise ProgramError(_deadlock(program, how, out))
    return Timeline(*out)


def _serve(program: Program, how: Arbitration) -> Outcome:
    busy, latency = durations_ps(program)
    t, resources = program.tasks, len(program.resources)
    order = np.argsort(program.dep_index, kind="stable")
    owner = np.repeat(np.arange(t, dtype=np.int32), np.diff(program.dep_start))
    work = Columns(
        resource=program.resource,
        dep_start=program.dep_start,
        dep_index=program.dep_index,
        user_start=_offsets(np.bincount(program.dep_index, minlength=t)),
        user_index=owner[order],
        busy_ps=busy,
        latency_ps=latency,
        release_ps=np.zeros(t, np.int64) if program.release_ps is None else program.release_ps,
        servers=how.servers,
        take_start=how.take_start,
        take_store=how.take_store,
        give_start=how.give_start,
        give_store=how.give_store,
    )
    live = Live(
        times=np.empty(3 * t, np.int64),
        codes=np.empty(3 * t, np.int64),
        events=np.zeros(1, np.int64),
        base=_offsets(np.bincount(program.resource, minlength=resources)),
        ready_time=np.empty(t, np.int64),
        ready_task=np.empty(t, np.int64),
        members=np.empty(t, np.int32),
        left=np.empty(t, np.int64),
        queued=np.zeros(resources, np.int64),
        active=np.zeros(resources, np.int64),
        idle=how.servers.astype(np.int64),
        freed_by=np.full(resources, -1, np.int32),
        room=how.capacity.copy(),
        given_by=np.full(len(how.capacity), -1, np.int32),
        held=np.full(resources, -1, np.int64),
        dirty=np.zeros(resources, np.bool_),
        waits=np.diff(program.dep_start),
    )
    unset = np.full(t, -1, np.int64)
    out = Outcome(unset, unset.copy(), unset.copy(), np.zeros(t, np.int8), np.full(t, -1, np.int32))
    serve_events(work, live, out)
    return out


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts -> CSR offsets."""
    out: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return out


def _deadlock(program: Program, how: Arbitration, out: Outcome) -> str:
    stuck = np.flatnonzero(out.start < 0)
    for i in stuck:
        if (out.end[program.dep_index[program.dep_start[i] : program.dep_start[i + 1]]] >= 0).all():
            stores = how.take_store[how.take_start[i] : how.take_start[i + 1]]
            name = program.resources[program.resource[i]].name
            waits = f"room in store {', '.join(map(str, stores))}" if len(stores) else "the head of its queue"
            return f"deadlock: task {i} on {name} waits for {waits} ({len(stuck)} tasks never start)"
    return f"deadlock: {len(stuck)} tasks never start"
