"""Many runs of one phase: every step of a generation at its own context length, added up exactly.

Step graphs at different contexts become programs of the same structure (tasks, resources, dependencies) with
other durations. Such programs are stacked and served by one kernel call, row by row; a change of structure
(another tile count, another channel in use) just starts a new stack. Sums run in task order inside the
kernel, so the totals do not depend on how runs were stacked, bit for bit. What a kernel of several nodes
costs goes to each of them by its share (`program.Sharing`), rounded so that the shares sum to the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tetrasim.sim.energy.static import add_static_energy
from tetrasim.sim.engine.jit import jit
from tetrasim.sim.engine.program import PIPELINE_PART, RELEASE_PART, SHARED, Program, ProgramError, Sharing
from tetrasim.sim.engine.static import clock_table, fill_ps, run_static, serve_rows, to_ps
from tetrasim.sim.engine.timeline import RunTotals, Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tetrasim.sim.ir.family import GraphFamily
    from tetrasim.sim.ir.graph import Graph

__all__ = ["add_static_energy", "simulate_one", "simulate_runs", "total_runs"]

_Number = TypeVar("_Number", np.int64, np.float64)
_Index = TypeVar("_Index", np.int32, np.int64)
MAX_STACKED = 1 << 22  # elements of the largest stacked column: 32 MB


def simulate_one(lower: Callable[[Graph], Program], graph: Graph) -> tuple[Program, Timeline]:
    """Lower and serve one graph: for traces, replays and golden texts."""
    program = lower(graph)
    return program, run_static(program)


def simulate_runs(
    lower: Callable[[Graph], Program], family: GraphFamily, contexts: Sequence[int]
) -> RunTotals:
    """Lower and serve the family at every context.

    Args:
        lower: graph to program, at one configuration.
        family: one graph (`constant_family`) or the step graph over context lengths.
        contexts: one run per entry, in order; at least one.
    """
    return total_runs(
        (lower(family.at(context)) for context in contexts), len(contexts), len(family.base.nodes)
    )


def total_runs(programs: Iterator[Program], runs: int, nodes: int) -> RunTotals:
    """Serve `runs` programs whose tasks belong to `nodes` graph nodes, and add them up.

    Raises:
        ProgramError: no program, or programs of different machines.
    """
    first = next(programs, None)
    if first is None:
        raise ProgramError("a phase without a run has no totals")
    totals = _empty_totals(first, runs, nodes)
    outside = np.zeros(1, np.int64)
    stack, row = [first], 0
    for program in programs:
        columns = max(len(program.part_names), 1)
        full = (len(stack) + 1) * program.tasks * columns > MAX_STACKED
        if full or not _same_structure(stack[0], program):
            row = _serve_stack(stack, totals, outside, row)
            stack = []
        stack.append(program)
    _serve_stack(stack, totals, outside, row)
    return replace(totals, outside_ps=int(outside[0]))


def _empty_totals(program: Program, runs: int, nodes: int) -> RunTotals:
    parts = (*program.part_names, PIPELINE_PART, RELEASE_PART)
    components = tuple(dict.fromkeys((*program.component_names, *(n for n, _ in program.static_power_w))))

    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, np.int64)

    return RunTotals(
        total_ps=zeros(runs),
        part_names=parts,
        part_ps=zeros(runs, len(parts)),
        component_names=components,
        energy_pj=np.zeros((runs, len(components))),
        level_names=program.level_names,
        level_bytes=zeros(runs, len(program.level_names)),
        resource_names=tuple(r.name for r in program.resources),
        busy_ps=zeros(runs, len(program.resources)),
        macs=zeros(runs),
        tasks=zeros(runs),
        node_ps=zeros(nodes),
        node_busy_ps=zeros(nodes),
        node_energy_pj=np.zeros(nodes),
        node_bytes=zeros(nodes),
        node_macs=zeros(nodes),
        node_part_ps=zeros(nodes, len(parts)),
    )


def _same_structure(a: Program, b: Program) -> bool:
    same_machine = (
        a.part_names == b.part_names
        and a.level_names == b.level_names
        and a.component_names == b.component_names
        and a.resources == b.resources
    )
    if not same_machine:
        raise ProgramError("the runs of one phase use different machines")
    return a is b or (
        a.static_power_w == b.static_power_w
        and _same(a.resource, b.resource)
        and _same(a.node, b.node)
        and _same(a.dep_start, b.dep_start)
        and _same(a.dep_index, b.dep_index)
        and _same_sharing(a.sharing, b.sharing)
    )


def _same_sharing(a: Sharing | None, b: Sharing | None) -> bool:
    """Whether the same nodes share; their shares may differ."""
    if a is None or b is None:
        return a is b
    return a is b or (_same(a.start, b.start) and _same(a.node, b.node))


def _same(a: NDArray[_Index], b: NDArray[_Index]) -> bool:
    return a is b or np.array_equal(a, b)


def _serve_stack(stack: Sequence[Program], totals: RunTotals, outside: NDArray[np.int64], row: int) -> int:
    """Serve programs of one structure into rows `row`, `row + 1`, … of the totals; returns the next row."""
    first, rows, tasks = stack[0], len(stack), stack[0].tasks
    busy_ps, latency_ps, parts_ps = _times(stack)
    release = np.zeros((rows, tasks), np.int64)
    for r, program in enumerate(stack):
        if program.release_ps is not None:
            release[r] = program.release_ps
    start = np.empty((rows, tasks), np.int64)
    cause = np.empty((rows, tasks), np.int8)
    cause_task = np.empty((rows, tasks), np.int32)
    served = (busy_ps, latency_ps)
    deps = (first.dep_start, first.dep_index)
    serve_rows(first.resource, len(first.resources), *deps, *served, release, start, cause_task, cause)
    here = slice(row, row + rows)
    hosts, members, edges = _shares(stack, len(totals.node_ps))
    _add_paths(
        start, busy_ps, latency_ps, cause, cause_task, parts_ps, first.node, hosts, members, edges,
        totals.total_ps[here], totals.part_ps[here], totals.node_ps[:, None], outside,
    )  # fmt: skip
    _add_tasks(
        first.node, first.resource, hosts, members, edges, busy_ps, parts_ps,
        _stacked([p.energy_pj for p in stack]), _stacked([p.level_bytes for p in stack]),
        _stacked([p.macs for p in stack]),
        totals.energy_pj[here], totals.level_bytes[here], totals.busy_ps[here], totals.node_busy_ps[:, None],
        totals.node_energy_pj, totals.node_bytes[:, None], totals.node_macs[:, None], totals.node_part_ps,
    )  # fmt: skip
    for r, program in enumerate(stack, start=row):
        totals.macs[r] = program.macs.sum()
        totals.tasks[r] = tasks
    add_static_energy(
        first.static_power_w, totals.component_names, totals.total_ps[here], totals.energy_pj[here]
    )
    return row + rows


def _stacked(columns: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    return columns[0][None] if len(columns) == 1 else np.stack(columns)


def _shares(
    stack: Sequence[Program], nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Where each host's entries start [N+1], their nodes [M] and running shares [R, 4, M]."""
    sharings = [p.sharing for p in stack if p.sharing is not None]
    if not sharings:
        return np.zeros(nodes + 1, np.int64), np.zeros(0, np.int32), np.zeros((len(stack), len(SHARED), 0))
    return sharings[0].start, sharings[0].node, _stacked([s.edges for s in sharings])


