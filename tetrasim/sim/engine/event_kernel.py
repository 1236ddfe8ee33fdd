"""The compiled loop of `events.py`: a binary heap of (time, code) keys, a ready heap per resource.

An event's code is kind * T + task with kinds READY, FREED, DONE. Shared resources keep their tasks in a
rotation; the next completion among n tasks with `left` picoseconds of work each is
min over positions p of (left[p] - 1) * n + p + 1, so whole rounds are skipped exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tetrasim.sim.engine.jit import jit

READY, FREED, DONE = 0, 1, 2
NEVER = 2**62


@jit
def push(
    times: NDArray[np.int64], codes: NDArray[np.int64], base: int, size: int, time: int, code: int
) -> int:
    """Insert into the heap that occupies [base, base + size); returns the new size."""
    at = size
    while at > 0:
        up = (at - 1) // 2
        if (times[base + up], codes[base + up]) <= (time, code):
            break
        times[base + at], codes[base + at] = times[base + up], codes[base + up]
        at = up
    times[base + at], codes[base + at] = time, code
    return size + 1


@jit
def pop(times: NDArray[np.int64], codes: NDArray[np.int64], base: int, size: int) -> int:
    """Remove the smallest key (read it at `base` first); returns the new size."""
    size -= 1
    time, code = times[base + size], codes[base + size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (times[base + right], codes[base + right]) < (
            times[base + down],
            codes[base + down],
        ):
            down = right
        if (time, code) <= (times[base + down], codes[base + down]):
            break
        times[base + at], codes[base + at] = times[base + down], codes[base + down]
        at = down
    times[base + at], codes[base + at] = time, code
    return size


@jit
def next_finish(left: NDArray[np.int64], base: int, n: int) -> int:
    """Ticks until the first task of a rotation is done, NEVER when it is empty."""
    best = NEVER
    for p in range(n):
        best = min(best, int((left[base + p] - 1) * n + p + 1))
    return best


@jit
def turn(members: NDArray[np.int32], left: NDArray[np.int64], base: int, n: int, ticks: int) -> int:
    """Give `ticks` picoseconds round robin to the n members; returns how many are done (moved to the end).

    The member whose turn is next comes first afterwards. At most one finishes, as callers stop there.
    """
    rounds, first = ticks // n, ticks % n
    for p in range(n):
        left[base + p] -= rounds + (1 if p < first else 0)
    for _ in range(first):
        member, work = members[base], left[base]
        for p in range(n - 1):
            members[base + p], left[base + p] = members[base + p + 1], left[base + p + 1]
        members[base + n - 1], left[base + n - 1] = member, work
    for p in range(n):
        if left[base + p] == 0:
            member = members[base + p]
            for q in range(p, n - 1):
                members[base + q], left[base + q] = members[base + q + 1], left[base + q + 1]
            members[base + n - 1], left[base + n - 1] = member, 0
            return 1
    return 0


@jit
def lacking(
    task: int, room: NDArray[np.int64], take_start: NDArray[np.int64], take_store: NDArray[np.int32]
) -> int:
    """Take the task's slots and return -1, or take nothing and return the first store without room."""
    for e in range(take_start[task], take_start[task + 1]):
        room[take_store[e]] -= 1
    for e in range(take_start[task], take_start[task + 1]):
        if room[take_store[e]] < 0:
            short = int(take_store[e])
            for f in range(take_start[task], take_start[task + 1]):
                room[take_store[f]] += 1
            return short
    return -1


class Columns(NamedTuple):
    """What is served: columns of the program and its arbitration, read only."""

    resource: NDArray[np.int32]
    dep_start: NDArray[np.int64]
    dep_index: NDArray[np.int32]
    user_start: NDArray[np.int64]  # CSR of the tasks that wait for a task
    user_index: NDArray[np.int32]
    busy_ps: NDArray[np.int64]
    latency_ps: NDArray[np.int64]
    release_ps: NDArray[np.int64]
    servers: NDArray[np.int32]
    take_start: NDArray[np.int64]
    take_store: NDArray[np.int32]
    give_start: NDArray[np.int64]
    give_store: NDArray[np.int32]


