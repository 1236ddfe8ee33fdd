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
    State,
    Wires,
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
    node_part: NDArray[np.int64]  # [N, P]
    task_start: NDArray[np.int64]  # [T]
    task_part: NDArray[np.int64]  # [T, P]
    task_energy: NDArray[np.float64]  # [T, components]
    task_bytes: NDArray[np.int64]  # [T, levels]


@jit
def serve(
    plan: Schedule,
    steps: Steps,
    costs: Costs,
    drain: NDArray[np.int64],
    w: Wires,
    s: State,
    saved: State,
    out: Totals,
) -> None:
    """Run all runs; fills `out`."""
    tasks, parts, commands = len(plan.cls), out.task_part.shape[1], len(s.counts)
    components, levels = costs.energy.shape[1], costs.nbytes.shape[1]
    end = np.zeros(tasks, np.int64)
    cause = np.zeros(tasks, np.int32)
    before_counts = np.zeros(commands, np.int64)
    before_parts = np.zeros(parts, np.int64)
    host_part = parts - 1
    now = out.start[0]
    for r in range(plan.value.shape[0]):
        host_task, channel_task = -1, -1
        for t in range(tasks):
            step = plan.value[r, plan.cls[t]]
            start, why = now, -1
            for d in range(plan.dep_start[t], plan.dep_start[t + 1]):
                other = plan.dep_index[d]
                if end[other] > start:
                    start, why = end[other], other
            if plan.serial and t > 0 and end[t - 1] > start:
                start, why = end[t - 1], t - 1
            on_channel = steps.last[step] > steps.first[step]
            previous = channel_task if on_channel else host_task
            if previous >= 0 and end[previous] > start:
                start, why = end[previous], previous
            cause[t] = why
            out.task_start[t] = start
            for p in range(parts):
                out.task_part[t, p] = 0
            for k in range(components):
                out.task_energy[t, k] = 0.0
            for k in range(levels):
                out.task_bytes[t, k] = 0
            if on_channel:
                channel_task = t
                before_counts[:] = s.counts
                opened = s.vector[OPEN_CYCLES]
                for p in range(parts):
                    before_parts[p] = s.parts[p]
                begin(start, w, s)
                run_program(steps.program, steps.first[step], steps.last[step], w, s, saved)
                end[t] = finish(drain, s)
                for p in range(parts):
                    out.task_part[t, p] = s.parts[p] - before_parts[p]
                weight = steps.weight[step]
                for c in range(commands):
                    n = s.counts[c] - before_counts[c]
                    if n > 0:
                        out.counts[r, c] += n
                        for k in range(components):
                            out.task_energy[t, k] += n * weight * costs.energy[c, k]
                        for k in range(levels):
                            out.task_bytes[t, k] += int(round(n * weight * costs.nbytes[c, k]))
                out.task_energy[t, costs.background] += (
                    (s.vector[OPEN_CYCLES] - opened) * weight * costs.open_pj
                )
            else:
                host_task = t
                end[t] = start + steps.host[step]
                out.task_part[t, host_part] = steps.host[step]
                out.task_bytes[t, 0] = steps.sram[step]
            busy = end[t] - start
            node = plan.node[t]
            out.busy[r, 1 if on_channel else 0] += busy
            out.macs[r] += steps.macs[step]
            out.node_busy[node] += busy
            for p in range(parts):
                out.node_part[node, p] += out.task_part[t, p]
            for k in range(components):
                out.energy[r, k] += out.task_energy[t, k]
                out.node_energy[node] += out.task_energy[t, k]
            for k in range(levels):
                out.nbytes[r, k] += out.task_bytes[t, k]
            out.node_bytes[node] += out.task_bytes[t, levels - 1]
        last = -1
        for t in range(tasks):
            if last < 0 or end[t] > end[last]:
                last = t
        finished = end[last] if last >= 0 else now
        while last >= 0:
            for p in range(parts):
                out.part[r, p] += out.task_part[last, p]
            out.node_path[plan.node[last]] += end[last] - out.task_start[last]
            last = cause[last]
        now = max(now, finished)
        out.start[r + 1] = now