def _times(stack: Sequence[Program]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Busy times and latencies [R, T] and parts [P, R, T] in picoseconds."""
    first, rows, tasks = stack[0], len(stack), stack[0].tasks
    busy_ps, latency_ps = np.empty((rows, tasks), np.int64), np.empty((rows, tasks), np.int64)
    parts_ps = np.empty((len(first.part_names), rows, tasks), np.int64)
    clocks = clock_table(first)
    if clocks is not None and all(
        fill_ps(
            r, clocks, p.resource, p.busy_cycles, p.latency_cycles, p.part_cycles,
            busy_ps, latency_ps, parts_ps,
        )
        for r, p in enumerate(stack)
    ):  # fmt: skip
        return busy_ps, latency_ps, parts_ps
    # Clocks of uncommon digits and times beyond the range, which is an error with a text there.
    edges = np.cumsum(np.stack([p.part_cycles.T for p in stack], axis=1), axis=0)
    busy_ps = to_ps(first, np.stack([p.busy_cycles for p in stack]))
    latency_ps = to_ps(first, np.stack([p.latency_cycles for p in stack]))
    return busy_ps, latency_ps, np.diff(to_ps(first, edges), axis=0, prepend=0)


@jit
def _give(
    amount: int,
    host: int,
    row: int,
    kind: int,
    hosts: NDArray[np.int64],
    members: NDArray[np.int32],
    edges: NDArray[np.float64],
    out: NDArray[np.int64],
    column: int,
) -> None:
    """Add an amount of a host's tasks to the nodes that share it, by their running shares of that kind, in a
    column of `out` [N, …]."""
    given = np.int64(0)
    for j in range(hosts[host], hosts[host + 1]):
        until = np.int64(np.rint(amount * edges[row, kind, j]))
        out[members[j], column] += until - given
        given = until
    if hosts[host] == hosts[host + 1]:
        out[host, column] += amount


@jit
def _add_paths(
    start: NDArray[np.int64],
    busy_ps: NDArray[np.int64],
    latency_ps: NDArray[np.int64],
    cause: NDArray[np.int8],
    cause_task: NDArray[np.int32],
    parts_ps: NDArray[np.int64],
    node: NDArray[np.int32],
    hosts: NDArray[np.int64],
    members: NDArray[np.int32],
    edges: NDArray[np.float64],
    total_ps: NDArray[np.int64],
    part_ps: NDArray[np.int64],
    node_ps: NDArray[np.int64],
    outside_ps: NDArray[np.int64],
) -> None:
    """Walk each row's critical path; the last two columns of `part_ps` are pipeline latency and release."""
    rows, tasks = busy_ps.shape
    parts = parts_ps.shape[0]
    for r in range(rows):
        here, total = -1, np.int64(-1)
        for i in range(tasks):
            if start[r, i] + latency_ps[r, i] > total:
                here, total = i, start[r, i] + latency_ps[r, i]
        if here < 0:
            continue
        total_ps[r] = total
        until = total
        for_resource = False
        while here >= 0:
            for p in range(parts):
                part_ps[r, p] += parts_ps[p, r, here]
            if not for_resource:
                part_ps[r, parts] += latency_ps[r, here] - busy_ps[r, here]
            advance = until - start[r, here]
            until = start[r, here]
            for_resource = cause[r, here] == 2
            after = cause_task[r, here]
            if after < 0:
                part_ps[r, parts + 1] += until
                advance += until
            if node[here] >= 0:
                _give(advance, node[here], r, 0, hosts, members, edges, node_ps, 0)
            else:
                outside_ps[0] += advance
            here = after


@jit
def _add_tasks(
    node: NDArray[np.int32],
    resource: NDArray[np.int32],
    hosts: NDArray[np.int64],
    members: NDArray[np.int32],
    edges: NDArray[np.float64],
    busy_ps: NDArray[np.int64],
    parts_ps: NDArray[np.int64],
    task_energy_pj: NDArray[np.float64],
    task_bytes: NDArray[np.int64],
    task_macs: NDArray[np.int64],
    energy_pj: NDArray[np.float64],
    level_bytes: NDArray[np.int64],
    resource_ps: NDArray[np.int64],
    node_busy_ps: NDArray[np.int64],
    node_energy_pj: NDArray[np.float64],
    node_bytes: NDArray[np.int64],
    node_macs: NDArray[np.int64],
    node_part_ps: NDArray[np.int64],
) -> None:
    """Sum every task, on the critical path or not, in task order."""
    parts, rows, tasks = parts_ps.shape
    components, levels = task_energy_pj.shape[2], task_bytes.shape[2]
    for r in range(rows):
        for i in range(tasks):
            n, own_pj = node[i], 0.0
            for c in range(components):
                energy_pj[r, c] += task_energy_pj[r, i, c]
                own_pj += task_energy_pj[r, i, c]
            for level in range(levels):
                level_bytes[r, level] += task_bytes[r, i, level]
            resource_ps[r, resource[i]] += busy_ps[r, i]
            if n < 0:
                continue
            _give(busy_ps[r, i], n, r, 0, hosts, members, edges, node_busy_ps, 0)
            for p in range(parts):
                if parts_ps[p, r, i]:
                    _give(parts_ps[p, r, i], n, r, 0, hosts, members, edges, node_part_ps, p)
            _give(task_macs[r, i], n, r, 3, hosts, members, edges, node_macs, 0)
            if levels > 0:
                _give(task_bytes[r, i, levels - 1], n, r, 1, hosts, members, edges, node_bytes, 0)
            given = 0.0
            for j in range(hosts[n], hosts[n + 1]):
                node_energy_pj[members[j]] += own_pj * (edges[r, 2, j] - given)
                given = edges[r, 2, j]
            if hosts[n] == hosts[n + 1]:
                node_energy_pj[n] += own_pj
