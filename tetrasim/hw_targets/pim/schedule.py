"""Item lists to schedules: tasks, their dependencies, and which distinct step each runs in which run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from tetrasim.hw_targets.common.dram.program import Instruction, Op, encode, loops_of
from tetrasim.hw_targets.pim.cosim import Costs, Schedule, Steps, Totals, serve
from tetrasim.hw_targets.pim.machine import COMPONENTS, LEVELS, PimMachine
from tetrasim.hw_targets.pim.parts import PART_NAMES
from tetrasim.hw_targets.pim.steps import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule with its distinct steps; `kinds` and `on_channel` are per task."""

    schedule: Schedule
    steps: tuple[Step, ...]
    task_steps: tuple[int, ...]  # step of every task in the first run


def build_plan(
    node_steps: Sequence[Sequence[Sequence[Step]]],
    predecessors: Sequence[Sequence[int]],
    node_class: Sequence[int],
    serial: bool,
) -> Plan:
    """Join steps along the graph's edges.

    Args:
        node_steps: per node class, per run, the steps of the node.
        predecessors: per node, the nodes it waits for.
        node_class: class of every node.
    """
    runs = len(node_steps[0]) if node_steps else 1
    node_steps = [_padded(by_run) for by_run in node_steps]
    ids: dict[Step, int] = {}
    columns: list[list[int]] = []
    for by_run in node_steps:
        columns += [[ids.setdefault(s[j], len(ids)) for s in by_run] for j in range(len(by_run[0]))]
    value = np.array(columns, dtype=np.int32).T if columns else np.zeros((runs, 0), dtype=np.int32)
    ahead = tuple(tuple(step.ahead for step in by_run[0]) for by_run in node_steps)
    wiring = _wiring(ahead, tuple(map(tuple, predecessors)), tuple(node_class))
    schedule = Schedule(*wiring, np.ascontiguousarray(value), serial)
    return Plan(schedule, tuple(ids), tuple(value[0, wiring[0]].tolist()))


def _padded(by_run: Sequence[Sequence[Step]]) -> Sequence[Sequence[Step]]:
    """As many steps in every run: a tensor that grows beyond the SRAM has more than it had before."""
    longest = max(map(len, by_run))
    if all(len(steps) == longest for steps in by_run):
        return by_run
    return [(*steps, *(Step("none"),) * (longest - len(steps))) for steps in by_run]


@lru_cache(maxsize=64)
def _wiring(
    ahead: tuple[tuple[bool, ...], ...],
    predecessors: tuple[tuple[int, ...], ...],
    node_class: tuple[int, ...],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Column, node and dependencies (CSR) of every task: a matter of the graph, of how many steps the nodes
    of a class have and which may go ahead, whatever the steps cost. Shared by plans, never written."""
    class_column = [0, *accumulate(map(len, ahead))]
    cls: list[int] = []
    nodes: list[int] = []
    deps: list[int] = []
    dep_start = [0]
    outputs: list[tuple[int, ...]] = []
    for node, of_class in enumerate(node_class):
        inputs = tuple(sorted({t for p in predecessors[node] for t in outputs[p]}))
        waits = inputs  # of the next step that is not ahead
        for j, early in enumerate(ahead[of_class]):
            task = len(cls)
            deps += () if early else waits
            waits = (*waits, task) if early else (task,)
            dep_start.append(len(deps))
            cls.append(class_column[of_class] + j)
            nodes.append(node)
        outputs.append(waits)
    return (
        np.array(cls, dtype=np.int32),
        np.array(nodes, dtype=np.int32),
        np.array(dep_start, dtype=np.int64),
        np.array(deps, dtype=np.int32),
    )


@lru_cache(maxsize=1 << 12)
def _encoded(instructions: tuple[Instruction, ...], names: tuple[str, ...]) -> tuple[NDArray[np.int64], int]:
    """A step's program and its number of loops: the same wherever only clocks or powers differ. Never
    written by those who get it."""
    program = encode(instructions, names.index)
    return program, loops_of(program)


@dataclass(frozen=True, eq=False)
class _Compiled:
    """The distinct steps of a plan as arrays: what clocks and powers do not change. Shared, never written."""

    program: NDArray[np.int64]
    loops: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    host_cycles: tuple[int, ...]
    work_channels: NDArray[np.int64]
    max_channels: NDArray[np.int64]
    sram: NDArray[np.int64]
    macs: NDArray[np.int64]


@lru_cache(maxsize=16)
def _compiled(plan: Plan, names: tuple[str, ...]) -> _Compiled:
    rows: list[NDArray[np.int64]] = []
    first, last, at, loops = [], [], 0, 0
    for step in plan.steps:
        program, inside = _encoded(step.instructions, names)
        if inside:  # loops are numbered over all steps
            program = program.copy()
            program[program[:, 0] == Op.END, 1] += loops
            loops += inside
        rows.append(program)
        first.append(at)
        at += len(program)
        last.append(at)

    def ints(values: Sequence[int]) -> NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    return _Compiled(
        np.concatenate(rows) if rows else np.zeros((0, 4), dtype=np.int64),
        loops,
        ints(first),
        ints(last),
        tuple(s.host_cycles for s in plan.steps),
        ints([s.work_channels for s in plan.steps]),
        ints([max(s.max_channels, 1) for s in plan.steps]),
        ints([s.sram_bytes for s in plan.steps]),
        ints([s.macs for s in plan.steps]),
    )


def compile_steps(plan: Plan, on: PimMachine) -> Steps:
    """Arrays of the distinct steps on a machine."""
    known = _compiled(plan, on.channel.names)
    return Steps(
        known.program,
        on.channel.steady(known.loops),
        known.first,
        known.last,
        np.array([on.host_clocks(c) if c else 0 for c in known.host_cycles], dtype=np.int64),
        on.config.total_channels * known.work_channels / known.max_channels,
        known.sram,
        known.macs,
    )


def run_plan(plan: Plan, on: PimMachine, nodes: int) -> Totals:
    """Simulate all runs of a plan from an idle system at clock 0."""
    runs, tasks = plan.schedule.value.shape[0], len(plan.schedule.cls)
    parts, components, levels = len(PART_NAMES), len(COMPONENTS), len(LEVELS)
    commands = len(on.channel.names)

    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, dtype=np.int64)

    out = Totals(
        start=zeros(runs + 1),
        part=zeros(runs, parts),
        energy=np.zeros((runs, components)),
        nbytes=zeros(runs, levels),
        busy=zeros(runs, 2),
        macs=zeros(runs),
        counts=zeros(runs, commands),
        node_path=zeros(nodes),
        node_busy=zeros(nodes),
        node_energy=np.zeros(nodes),
        node_bytes=zeros(nodes),
        node_macs=zeros(nodes),
        node_part=zeros(nodes, parts),
        task_start=zeros(tasks),
        task_part=zeros(tasks, parts),
        task_energy=np.zeros((tasks, components)),
        task_bytes=zeros(tasks, levels),
    )
    costs = Costs(on.energy_pj, on.open_pj, COMPONENTS.index("background"), on.nbytes)
    running = on.channel.start()
    serve(
        plan.schedule, compile_steps(plan, on), costs, on.channel.drain, running.arena, running.saved,
        running.loops, running.place, out,
    )  # fmt: skip
    return out