class Outcome(NamedTuple):
    """Written by the kernel; tasks that never start keep -1."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    free: NDArray[np.int64]
    cause: NDArray[np.int8]
    cause_task: NDArray[np.int32]


class Live(NamedTuple):
    """State of the machine between two instants."""

    times: NDArray[np.int64]  # event heap
    codes: NDArray[np.int64]
    events: NDArray[np.int64]  # [1] its size
    base: NDArray[np.int64]  # [resources+1] regions of the next four
    ready_time: NDArray[np.int64]
    ready_task: NDArray[np.int64]
    members: NDArray[np.int32]  # rotation of a shared resource
    left: NDArray[np.int64]  # work left, by position in the rotation
    queued: NDArray[np.int64]
    active: NDArray[np.int64]
    idle: NDArray[np.int64]
    freed_by: NDArray[np.int32]
    room: NDArray[np.int64]
    given_by: NDArray[np.int32]
    held: NDArray[np.int64]  # why a head waits: -1 not at all, 0 for a server, 1 + store for room
    dirty: NDArray[np.bool_]
    waits: NDArray[np.int64]  # dependencies not yet done


@jit
def schedule(live: Live, time: int, code: int) -> None:
    """Add an event."""
    live.events[0] = push(live.times, live.codes, 0, live.events[0], time, code)


@jit
def next_instant(now: int, work: Columns, live: Live) -> int:
    """Time of the next event or completion, NEVER when nothing is left to happen."""
    then = int(live.times[0]) if live.events[0] > 0 else NEVER
    for s in range(len(work.servers)):
        if work.servers[s] == 0 and live.active[s] > 0:
            then = min(then, now + next_finish(live.left, int(live.base[s]), int(live.active[s])))
    return then


@jit
def advance_shared(now: int, then: int, work: Columns, live: Live, out: Outcome) -> None:
    """Let the rotations of shared resources turn until `then`."""
    tasks = len(work.resource)
    for s in range(len(work.servers)):
        if work.servers[s] != 0 or live.active[s] == 0 or then == now:
            continue
        if turn(live.members, live.left, live.base[s], live.active[s], then - now) == 1:
            live.active[s] -= 1
            i = live.members[live.base[s] + live.active[s]]
            out.free[i] = then
            schedule(live, then + work.latency_ps[i] - work.busy_ps[i], DONE * tasks + i)


@jit
def handle_events(now: int, work: Columns, live: Live, out: Outcome) -> None:
    """Everything that ends or becomes ready at `now`."""
    tasks = len(work.resource)
    while live.events[0] > 0 and live.times[0] == now:
        kind, i = live.codes[0] // tasks, live.codes[0] % tasks
        live.events[0] = pop(live.times, live.codes, 0, live.events[0])
        s = work.resource[i]
        if kind == READY:
            live.queued[s] = push(live.ready_time, live.ready_task, live.base[s], live.queued[s], now, i)
            live.dirty[s] = True
        elif kind == FREED:
            live.idle[s] += 1
            live.freed_by[s] = i
            live.dirty[s] = True
        else:
            out.end[i] = now
            for e in range(work.give_start[i], work.give_start[i + 1]):
                live.room[work.give_store[e]] += 1
                live.given_by[work.give_store[e]] = i
                live.dirty[:] = True
            for e in range(work.user_start[i], work.user_start[i + 1]):
                user = work.user_index[e]
                live.waits[user] -= 1
                if live.waits[user] == 0:
                    schedule(live, max(now, work.release_ps[user]), READY * tasks + user)


@jit
def begin(now: int, i: int, work: Columns, live: Live, out: Outcome) -> None:
    """Start task i: occupy a server, or join the rotation."""
    tasks, s = len(work.resource), work.resource[i]
    out.start[i] = now
    if work.servers[s] > 0:
        live.idle[s] -= 1
        out.free[i] = now + work.busy_ps[i]
        schedule(live, out.free[i], FREED * tasks + i)
        schedule(live, now + work.latency_ps[i], DONE * tasks + i)
    elif work.busy_ps[i] == 0:
        out.free[i] = now
        schedule(live, now + work.latency_ps[i], DONE * tasks + i)
    else:
        live.members[live.base[s] + live.active[s]] = i
        live.left[live.base[s] + live.active[s]] = work.busy_ps[i]
        live.active[s] += 1


@jit
def start_ready(now: int, s: int, work: Columns, live: Live, out: Outcome) -> None:
    """Start as many of the resource's ready tasks as servers and stores allow, and note the causes."""
    why, who = 0, -1
    if live.held[s] == 0:
        why, who = 2, live.freed_by[s]
    elif live.held[s] > 0:
        why, who = 3, live.given_by[live.held[s] - 1]
    live.held[s] = -1
    while live.queued[s] > 0:
        i, began = live.ready_task[live.base[s]], live.ready_time[live.base[s]]
        if work.servers[s] > 0 and live.idle[s] == 0:
            live.held[s] = 0
            return
        short = lacking(i, live.room, work.take_start, work.take_store)
        if short >= 0:
            live.held[s] = 1 + short
            return
        live.queued[s] = pop(live.ready_time, live.ready_task, live.base[s], live.queued[s])
        begin(now, i, work, live, out)
        if began < now:
            out.cause[i], out.cause_task[i] = why, who
        elif work.release_ps[i] < now:
            for e in range(work.dep_start[i], work.dep_start[i + 1]):
                if out.end[work.dep_index[e]] == now:
                    out.cause[i], out.cause_task[i] = 1, work.dep_index[e]
                    break


@jit
def serve_events(work: Columns, live: Live, out: Outcome) -> None:
    """Jump from instant to instant until nothing is left to happen."""
    for i in range(len(work.resource)):
        if live.waits[i] == 0:
            schedule(live, work.release_ps[i], i)
    now = 0
    while True:
        then = next_instant(now, work, live)
        if then == NEVER:
            return
        advance_shared(now, then, work, live, out)
        now = then
        handle_events(now, work, live, out)
        for s in range(len(work.servers)):
            if live.dirty[s]:
                live.dirty[s] = False
                start_ready(now, s, work, live, out)
