"""Host unit and channels together, run after run, with the refresh phase carried on.

Tasks are served in program order, each on its resource, after its dependencies (strictly serial: also after
the task before it, as PIM-GPT's simulator issues instructions). A channel task starts at that clock and its
length is what the DRAM kernel says, refreshes included, so its time depends on when it starts; that is why
this target does not price tasks one by one. All clocks are channel clocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.hw_targets.common.dram.channel_kernel import (
    OPEN_CYCLES,
    Place,
    begin,
    finish,
    run_program,
)
from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Schedule(NamedTuple):
    """T tasks of one run and K classes of tasks; a class may have another value in every run."""

    cls: NDArray[np.int32]  # [T] class of a task
    node: NDArray[np.int32]  # [T]
    dep_start: NDArray[np.int64]  # [T + 1]
    dep_index: NDArray[np.int32]
    value: NDArray[np.int32]  # [R, K] index into the steps below
    serial: bool


class Steps(NamedTuple):
    """Distinct steps: a host step has `last == first`."""

    program: NDArray[np.int64]  # rows of all programs
    steady: NDArray[np.int64]  # [loops, 2, state] filled while running
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    host: NDArray[np.int64]  # duration of a host step
    weight: NDArray[np.float64]  # channels' worth of commands
    sram: NDArray[np.int64]
    macs: NDArray[np.int64]


class Costs(NamedTuple):
    """Per command of one channel."""

    energy: NDArray[np.float64]  # [C, components]
    open_pj: float
    background: int  # component index
    nbytes: NDArray[np.int64]  # [C, levels]


class Totals(NamedTuple):
    """Sums in channel clocks; per run, per node, and (for one run) per task."""

    start: NDArray[np.int64]  # [R + 1] run boundaries
    part: NDArray[np.int64]  # [R, P]
    energy: NDArray[np.float64]  # [R, components]
    nbytes: NDArray[np.int64]  # [R, levels]
    busy: NDArray[np.int64]  # [R, 2]
    macs: NDArray[np.int64]  # [R]
    counts: NDArray[np.int64]  # [R, C] commands of the busiest channel
    node_path: NDArray[np.int64]  # [N]
    node_busy: NDArray[np.int64]
    node_energy: NDArray[np.float64]
    node_bytes: NDArray[np.int64]
    node_macs: NDArray[np.int64]
    node_part: NDArray[np.int64]  # [N, P]
    task_start: NDArray[np.int64]  # [T]
    task_part: NDArray[np.int64]  # [T, P]
    task_energy: NDArray[np.float64]  # [T, components]
    task_bytes: NDArray[np.int64]  # [T, levels]


@jit
def earliest_start(
    t: int, now: int, previous: int, plan: Schedule, end: NDArray[np.int64]
) -> tuple[int, int]:
    """Start of task t and the task it waited for (-1: the run's start)."""
    start, why = now, -1
    for d in range(plan.dep_start[t], plan.dep_start[t + 1]):
        other = plan.dep_index[d]
        if end[other] > start:
            start, why = end[other], other
    if plan.serial and t > 0 and end[t - 1] > start:
        start, why = end[t - 1], t - 1
    if previous >= 0 and end[previous] > start:
        start, why = end[previous], previous
    return start, why


@jit
def run_channel_task(
    t: int,
    r: int,
    step: int,
    steps: Steps,
    costs: Costs,
    drain: NDArray[np.int64],
    m: NDArray[np.int64],
    saved: NDArray[np.int64],
    loops: NDArray[np.int64],
    o: Place,
    scratch: NDArray[np.int64],
    out: Totals,
) -> int:
    """Run one program from the task's start; its parts, energy and bytes; returns its end."""
    for c in range(o.commands):
        scratch[c] = m[o.counts_at + c]
    for p in range(o.parts):
        out.task_part[t, p] = -m[o.parts_at + p]
    opened = m[OPEN_CYCLES]
    begin(out.task_start[t], m, o)
    run_program(steps.program, steps.first[step], steps.last[step], m, saved, loops, steps.steady, o)
    end = finish(drain, m, o)
    for p in range(o.parts):
        out.task_part[t, p] += m[o.parts_at + p]
    weight = steps.weight[step]
    for c in range(o.commands):
        n = m[o.counts_at + c] - scratch[c]
        if n > 0:
            out.counts[r, c] += n
            for k in range(costs.energy.shape[1]):
                out.task_energy[t, k] += n * weight * costs.energy[c, k]
            for k in range(costs.nbytes.shape[1]):
                out.task_bytes[t, k] += int(np.rint(n * weight * costs.nbytes[c, k]))
    out.task_energy[t, costs.background] += (m[OPEN_CYCLES] - opened) * weight * costs.open_pj
    return end


@jit
def add_task(t: int, r: int, node: int, busy: int, resource: int, macs: int, out: Totals) -> None:
    """Add a finished task to the sums of its run and its node."""
    out.busy[r, resource] += busy
    out.macs[r] += macs
    out.node_macs[node] += macs
    out.node_busy[node] += busy
    for p in range(out.task_part.shape[1]):
        out.node_part[node, p] += out.task_part[t, p]
    for k in range(out.task_energy.shape[1]):
        out.energy[r, k] += out.task_energy[t, k]
        out.node_energy[node] += out.task_energy[t, k]
    for k in range(out.task_bytes.shape[1]):
        out.nbytes[r, k] += out.task_bytes[t, k]
    out.node_bytes[node] += out.task_bytes[t, out.task_bytes.shape[1] - 1]


@jit
def clear_task(t: int, out: Totals) -> None:
    """Zero the columns of a task (loops: slices take seconds to compile)."""
    for p in range(out.task_part.shape[1]):
        out.task_part[t, p] = 0
    for k in range(out.task_energy.shape[1]):
        out.task_energy[t, k] = 0.0
    for k in range(out.task_bytes.shape[1]):
        out.task_bytes[t, k] = 0


@jit
def walk_path(r: int, plan: Schedule, end: NDArray[np.int64], cause: NDArray[np.int32], out: Totals) -> None:
    """Add the critical path of a run, from its last end back."""
    last = -1
    for t in range(len(end)):
        if last < 0 or end[t] > end[last]:
            last = t
    while last >= 0:
        for p in range(out.task_part.shape[1]):
            out.part[r, p] += out.task_part[last, p]
        out.node_path[plan.node[last]] += end[last] - out.task_start[last]
        last = cause[last]


@jit
def serve(
    plan: Schedule,
    steps: Steps,
    costs: Costs,
    drain: NDArray[np.int64],
    m: NDArray[np.int64],
    saved: NDArray[np.int64],
    loops: NDArray[np.int64],
    o: Place,
    out: Totals,
) -> None:
    """Run all runs; fills `out`."""
    tasks, host_part = len(plan.cls), out.task_part.shape[1] - 1
    end = np.zeros(tasks, np.int64)
    cause = np.zeros(tasks, np.int32)
    scratch = np.zeros(o.commands, np.int64)
    latest = np.zeros(2, np.int64)  # last task of the host and of the channels
    for r in range(plan.value.shape[0]):
        now = out.start[r]
        latest[0] = latest[1] = -1
        out.start[r + 1] = now
        for t in range(tasks):
            step = plan.value[r, plan.cls[t]]
            resource = 1 if steps.last[step] > steps.first[step] else 0
            out.task_start[t], cause[t] = earliest_start(t, now, latest[resource], plan, end)
            latest[resource] = t
            clear_task(t, out)
            if resource == 1:
                end[t] = run_channel_task(t, r, step, steps, costs, drain, m, saved, loops, o, scratch, out)
            else:
                end[t] = out.task_start[t] + steps.host[step]
                out.task_part[t, host_part] = steps.host[step]
                out.task_bytes[t, 0] = steps.sram[step]
            add_task(t, r, plan.node[t], end[t] - out.task_start[t], resource, steps.macs[step], out)
            out.start[r + 1] = max(out.start[r + 1], end[t])
        walk_path(r, plan, end, cause, out)
