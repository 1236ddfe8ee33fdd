"""In-order service: a max-plus recurrence over the tasks of a program.

Each resource serves its tasks in program order, one at a time; a task starts at the latest of its release
time, the ends of its dependencies and the moment its resource is free (Kelley and Walker's critical-path
method with resources as extra edges). Exact where each resource serves in program order.

One kernel serves R runs of the same structure at once (R = 1 for a single program): only durations differ.
A tie keeps the first of release, dependencies (in their order), resource.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.sim.engine.jit import jit
from tetrasim.sim.engine.timeline import CriticalPath, Timeline
from tetrasim.units import PS_PER_S, cycles_to_ps_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.engine.program import Program


@jit
def serve_rows(
    resource: NDArray[np.int32],
    resources: int,
    dep_start: NDArray[np.int64],
    dep_index: NDArray[np.int32],
    busy_ps: NDArray[np.int64],
    latency_ps: NDArray[np.int64],
    release_ps: NDArray[np.int64],
    start: NDArray[np.int64],
    cause_task: NDArray[np.int32],
    cause: NDArray[np.int8],
) -> None:
    """Fill `start`, `cause`, `cause_task` [R, T] from `busy_ps`, `latency_ps`, `release_ps` [R, T]."""
    rows, tasks = busy_ps.shape
    free = np.zeros(resources, dtype=np.int64)
    last = np.full(resources, -1, dtype=np.int32)
    for r in range(rows):
        free[:] = 0
        last[:] = -1
        for i in range(tasks):
            begin, why, who = release_ps[r, i], 0, -1
            for e in range(dep_start[i], dep_start[i + 1]):
                d = dep_index[e]
                ready = start[r, d] + latency_ps[r, d]
                if ready > begin:
                    begin, why, who = ready, 1, d
            s = resource[i]
            if free[s] > begin:
                begin, why, who = free[s], 2, last[s]
            start[r, i] = begin
            cause[r, i] = why
            cause_task[r, i] = who
            free[s] = begin + busy_ps[r, i]
            last[s] = i


@jit
def walk_path(
    start: NDArray[np.int64],
    latency_ps: NDArray[np.int64],
    cause_task: NDArray[np.int32],
    tasks_out: NDArray[np.int32],
    advance_out: NDArray[np.int64],
) -> int:
    """Follow causes back from the first task that ends last; returns the length K of the path.

    The path is written to the last K entries of the outputs, in time order; advances sum to the total.
    """
    tasks = len(start)
    if tasks == 0:
        return 0
    here, best = 0, np.int64(-1)
    for i in range(tasks):
        if start[i] + latency_ps[i] > best:
            here, best = i, start[i] + latency_ps[i]
    until = best
    at = tasks
    while here >= 0:
        at -= 1
        tasks_out[at] = here
        advance_out[at] = until - start[here]
        until = start[here]
        here = cause_task[here]
    advance_out[at] += until  # the first task's release time
    return tasks - at


def durations_ps(program: Program) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Busy time and latency of every task in picoseconds, each rounded once per task."""
    return to_ps(program, program.busy_cycles), to_ps(program, program.latency_cycles)


def to_ps(program: Program, cycles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cycles [..., T] or [T] of each task's own clock as picoseconds."""
    distinct = {r.clock_hz for r in program.resources}
    if len(distinct) == 1:
        return cycles_to_ps_array(cycles, distinct.pop())
    clocks = np.array([r.clock_hz for r in program.resources], dtype=np.int64)[program.resource]
    out = np.zeros_like(cycles)
    for clock_hz in distinct:
        mine = clocks == clock_hz
        if mine.all():
            return cycles_to_ps_array(cycles, clock_hz)
        out[..., mine] = cycles_to_ps_array(cycles[..., mine], clock_hz)
    return out


CLOCK_COLUMNS = 4  # period as num / den picoseconds, and num as high * den + low


def clock_table(program: Program) -> NDArray[np.int64] | None:
    """What `fill_ps` needs of every resource's clock; None when a clock is beyond its 64 bits."""
    rows = []
    for resource in program.resources:
        common = math.gcd(PS_PER_S, resource.clock_hz)
        num, den = PS_PER_S // common, resource.clock_hz // common
        if den >= 2**32:
            return None
        rows.append((num, den, *divmod(num, den)))
    return np.array(rows, dtype=np.int64).reshape(-1, CLOCK_COLUMNS)


@jit
def _ps(cycles: int, num: int, den: int, high: int, low: int) -> int:
    """`cycles_to_ps`, by the route of `cycles_to_ps_array`; -1 beyond its range."""
    whole = cycles // den
    if whole >= 2**62 // num:
        return -1
    rest = cycles - whole * den
    product = np.uint64(rest) * np.uint64(low) + np.uint64(den // 2)
    return int(whole * num + rest * high + np.int64(product // np.uint64(den)))


@jit
def fill_ps(
    r: int,
    clocks: NDArray[np.int64],
    resource: NDArray[np.int32],
    busy_cycles: NDArray[np.int64],
    latency_cycles: NDArray[np.int64],
    part_cycles: NDArray[np.int64],
    busy_ps: NDArray[np.int64],
    latency_ps: NDArray[np.int64],
    parts_ps: NDArray[np.int64],
) -> bool:
    """Durations of one program into row r of [R, T], its parts into [P, R, T]; False: out of range.

    Rounding the running sum of the parts, not each part, makes a task's parts sum to its busy time.
    """
    for i in range(len(resource)):
        num, den, high, low = clocks[resource[i]]
        latency_ps[r, i] = _ps(latency_cycles[i], num, den, high, low)
        busy_ps[r, i] = _ps(busy_cycles[i], num, den, high, low)
        if latency_ps[r, i] < 0 or busy_ps[r, i] < 0:
            return False
        sum_cycles, before = 0, 0
        for p in range(part_cycles.shape[1]):
            sum_cycles += part_cycles[i, p]
            edge = _ps(sum_cycles, num, den, high, low)
            parts_ps[p, r, i] = edge - before
            before = edge
    return True


def run_static(program: Program) -> Timeline:
    """Serve the program in order: exact starts, ends and causes."""
    busy, latency = durations_ps(program)
    return serve(program, busy, latency)


def serve(program: Program, busy_ps: NDArray[np.int64], latency_ps: NDArray[np.int64]) -> Timeline:
    """`run_static` with other durations in place of the program's own (what-if replays)."""
    shape = (1, program.tasks)
    release = np.zeros(program.tasks, np.int64) if program.release_ps is None else program.release_ps
    start = np.empty(shape, np.int64)
    cause = np.empty(shape, np.int8)
    cause_task = np.empty(shape, np.int32)
    serve_rows(
        program.resource,
        len(program.resources),
        program.dep_start,
        program.dep_index,
        busy_ps.reshape(shape),
        latency_ps.reshape(shape),
        release.reshape(shape),
        start,
        cause_task,
        cause,
    )
    return Timeline(start[0], start[0] + latency_ps, start[0] + busy_ps, cause[0], cause_task[0])


def critical_path(timeline: Timeline) -> CriticalPath:
    """The chain of causes that ends at the last end; advances sum to `timeline.total_ps` exactly.

    A release time that holds the first task is part of that task's advance.
    """
    tasks = np.empty(len(timeline.start_ps), np.int32)
    advance = np.empty(len(timeline.start_ps), np.int64)
    length = walk_path(
        timeline.start_ps,
        timeline.end_ps - timeline.start_ps,
        timeline.cause_task,
        tasks,
        advance,
    )
    return CriticalPath(tasks[len(tasks) - length :], advance[len(tasks) - length :])
